"""What a worker promises about retries, periods, starvation and its own end."""

import asyncio
from typing import Any

import pytest

from spinor.chores import (
    Chore,
    ChoreContext,
    chore,
    count_chores,
    enqueue,
    enqueue_many,
    failed_chores,
    forget_failed,
    periodic,
    retry_failed,
    run_worker,
)
from spinor.db import fetch_rows

from .workbench import Bench, Open


def failing(bench: Bench, *, retries: int, every_s: float | None = None) -> Chore:
    async def run(context: ChoreContext, payload: dict[str, Any]) -> None:
        await bench.note("failing")
        raise ValueError("no such luck")

    return chore("failing", run, timeout_s=5, retries=retries, concurrency=1, every_s=every_s)


def sleeping(bench: Bench, seconds: float, *, timeout_s: float = 30) -> Chore:
    async def run(context: ChoreContext, payload: dict[str, Any]) -> None:
        await bench.note("started")
        await asyncio.sleep(seconds)
        await bench.note("ended")

    return chore("sleeping", run, timeout_s=timeout_s, retries=0, concurrency=1)


async def ask(bench: Bench, name: str) -> None:
    async with bench.db.transaction() as tx:
        await enqueue(tx, name)


async def until_failed(bench: Bench) -> list[Any]:
    for _ in range(500):
        async with bench.db.transaction() as tx:
            if failed := await failed_chores(tx):
                return failed
        await asyncio.sleep(0.01)
    raise AssertionError("nothing failed")


async def test_retries_with_backoff_then_kept_as_failed(open_bench: Open, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="spinor.test.chores")
    async with open_bench() as bench, bench.worker(failing(bench, retries=2)):
        await ask(bench, "failing")
        await bench.until_ran("failing")
        assert await bench.until_ran("failing", 3) > 2.5  # One second, then two.
        [failed] = await until_failed(bench)
        assert (failed.name, failed.attempts, failed.error) == ("failing", 3, "ValueError: no such luck")

        async with bench.db.transaction() as tx:
            await retry_failed(tx, [failed.id])
        await bench.until_ran("failing", 4)
    outcomes = [vars(r)["outcome"] for r in caplog.records if r.getMessage() == "chore" and "error" in vars(r)]
    assert outcomes == ["retry", "retry", "failed", "retry"]


async def test_a_failed_chore_holds_no_place_and_can_be_forgotten(open_bench: Open) -> None:
    async with open_bench() as bench, bench.worker(failing(bench, retries=0)):
        await ask(bench, "failing")
        [first] = await until_failed(bench)
        await ask(bench, "failing")
        await bench.until_ran("failing", 2)
        async with bench.db.transaction() as tx:
            assert await forget_failed(tx, [first.id, 999]) == [first.id]


async def test_a_chore_that_takes_too_long_fails(open_bench: Open) -> None:
    async with open_bench() as bench, bench.worker(sleeping(bench, 30, timeout_s=0.3)):
        await ask(bench, "sleeping")
        [failed] = await until_failed(bench)
        assert failed.error == "ChoreTooLong: Not done within 0.3 s."


async def test_a_chore_that_cancels_itself_is_not_lost(open_bench: Open) -> None:
    async def run(context: ChoreContext, payload: dict[str, Any]) -> None:
        raise asyncio.CancelledError

    async with open_bench() as bench:
        async with bench.worker(chore("odd", run, timeout_s=5, retries=0, concurrency=1)):
            await ask(bench, "odd")
            [failed] = await until_failed(bench)
        assert "cancelled itself" in failed.error


async def test_long_periods_are_enqueued_once_each_over_two_workers(
    open_bench: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(periodic, "SHORT_S", 0.0)
    async with open_bench() as bench:

        async def tick(context: ChoreContext, payload: dict[str, Any]) -> None:
            await bench.note("tick")

        every_second = chore("tick", tick, every_s=1, timeout_s=5, retries=0, concurrency=4)
        async with bench.worker(every_second), bench.worker(every_second):
            await asyncio.sleep(3.5)
        runs = await bench.ran("tick")
        async with bench.db.transaction() as tx:
            # When each tick was enqueued, by the database's clock; a run may start late on a busy machine.
            rows = await fetch_rows(
                tx,
                "SELECT floor(extract(epoch FROM created)) FROM chores.log"
                " WHERE entrypoint = 'tick' AND status = 'queued' ORDER BY created",
            )
    seconds = [row[0] for row in rows]
    assert len(seconds) == len(set(seconds))
    assert len(seconds) >= 3
    assert len(seconds) - 1 <= runs <= len(seconds)


async def test_ticks_of_a_periodic_chore_do_not_pile_up(open_bench: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic, "SHORT_S", 0.0)
    async with open_bench() as bench:

        async def tick(context: ChoreContext, payload: dict[str, Any]) -> None:
            await bench.note("tick")
            await asyncio.sleep(2.6)

        slow = chore("tick", tick, every_s=1, timeout_s=5, retries=0, concurrency=1)
        async with bench.worker(slow):
            await bench.until_ran("tick")
            await asyncio.sleep(2.3)
            assert await bench.queued() == 2  # One runs, one waits; the ticks in between were joined to it.


async def test_a_periodic_chore_that_always_fails_leaves_one_failure(
    open_bench: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(periodic, "SHORT_S", 0.0)
    async with open_bench() as bench, bench.worker(failing(bench, retries=0, every_s=1)):
        await bench.until_ran("failing", 3)
        await asyncio.sleep(0.5)
        async with bench.db.transaction() as tx:
            assert len(await failed_chores(tx)) == 1


async def test_the_backlog_of_one_kind_does_not_starve_another(open_bench: Open) -> None:
    async with open_bench() as bench:

        async def backlog(context: ChoreContext, payload: dict[str, Any]) -> None:
            await asyncio.sleep(0.001)

        async def urgent(context: ChoreContext, payload: dict[str, Any]) -> None:
            await bench.note("urgent")

        kinds = [
            chore("backlog", backlog, timeout_s=5, retries=0, concurrency=4),
            chore("urgent", urgent, timeout_s=5, retries=0, concurrency=1),
        ]
        async with bench.db.transaction() as tx:
            await enqueue_many(tx, "backlog", [{}] * 20_000)
        async with bench.worker(*kinds, drain_s=1):
            await asyncio.sleep(1)
            for times in range(1, 4):
                await ask(bench, "urgent")
                assert await bench.until_ran("urgent", times) < 3
        async with bench.db.transaction() as tx:
            counts = {count.name: count.count for count in await count_chores(tx)}
        assert 10_000 < counts["backlog"] < 20_000


async def test_stopping_lets_running_chores_end(open_bench: Open) -> None:
    async with open_bench() as bench:
        async with bench.worker(sleeping(bench, 1)) as stop:
            await ask(bench, "sleeping")
            await bench.until_ran("started")
            stop.set()
            await ask(bench, "sleeping")
        assert (await bench.ran("started"), await bench.ran("ended")) == (1, 1)
        assert await bench.queued() == 1


async def test_what_outlasts_the_drain_goes_back_to_the_queue(open_bench: Open) -> None:
    async with open_bench() as bench:
        async with bench.worker(sleeping(bench, 20), drain_s=0.3):
            await ask(bench, "sleeping")
            await bench.until_ran("started")
        assert await bench.ran("ended") == 0
        async with bench.worker(sleeping(bench, 0)):
            await bench.until_ran("ended")


async def test_a_cancelled_worker_gives_its_chores_back(open_bench: Open) -> None:
    async with open_bench() as bench:
        worker = asyncio.create_task(run_worker(bench.context, [sleeping(bench, 20)], stop=asyncio.Event()))
        await ask(bench, "sleeping")
        await bench.until_ran("started")
        worker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await worker
        async with bench.worker(sleeping(bench, 0)):
            await bench.until_ran("ended")


async def test_a_lost_connection_interrupts_and_the_chore_runs_again(open_bench: Open) -> None:
    async with open_bench() as bench, bench.worker(sleeping(bench, 3)):
        await ask(bench, "sleeping")
        await bench.until_ran("started")
        async with bench.db.transaction() as tx:
            await tx.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'spinor chores' AND query LIKE 'LISTEN%' AND datname = current_database()"
            )
        await bench.until_ran("started", 2)
        await bench.until_ran("ended")


async def test_two_chores_of_one_name_are_refused(open_bench: Open) -> None:
    async with open_bench() as bench:
        with pytest.raises(ValueError, match="same name"):
            await run_worker(
                bench.context, [failing(bench, retries=0), failing(bench, retries=1)], stop=asyncio.Event()
            )


@pytest.mark.parametrize(
    "wrong", [{"timeout_s": 0}, {"retries": -1}, {"concurrency": 0}, {"every_s": 0.1}, {"name": ""}]
)
async def test_a_chore_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    async def run(context: ChoreContext, payload: dict[str, Any]) -> None: ...

    given: dict[str, Any] = {"name": "n", "timeout_s": 1.0, "retries": 0, "concurrency": 1, **wrong}
    with pytest.raises(ValueError, match="chore"):
        chore(given.pop("name"), run, **given)
