"""Descriptions of one call that differ by little: prepared by way of each other, and the same as each alone."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinor.jobs import service
from spinor.jobs.description import BadDescription, normalised
from spinor.jobs.models import JobSpec
from spinor.jobs.submission import store
from spinor.jobs.submission.preparing import normalised_all

from .workbench import Workbench, echo

NAMES = st.sampled_from(["", " ", "a", " b ", "tab\t", "x" * 255, "x" * 256, "ä", "{index}"])
ARGUMENTS = st.lists(
    st.sampled_from(["a", "", "{index}", "{nope}", "{{a}}", "\0", "\ud800", "ä", 1, True, 1.0]), max_size=3
)
ENVIRONMENTS = st.sampled_from([{}, {"A": 1}, {"A": True}, {"A": 1.0}, {"A": "1"}, {"B": "\ud800"}])
SPECS = st.builds(
    lambda name, arguments, environment: JobSpec(
        executable="/bin/true", name=name, arguments=arguments, environment=environment
    ),
    NAMES, ARGUMENTS, ENVIRONMENTS,
)  # fmt: skip


def outcome(make: Any) -> Any:
    try:
        return make()
    except BadDescription as error:
        return error.facts["field"]


@given(st.lists(SPECS, min_size=2, max_size=4))
def test_together_they_are_what_each_is_alone(specs: list[JobSpec]) -> None:
    def alone() -> list[JobSpec]:
        plain = []
        for n, spec in enumerate(specs):
            try:
                plain.append(normalised(spec))
            except BadDescription as error:
                raise BadDescription("", field=f"specs[{n}].{error.facts['field']}") from None
        return plain

    assert outcome(lambda: [each.spec for each in normalised_all(specs)]) == outcome(alone)


def test_one_and_true_are_not_alike() -> None:
    plain = normalised_all([echo(environment={"A": 1}), echo(environment={"A": True})])
    assert [each.spec.environment for each in plain] == [{"A": "1"}, {"A": "true"}]
    assert [each.like for each in plain] == [0, 1]


def test_names_and_arguments_do_not_part_them() -> None:
    plain = normalised_all([echo(name=f"n{n}", arguments=[n]) for n in range(4)])
    assert [each.like for each in plain] == [0, 0, 0, 0]
    assert [(each.spec.name, each.spec.arguments) for each in plain] == [(f"n{n}", [str(n)]) for n in range(4)]


async def test_each_gets_the_queue_that_it_asks_for(bench: Workbench) -> None:
    specs = [echo(name=f"n{n}", cores=1 + n // 3, priority=n // 2, arguments=[str(n)]) for n in range(6)]
    await bench.submit(*specs)
    rows = await bench.rows(
        "SELECT a.name, a.spec, j.priority, coalesce((q.wants ->> 'cores')::integer, 1), w.priority "
        "FROM jobs.job j JOIN jobs.job_array a USING (array_id) JOIN jobs.task_queue q USING (task_queue_id) "
        "JOIN jobs.waiting w USING (job_id) ORDER BY j.job_id"
    )
    assert [(name, priority, cores, waits) for name, _, priority, cores, waits in rows] == [
        (spec.name, spec.priority, spec.cores, 9 - spec.priority) for spec in specs
    ]
    assert [msgspec.json.decode(spec)["arguments"] for _, spec, *_ in rows] == [[str(n)] for n in range(6)]


async def test_the_fault_of_a_later_one_names_it(bench: Workbench) -> None:
    with pytest.raises(BadDescription, match=r"specs\[2\]\.arguments\[0\]"):
        await bench.submit(echo(), echo(arguments=["b"]), echo(arguments=["{nope}"]))
    assert await bench.rows("SELECT count(*) FROM jobs.job") == [(0,)]


def test_which_jobs_stand_alone() -> None:
    assert service.stands_alone([echo(tags=["x"], cores=2)])
    assert not service.stands_alone([echo(), echo()])
    for names in (
        {"input_data": ["/astro/a"]}, {"input_query": "run > 1"}, {"site": "X"}, {"computing_elements": ["ce"]},
        {"parameters": {"a": [1]}}, {"input_sandboxes": [1]},
    ):  # fmt: skip
        assert not service.stands_alone([echo(**names)])


def test_the_driver_remembers_how_the_statement_is_sent() -> None:
    """It reads longer ones anew each time, which costs as much as the rest of a small submission's statement."""
    from psycopg._queries import MAX_CACHED_STATEMENT_LENGTH

    assert len(store.Q.insert_arrays) <= MAX_CACHED_STATEMENT_LENGTH
