"""Checks of every field of a description, table-driven: each fault names its field and the remedy."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinor.jobs.description import BadDescription, escaped, expanded, fill, normalised
from spinor.jobs.description.sets import check_set
from spinor.jobs.models import After, Condition, JobSpec, Notify, OutputData, Retries


def out(**fields: Any) -> list[OutputData]:
    return [OutputData(**{"path": "a", "lfn": "/v/a", "se": "S", **fields})]


FAULTS: list[tuple[dict[str, Any], str, str]] = [
    ({"job_group": "a\tb"}, "job_group", "U+0009"),
    ({"job_type": " "}, "job_type", "empty"),
    ({"input_data": ["a"]}, "input_data[0]", "begins with /"),
    ({"input_sandboxes": [1, 2**63]}, "input_sandboxes[1]", "no id"),
    ({"stdout": "../a"}, "stdout", "inside"),
    ({"stdout": "*.out"}, "stdout", "one file"),
    ({"stdout": "a", "stderr": "a"}, "stderr", "name another"),
    ({"output_data": out(se="")}, "output_data[0].se", "spinor se list"),
    ({"output_data": out(lfn="a")}, "output_data[0].lfn", "begins with /"),
    ({"output_data": out(failover=[""])}, "output_data[0].failover", "not a name"),
    ({"output_data": out(metadata={"a": float("inf")})}, "output_data[0].metadata.a", "a number"),
    ({"output_data": out(metadata={" ": 1})}, "output_data[0].metadata", "not a name"),
    ({"output_data": out(metadata={str(n): n for n in range(101)})}, "output_data[0].metadata", "100"),
    ({"parameters": {"a": [float("nan")]}}, "parameters.'a'[0]", "as text"),
    ({"parameters": {"a": ["\ud800"]}}, "parameters.'a'[0]", "surrogate"),
    ({"arguments": ["\ud800"]}, "arguments[0]", "surrogate"),
    ({"parameters": {"a": range(1_000_001)}}, "parameters", "1,000,000"),
    ({"cores": 4, "max_cores": 2}, "max_cores", "4 or more"),
    ({"whole_node": True, "max_cores": 2}, "max_cores", "leave it out"),
    ({"gpu_model": "A100"}, "gpu_model", "gpus: 1"),
    ({"gpu_memory_bytes": "1GB"}, "gpu_memory_bytes", "gpus: 1"),
    ({"gpu_memory_bytes": "x", "gpus": 1}, "gpu_memory_bytes", "2GB"),
    ({"cpu_work_hs23_s": float("inf")}, "cpu_work_hs23_s", "above 0"),
    ({"platform": "x86 64"}, "platform", "uname"),
    ({"container_image": "--privileged"}, "container_image", "registry"),
    ({"container_image": "a b"}, "container_image", "registry"),
    ({"container_image": "docker://me:secret@host/x"}, "container_image", "leave them out"),
    ({"sites": ["A"], "banned_sites": ["A"]}, "banned_sites", "take it out"),
    ({"banned_sites": [" "]}, "banned_sites", "not a name"),
    ({"computing_elements": ["a\nb"]}, "computing_elements", "not a name"),
    ({"labels": ["x" * 256]}, "labels", "not a name"),
    ({"tags": [str(n) for n in range(1001)]}, "tags", "1,000"),
    ({"deadline": datetime(2030, 1, 1)}, "deadline", "2030-01-01T00:00:00Z"),  # noqa: DTZ001
    ({"placement_wait_s": "soon"}, "placement_wait_s", "90m"),
    ({"stop_signal": "KILL"}, "stop_signal", "SIGTERM"),
    ({"stop_margin_s": "1h", "wall_s": 60}, "stop_margin_s", "shorter"),
    ({"retries": Retries(delay_s="x")}, "retries.delay_s", "90m"),
    ({"retries": Retries(memory_growth=float("nan"))}, "retries.memory_growth", "1 to 10"),
    ({"after": [After()]}, "after[0]", "exactly one"),
    ({"after": [After(job_id=1, name="a")]}, "after[0]", "both job_id and name"),
    ({"after": [After(job_id=0)]}, "after[0].job_id", "no id"),
    ({"after": [After(job_id=1, each=True)]}, "after[0].each", "array_id or name"),
    ({"notify": [Notify()]}, "notify[0]", "email, webhook or both"),
    ({"notify": [Notify(on=[], email="a@b.org")]}, "notify[0].on", "done, failed or ended"),
    *(
        ({"notify": [Notify(email=text)]}, "notify[0].email", "name@example.org")
        for text in ("a", "a@b", "@b.org", "a b@c.org", "a@b.org, c@d.org", "a@-b.org", "<a@b.org>", "a@b.org\nBcc: x")
    ),
    *(
        ({"notify": [Notify(webhook=text)]}, "notify[0].webhook", "https")
        for text in ("http://a.org", "ftp://a", "https://", "https:///x", "https://a:0/", "https://[x", "https://a:b/")
    ),
    ({"notify": [Notify(webhook="https://me:pw@a.org")]}, "notify[0].webhook", "path or the query"),
    ({"notify": [Notify(webhook="https://a.org/#b")]}, "notify[0].webhook", "never sent"),
    ({"notify": [Notify(webhook="https://a.org/\u00e9")]}, "notify[0].webhook", "%xx"),
    ({"notify": [Notify(webhook="https://a.org/" + "x" * 2048)]}, "notify[0].webhook", "2,048"),
]


@pytest.mark.parametrize(("fields", "field", "remedy"), FAULTS, ids=[str(fault[0])[:60] for fault in FAULTS])
def test_a_fault_names_its_field_and_the_remedy(fields: dict[str, Any], field: str, remedy: str) -> None:
    with pytest.raises(BadDescription) as caught:
        normalised(JobSpec(**{"executable": "x", **fields}))
    assert caught.value.facts["field"] == field, caught.value.message
    assert remedy in caught.value.message


def test_a_secret_in_a_webhook_is_not_repeated() -> None:
    with pytest.raises(BadDescription) as caught:
        normalised(JobSpec(executable="x", notify=[Notify(webhook="https://me:secret@a.org")]))
    assert "secret" not in caught.value.message


def test_one_way_to_say_each_thing() -> None:
    plain = normalised(
        JobSpec(
            executable="x", input_data=["LFN:/v/a", "/v/a"], stop_signal="usr1", stop_margin_s="1m", wall_s="1h",
            site="A", sites=["B", "A"], labels=["l", "l"], gpus=1, gpu_memory_bytes="1GB",
            output_data=[OutputData(path="*.x", lfn="lfn:/v/d", ses=["S", "T", "S"], failover=["T", "U"])],
            retries=Retries(delay_s="2m"), notify=[Notify(on=[Condition.DONE, Condition.DONE], email="a.b+c@d-e.org")],
            deadline=datetime(2030, 1, 1, tzinfo=UTC),
        )
    )  # fmt: skip
    assert (plain.input_data, plain.stop_signal, plain.stop_margin_s) == (["/v/a"], "SIGUSR1", 60)
    assert (plain.sites, plain.labels, plain.gpu_memory_bytes) == (["A", "B"], ["l"], 10**9)
    assert plain.output_data == [OutputData(path="*.x", lfn="/v/d/", se="S", ses=["T"], failover=["U"])]
    assert (plain.retries.delay_s, plain.notify[0].on) == (120, [Condition.DONE])
    assert normalised(plain) == plain


def test_a_short_job_keeps_most_of_its_time() -> None:
    assert normalised(JobSpec(executable="x", wall_s=8)).stop_margin_s == 4
    assert normalised(JobSpec(executable="x", wall_s=11)).stop_margin_s == 10


def test_metadata_keeps_the_kind_of_a_parameter() -> None:
    spec = normalised(JobSpec(executable="x", output_data=out(metadata={"run": "{run}", "t": "r{run}"}),
                              parameters={"run": [7]}))  # fmt: skip
    assert expanded(spec, {"run": 7}).output_data[0].metadata == {"run": 7, "t": "r7"}


@given(st.text(alphabet="{}$ab_1 ", max_size=30))
def test_escaped_text_is_given_back(text: str) -> None:
    assert fill(escaped(text), {"a": "no", "b": "no", "a_1": "no"}) == text


def chain(*names: str, **after: list[After]) -> list[JobSpec]:
    return [JobSpec(executable="x", name=name, after=after.get(name, [])) for name in names]


def test_a_set_may_wait_for_itself_in_any_order() -> None:
    check_set(chain("a", "b", "c", "d", a=[After(name="b")], b=[After(name="d")], c=[After(name="b")]))
    long = [JobSpec(executable="x", name=str(n), after=[After(name=str(n - 1))] if n else []) for n in range(5000)]
    check_set(long)
    check_set(list(reversed(long)))


@pytest.mark.parametrize(
    ("specs", "field", "fragment"),
    [
        (chain("a", "b", a=[After(name="bb")]), "specs[0].after[0].name", "did you mean 'b'?"),
        (chain("a", "b", "b", a=[After(name="b")]), "specs[0].after[0].name", "2 descriptions"),
        (chain("a", a=[After(name="a")]), "after", "'a' waits for 'a'"),
        (chain("a", "b", "c", a=[After(name="b")], b=[After(name="c")], c=[After(name="a")]), "specs[0].after",
         "'a' waits for 'b' waits for 'c' waits for 'a'"),
        (chain("x", "a", "b", x=[After(name="a")], a=[After(name="b")], b=[After(name="a")]), "specs[1].after",
         "'a' waits for 'b' waits for 'a'"),
        ([JobSpec(executable="x", name="a", parameters={"n": [1, 2]}), *chain("b", b=[After(name="a", each=True)])],
         "specs[1].after[0].each", "'b' has 1 jobs, 'a' has 2"),
    ],
    ids=["unknown", "twice", "itself", "circle", "circle behind", "sizes"],
)  # fmt: skip
def test_a_set_that_cannot_run_is_refused(specs: list[JobSpec], field: str, fragment: str) -> None:
    with pytest.raises(BadDescription) as caught:
        check_set(specs)
    assert caught.value.facts["field"] == field
    assert fragment in caught.value.message
