"""Short periods: one worker leads, and another one as soon as that one is gone."""

import asyncio
from typing import Any

import psycopg
import pytest

from spinor.chores import Chore, ChoreContext, FailingChore, chore, failing_chores, periodic, run_worker
from spinor.chores.queue import Q
from spinor.db import execute, fetch_rows

from .workbench import Bench, Open


def ticking(bench: Bench, name: str = "tick", *, lasts_s: float = 0, concurrency: int = 1) -> Chore:
    async def tick(context: ChoreContext, payload: dict[str, Any]) -> None:
        await bench.note(f"{name} began")
        await asyncio.sleep(lasts_s)
        await bench.note(f"{name} ended")

    return chore("tick", tick, every_s=1, timeout_s=30, retries=0, concurrency=concurrency)


async def leaders(bench: Bench) -> list[int]:
    async with bench.db.transaction() as tx:
        rows = await fetch_rows(
            tx,
            "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = 7353 AND granted AND database ="
            " (SELECT oid FROM pg_database WHERE datname = current_database())",
        )
    return [pid for (pid,) in rows]


async def failures(bench: Bench, name: str) -> list[FailingChore]:
    async with bench.db.transaction() as tx:
        return [each for each in await failing_chores(tx) if each.name == name]


async def test_one_of_two_workers_runs_each_turn_and_nothing_is_enqueued(open_bench: Open) -> None:
    async with open_bench() as bench:
        async with bench.worker(ticking(bench, "one")), bench.worker(ticking(bench, "other")):
            await bench.until_ran("% ended", 3)
            assert len(await leaders(bench)) == 1
            assert await bench.queued() == 0
        assert await bench.ran("one began") == 0 or await bench.ran("other began") == 0


async def test_when_the_leader_stops_another_leads_while_its_turn_ends(open_bench: Open) -> None:
    async with open_bench() as bench, bench.worker(ticking(bench, "one", lasts_s=6), drain_s=20) as stop:
        await bench.until_ran("one began")
        async with bench.worker(ticking(bench, "other")):
            stop.set()
            await bench.until_ran("other began")
            assert await bench.ran("one ended") == 0
            await bench.until_ran("one ended")
        assert await bench.ran("one began") == 1


async def test_a_leader_that_loses_its_session_ends_its_turns_and_another_leads(open_bench: Open) -> None:
    async with open_bench() as bench, bench.worker(ticking(bench, "one", lasts_s=20)):
        await bench.until_ran("one began")
        async with bench.worker(ticking(bench, "other")):
            [pid] = await leaders(bench)
            async with bench.db.transaction() as tx:
                await tx.execute("SELECT pg_terminate_backend(%s)", (pid,))
            await bench.until_ran("other ended", 4)
        assert await bench.ran("one ended") == 0


async def test_a_silent_leader_is_deposed(open_bench: Open, chores_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic, "SILENCE_S", 2.0)
    async with open_bench() as bench, await psycopg.AsyncConnection.connect(chores_url, autocommit=True) as silent:
        await silent.execute(Q.take_lead)
        async with bench.worker(ticking(bench)):
            await bench.until_ran("tick ended")
        with pytest.raises(psycopg.OperationalError):
            await silent.execute("SELECT 1")


async def test_a_leader_that_speaks_is_left_alone(
    open_bench: Open, chores_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(periodic, "SILENCE_S", 2.0)
    async with open_bench() as bench, await psycopg.AsyncConnection.connect(chores_url, autocommit=True) as leader:
        await leader.execute(Q.take_lead)
        async with bench.worker(ticking(bench)):
            for _ in range(8):
                await asyncio.sleep(0.5)
                await leader.execute(Q.beat)
        assert await bench.ran() == 0


async def test_turns_that_find_no_place_do_not_pile_up(open_bench: Open) -> None:
    async with open_bench() as bench, bench.worker(ticking(bench, lasts_s=3.5, concurrency=2)):
        await bench.until_ran("tick ended")
        assert await bench.ran("tick began") <= 3


async def test_a_failing_chore_is_kept_until_it_succeeds(open_bench: Open, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="spinor.test.chores")
    async with open_bench() as bench:
        well = asyncio.Event()

        async def run(context: ChoreContext, payload: dict[str, Any]) -> None:
            await bench.note("ran")
            if not well.is_set():
                raise ValueError("no such luck")

        async def odd(context: ChoreContext, payload: dict[str, Any]) -> None:
            raise asyncio.CancelledError

        async def slow(context: ChoreContext, payload: dict[str, Any]) -> None:
            await asyncio.sleep(30)

        kinds = [
            chore("sick", run, every_s=1, timeout_s=5, retries=0, concurrency=1),
            chore("odd", odd, every_s=1, timeout_s=5, retries=0, concurrency=1),
            chore("slow", slow, every_s=1, timeout_s=0.2, retries=0, concurrency=1),
        ]
        async with bench.db.transaction() as tx:
            await execute(tx, Q.note_failing_chore, {"name": "of an older release", "error": "x"})
        async with bench.worker(*kinds):
            await bench.until_ran("ran", 3)
            [kept] = await failures(bench, "sick")
            assert kept.error == "ValueError: no such luck"
            assert kept.failures >= 2
            assert kept.since < kept.failed_at
            [kept] = await failures(bench, "odd")
            assert "cancelled itself" in kept.error
            [kept] = await failures(bench, "slow")
            assert kept.error == "ChoreTooLong: Not done within 0.2 s."
            assert not await failures(bench, "of an older release")
            well.set()
            for _ in range(500):
                if not await failures(bench, "sick"):
                    break
                await asyncio.sleep(0.01)
            assert not await failures(bench, "sick")
    outcomes = {(vars(r)["outcome"], vars(r).get("error")) for r in caplog.records if r.getMessage() == "chore"}
    assert ("failed", "ValueError: no such luck") in outcomes


async def test_a_cancelled_worker_ends_its_turns(open_bench: Open) -> None:
    async with open_bench() as bench:
        worker = asyncio.create_task(run_worker(bench.context, [ticking(bench, lasts_s=20)], stop=asyncio.Event()))
        await bench.until_ran("tick began")
        worker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await worker
        assert await leaders(bench) == []
        assert await bench.ran("tick ended") == 0
