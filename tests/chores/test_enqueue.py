"""Chores belong to the transaction that asks for them."""

import asyncio
from typing import Any

import psycopg
import pytest

from spinor.chores import (
    Chore,
    ChoreContext,
    ChoreState,
    OutsideTransaction,
    chore,
    count_chores,
    enqueue,
    enqueue_many,
)

from .workbench import Bench, Open


def noting(bench: Bench, name: str = "note", *, concurrency: int = 2) -> Chore:
    async def run(context: ChoreContext, payload: dict[str, Any]) -> None:
        await bench.note(payload.get("what", name))

    return chore(name, run, timeout_s=5, retries=0, concurrency=concurrency)


async def test_a_chore_is_invisible_until_commit_and_then_runs(open_bench: Open) -> None:
    async with open_bench() as bench, bench.worker(noting(bench)):
        async with bench.db.transaction() as tx:
            await enqueue(tx, "note", {"what": "a 'quoted' näme\n"})
            assert await bench.queued() == 0
            await asyncio.sleep(0.3)
            assert await bench.ran() == 0
        await bench.until_ran("a 'quoted' näme\n")


async def test_a_rolled_back_chore_never_was(open_bench: Open) -> None:
    async with open_bench() as bench:
        with pytest.raises(ValueError, match="changed my mind"):
            async with bench.db.transaction() as tx:
                await enqueue(tx, "note")
                raise ValueError("changed my mind")
        assert await bench.queued() == 0


async def test_a_chore_outside_a_transaction_is_refused(open_bench: Open) -> None:
    async with open_bench() as bench, bench.db.pool.connection() as conn:
        with pytest.raises(OutsideTransaction):
            await enqueue(conn, "note")


async def test_a_duplicate_is_one_chore_and_the_transaction_goes_on(open_bench: Open) -> None:
    async with open_bench() as bench:
        for _ in range(2):
            async with bench.db.transaction() as tx:
                await enqueue(tx, "note", {"what": "once"}, dedupe_key="k")
                await enqueue(tx, "note", {"what": "once"}, dedupe_key="k")
                await enqueue(tx, "other", dedupe_key="k")
                await tx.execute("INSERT INTO ran (what) VALUES ('change')")
        assert await bench.queued() == 2
        async with bench.worker(noting(bench)):
            await bench.until_ran("once")
        assert await bench.ran("change") == 2
        assert await bench.ran("once") == 1


async def test_a_duplicate_holds_the_waiting_chore_back_until_its_own_commit(open_bench: Open) -> None:
    """Otherwise the waiting chore could run before the second change is visible, and nothing would run after it."""
    async with open_bench() as bench:
        async with bench.db.transaction() as tx:
            await enqueue(tx, "note", dedupe_key="k")
        async with bench.db.transaction() as tx:
            await enqueue(tx, "note", dedupe_key="k")
            async with bench.worker(noting(bench)):
                await asyncio.sleep(0.5)
                assert await bench.ran("note") == 0
        async with bench.worker(noting(bench)):
            await bench.until_ran("note")
        assert await bench.queued() == 0


async def test_a_chore_asked_for_while_it_runs_runs_once_more(open_bench: Open) -> None:
    async with open_bench() as bench:
        may_end = asyncio.Event()

        async def run(context: ChoreContext, payload: dict[str, Any]) -> None:
            await bench.note("started")
            await may_end.wait()

        async with bench.worker(chore("slow", run, timeout_s=5, retries=0, concurrency=1)):
            for _ in range(3):
                async with bench.db.transaction() as tx:
                    await enqueue(tx, "slow", dedupe_key="k")
                await bench.until_ran("started")
            may_end.set()
            await bench.until_ran("started", 2)
            await asyncio.sleep(0.5)
        assert await bench.ran("started") == 2
        assert await bench.queued() == 0


async def test_many_chores_in_one_call(open_bench: Open) -> None:
    async with open_bench() as bench:
        async with bench.db.transaction() as tx:
            await enqueue_many(tx, "note", [{"what": f"n{i}"} for i in range(50)])
            await enqueue_many(tx, "note", [])
            counts = await count_chores(tx)
        assert [(c.name, c.state, c.count) for c in counts] == [("note", ChoreState.WAITING, 50)]
        async with bench.worker(noting(bench, concurrency=20)):
            await bench.until_ran("n%", 50)
        assert await bench.ran() == 50


async def test_a_delayed_chore_waits(open_bench: Open) -> None:
    async with open_bench() as bench, bench.worker(noting(bench)):
        async with bench.db.transaction() as tx:
            await enqueue(tx, "note", {"what": "late"}, delay_s=2)
            await enqueue(tx, "note", {"what": "now"})
        await bench.until_ran("now", limit_s=1.9)
        assert await bench.ran("late") == 0
        assert await bench.until_ran("late") > 0.1


async def test_an_error_of_the_caller_stays_the_callers(open_bench: Open) -> None:
    async with open_bench() as bench:
        with pytest.raises(psycopg.errors.UndefinedTable):
            async with bench.db.transaction() as tx:
                await enqueue(tx, "note")
                await tx.execute("SELECT * FROM nowhere")
        assert await bench.queued() == 0
