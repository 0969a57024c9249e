"""Single submissions of many clients, stored together: each gets its own answer."""

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest

from spinor.access import Caller
from spinor.db import Database
from spinor.errors import SpinorError
from spinor.jobs import service
from spinor.jobs.models import JobSpec, Submitted
from spinor.jobs.service import Intake

from .workbench import Workbench, echo


async def submit(bench: Workbench, intake: Intake, caller: Caller, spec: JobSpec, key: str | None = None) -> Submitted:
    async with bench.db.statements() as tx:
        return await service.submit_jobs(tx, caller, bench.elements, [spec], key, intake.insert)


@pytest.fixture
async def intake(bench: Workbench) -> AsyncIterator[Intake]:
    """With a database of its own, as in a server."""
    async with Database.open(bench.db.url, size=1) as db:
        yield Intake(db)


async def test_each_client_gets_its_own_jobs(bench: Workbench, intake: Intake) -> None:
    ada, bea = bench.world.ada, bench.world.bea
    callers = [ada if n % 2 else bea for n in range(40)]
    answers = await asyncio.gather(
        *(submit(bench, intake, caller, echo(name=f"n{n}", cores=1 + n % 3)) for n, caller in enumerate(callers))
    )
    assert [answer.arrays[0].name for answer in answers] == [f"n{n}" for n in range(40)]
    rows = await bench.rows(
        "SELECT a.name, j.vo_id, q.vo_id, j.owner_id FROM jobs.job j JOIN jobs.job_array a USING (array_id) "
        "JOIN jobs.task_queue q USING (task_queue_id)"
    )
    told = {name: (vo, queue_vo, owner) for name, vo, queue_vo, owner in rows}
    assert told == {f"n{n}": (c.vo_id, c.vo_id, c.user_id) for n, c in enumerate(callers)}
    assert len({answer.arrays[0].ids[0] for answer in answers}) == 40


async def test_one_key_submits_once_also_in_one_group(bench: Workbench, intake: Intake) -> None:
    answers = await asyncio.gather(
        *(submit(bench, intake, bench.world.ada, echo(), "the same") for _ in range(8)), return_exceptions=True
    )
    good = {answer.arrays[0].ids[0] for answer in answers if isinstance(answer, Submitted)}
    assert len(good) == 1
    assert all(isinstance(a, Submitted) or (isinstance(a, SpinorError) and a.retry) for a in answers)
    assert await bench.rows("SELECT count(*) FROM jobs.job") == [(1,)]


async def test_one_that_fails_spoils_no_other(
    bench: Workbench, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spinor.jobs.submission import store

    real = store.insert_arrays_of
    await bench.submit(echo())  # The queue is there.

    async def fragile(tx, callers, arrays, *, together):  # type: ignore[no-untyped-def]
        if any(array.name == "bad" for array in arrays):
            raise psycopg.errors.CheckViolation("no")
        return await real(tx, callers, arrays, together=together)

    monkeypatch.setattr(store, "insert_arrays_of", fragile)
    names = ["a", "bad", "b", "c"]
    answers = await asyncio.gather(
        *(submit(bench, intake, bench.world.ada, echo(name=name)) for name in names), return_exceptions=True
    )
    assert [isinstance(answer, Submitted) for answer in answers] == [True, False, True, True]


async def test_who_stands_alone_is_stored_without_a_connection_of_the_others(bench: Workbench, intake: Intake) -> None:
    ada = bench.world.ada

    async def alone(spec: JobSpec) -> Submitted:
        return await service.submit_alone(bench.db, intake, ada, bench.elements, spec)

    first = await alone(echo(name="first"))  # There is no task queue yet.
    answers = await asyncio.gather(*(alone(echo(name=f"n{n}")) for n in range(20)))
    assert [answer.arrays[0].name for answer in (first, *answers)] == ["first", *(f"n{n}" for n in range(20))]
    assert len({answer.arrays[0].ids[0] for answer in answers}) == 20
    assert all(answer.warnings == [] for answer in answers)
    assert await bench.rows("SELECT count(*) FROM jobs.waiting") == [(21,)]


async def test_who_stands_alone_is_warned_each_time(bench: Workbench, intake: Intake) -> None:
    for name in ("one", "two"):
        answer = await service.submit_alone(
            bench.db, intake, bench.world.ada, bench.elements, echo(name=name, cores=64)
        )
        assert name in answer.warnings[0]
