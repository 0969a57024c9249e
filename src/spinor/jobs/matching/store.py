"""The rows of matching."""

from collections.abc import Sequence

from spinor.db import Queries, Tx, execute, fetch, fetch_one, fetch_value
from spinor.jobs import rules
from spinor.jobs.models import Demand, Slot
from spinor.jobs.rows import Head, HeldJob, PilotCount, PlaceInQueue

Q = Queries("spinor.jobs.matching")


async def list_waiting_heads(tx: Tx, depth: int) -> list[Head]:
    return await fetch(tx, Head, Q.list_waiting_heads, {"depth": depth})


async def claim_jobs(tx: Tx, vo_id: int, slot: Slot, wishes: Sequence[tuple[int, int, int]]) -> list[HeldJob]:
    """`wishes` are (task queue, number of jobs, cores for each)."""
    return await fetch(
        tx,
        HeldJob,
        Q.claim_jobs,
        {
            "vo_id": vo_id,
            "task_queue_ids": [queue for queue, _, _ in wishes],
            "counts": [count for _, count, _ in wishes],
            "cores": [cores for _, _, cores in wishes],
            "pilot_id": slot.pilot_id,
            "site_id": slot.site_id,
            "ce_id": slot.ce_id,
            "lease_s": rules.LEASE_S,
            "source": rules.source_of(slot.pilot_id),
        },
    )


async def count_demand(tx: Tx) -> list[Demand]:
    return await fetch(tx, Demand, Q.count_demand)


async def fold_tally(tx: Tx) -> int:
    """Add the journal to the counters; how many counters that changed. Nothing when another one folds just now."""
    if not await fetch_value(tx, Q.take_folding_turn):
        return 0
    return int(await fetch_value(tx, Q.fold_tally))


async def drop_empty_tallies(tx: Tx) -> int:
    if not await fetch_value(tx, Q.take_folding_turn):
        return 0
    return await execute(tx, Q.drop_empty_tallies)


async def find_place_in_queue(tx: Tx, vo_id: int, job_id: int) -> PlaceInQueue | None:
    return await fetch_one(tx, PlaceInQueue, Q.find_place_in_queue, {"vo_id": vo_id, "job_id": job_id})


async def count_pilots_alive(tx: Tx, vo_id: int) -> list[PilotCount]:
    return await fetch(tx, PilotCount, Q.count_pilots_alive, {"vo_id": vo_id})
