"""The rows of matching."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from spinor.configuration.work import HALF_LIFE_S, WorkRules
from spinor.db import Queries, Tx, execute, fetch, fetch_one, fetch_rows, fetch_value
from spinor.jobs import rules
from spinor.jobs.matching.limits import DIMENSIONS, Bucket, Key
from spinor.jobs.matching.rows import (
    ClaimedJob,
    Deal,
    KeyState,
    Occupied,
    OpenDependency,
    Pause,
    PilotSeen,
    QueueRow,
    StandingRow,
    UseRow,
    Waiting,
    Wish,
)
from spinor.jobs.models import Requirements, ShareOfVO
from spinor.jobs.rows import FactoryPause, PilotCount, PlaceInQueue

Q = Queries("spinor.jobs.matching")


def _numbers(values: Iterable[float]) -> str:
    """An array of numbers, as PostgreSQL writes one: a claim sends a thousand of them."""
    return f"{{{','.join(map(str, values))}}}"


async def read_waiting(tx: Tx) -> Waiting:
    [(counts, suspended)] = await fetch_rows(tx, Q.read_waiting)
    return Waiting(counts=bytes(counts), suspended=[(user_id, vo_id) for user_id, vo_id in suspended])


async def read_occupied(tx: Tx) -> Occupied:
    [(counts, states)] = await fetch_rows(tx, Q.read_occupied)
    return Occupied(counts=bytes(counts), states=[KeyState(**state) for state in states])


async def list_queues(tx: Tx, task_queue_ids: Sequence[int]) -> list[QueueRow]:
    return await fetch(tx, QueueRow, Q.list_queues, {"task_queue_ids": _numbers(task_queue_ids)})


async def read_heads(tx: Tx, task_queue_ids: Sequence[int]) -> bytes:
    """The first jobs of these queues, packed as `view.HEAD`."""
    return bytes(await fetch_value(tx, Q.read_heads, {"task_queue_ids": _numbers(task_queue_ids)}))


async def list_use(tx: Tx) -> list[UseRow]:
    return await fetch(tx, UseRow, Q.list_use)


async def claim_jobs(tx: Tx, wishes: Sequence[Wish], deals: Sequence[Deal]) -> list[ClaimedJob]:
    """In the order in which they waited."""
    return await fetch(
        tx,
        ClaimedJob,
        Q.claim_jobs,
        {
            "wish_queue_ids": _numbers([wish.task_queue_id for wish in wishes]),
            "wish_counts": _numbers([wish.count for wish in wishes]),
            "wish_priorities": _numbers([wish.priority for wish in wishes]),
            "wish_job_ids": _numbers([wish.job_id for wish in wishes]),
            "deal_queue_ids": _numbers([deal.task_queue_id for deal in deals]),
            "deal_ns": _numbers([deal.n for deal in deals]),
            "pilot_ids": _numbers([deal.pilot_id for deal in deals]),
            "vo_ids": _numbers([deal.vo_id for deal in deals]),
            "site_ids": _numbers([deal.site_id for deal in deals]),
            "ce_ids": _numbers([deal.ce_id for deal in deals]),
            "cores": _numbers([deal.cores for deal in deals]),
            "waited_s": _numbers([deal.waited_s for deal in deals]),
            "lease_s": rules.LEASE_S,
        },
    )


async def list_specs(tx: Tx, array_ids: Sequence[int]) -> dict[int, str]:
    return dict(await fetch_rows(tx, Q.list_specs, {"array_ids": _numbers(array_ids)}))


async def lock_limits(tx: Tx, keys: Sequence[Key]) -> list[KeyState]:
    """What is kept of these keys; nobody else can start jobs under them until the transaction ends."""
    names = {"limits": [key.limit for key in keys], "keys": [key.values for key in keys]}
    found = await fetch(tx, KeyState, Q.lock_limits, names)
    if len(found) == len(keys):
        return found
    await execute(tx, Q.insert_limits, names)
    return await fetch(tx, KeyState, Q.lock_limits, names)


async def count_starts(tx: Tx, started: Sequence[tuple[Key, int, Bucket | None, float]]) -> None:
    """`started` are (key, jobs, tokens that are left, the moment of that)."""
    await execute(
        tx,
        Q.count_starts,
        {
            "limits": [key.limit for key, _, _, _ in started],
            "keys": [key.values for key, _, _, _ in started],
            "starts": [jobs for _, jobs, _, _ in started],
            "tokens": [bucket and bucket.tokens for _, _, bucket, _ in started],
            "at": [at for _, _, _, at in started],
        },
    )


async def list_wants(tx: Tx, task_queue_ids: Sequence[int]) -> dict[int, Requirements]:
    if not task_queue_ids:
        return {}
    rows = await fetch_rows(tx, Q.list_wants, {"task_queue_ids": _numbers(task_queue_ids)})
    return {queue_id: msgspec.convert(wants, Requirements) for queue_id, wants in rows}


async def fold_tally_when_due(tx: Tx) -> None:
    """Fold, unless the last fold was so dear that it is too early for another one."""
    if await fetch_value(tx, Q.is_fold_due):
        await fold_tally(tx)
        await execute(tx, Q.rest_from_folding)


async def fold_tally(tx: Tx) -> int:
    """Add the journal to the counters; how many counters that changed. Nothing when another one folds just now."""
    if not await fetch_value(tx, Q.take_folding_turn):
        return 0
    changed = int(await fetch_value(tx, Q.fold_tally))
    if changed:
        await execute(tx, Q.renew_live_tally)
    return changed


async def renew_tally(tx: Tx) -> int:
    """Write the counters of jobs that rest anew when it is time; how many. Nothing when another one folds just now."""
    if not await fetch_value(tx, Q.take_folding_turn):
        return 0
    return await execute(tx, Q.renew_tally)


async def charge_shares(tx: Tx, work: WorkRules) -> float:
    """Charge what runs for the time since it was charged last; how long that was. The first time starts the clock."""
    elapsed_s = await fetch_value(tx, Q.lock_share_clock)
    if elapsed_s is None:
        await execute(tx, Q.start_share_clock)
        return 0.0
    await execute(tx, Q.charge_shares, {"elapsed_s": max(0.0, elapsed_s), **_half_lives(work)})
    return float(elapsed_s)


async def list_vo_use(tx: Tx, work: WorkRules) -> list[ShareOfVO]:
    rows = await fetch(tx, ShareOfVO, Q.list_vo_use, _half_lives(work))
    return [ShareOfVO(vo_id=r.vo_id, vo=r.vo, core_s=r.core_s, running_cores=r.running_cores,
                      share=work.vo_shares.get(r.vo, 1.0)) for r in rows]  # fmt: skip


def _half_lives(work: WorkRules) -> dict[str, Any]:
    return {
        "vos": list(work.shares),
        "half_lives_s": [shares.half_life_s for shares in work.shares.values()],
        "half_life_s": HALF_LIFE_S,
    }


async def find_place_in_queue(tx: Tx, vo_id: int, job_id: int) -> PlaceInQueue:
    parameters = {"vo_id": vo_id, "job_id": job_id}
    [(ahead,)] = await fetch_rows(tx, Q.find_place_in_queue, parameters)
    [(queues, jobs)] = await fetch_rows(tx, Q.count_ahead_in_others, parameters)
    return PlaceInQueue(ahead_in_queue=ahead, other_queues=queues, ahead_in_others=jobs)


async def find_wants(tx: Tx, vo_id: int, task_queue_id: int) -> Requirements:
    found = await fetch_value(tx, Q.find_wants, {"vo_id": vo_id, "task_queue_id": task_queue_id})
    return msgspec.convert(found, Requirements)


async def list_standings(tx: Tx, vo_id: int, half_life_s: float) -> list[StandingRow]:
    return await fetch(tx, StandingRow, Q.list_standings, {"vo_id": vo_id, "half_life_s": half_life_s})


async def list_pilots_seen(tx: Tx, vo_id: int, within_s: float) -> list[PilotSeen]:
    return await fetch(tx, PilotSeen, Q.list_pilots_seen, {"vo_id": vo_id, "within_s": within_s})


async def count_under_limit(tx: Tx, values: Mapping[str, str]) -> int:
    """How many jobs run of which all of these hold; a dimension that is not named holds for all."""
    parameters = {dimension: values.get(dimension, "") for dimension in DIMENSIONS}
    return int(await fetch_value(tx, Q.count_under_limit, parameters))


async def find_limit_state(tx: Tx, key: Key) -> KeyState | None:
    return await fetch_one(tx, KeyState, Q.find_limit_state, {"limit": key.limit, "key": key.values})


async def list_open_dependencies(tx: Tx, vo_id: int, job_id: int) -> list[OpenDependency]:
    return await fetch(tx, OpenDependency, Q.list_open_dependencies, {"vo_id": vo_id, "job_id": job_id})


async def find_pause(tx: Tx, vo_id: int, job_id: int) -> Pause | None:
    return await fetch_one(tx, Pause, Q.find_pause, {"vo_id": vo_id, "job_id": job_id})


async def count_pilots_alive(tx: Tx, vo_id: int) -> list[PilotCount]:
    return await fetch(tx, PilotCount, Q.count_pilots_alive, {"vo_id": vo_id})


async def list_pauses(tx: Tx, vo_id: int) -> list[FactoryPause]:
    return await fetch(tx, FactoryPause, Q.list_pauses, {"vo_id": vo_id})


async def find_queue_of_waiting(tx: Tx, vo_id: int, job_id: int) -> int | None:
    queue_id: int | None = await fetch_value(tx, Q.find_queue_of_waiting, {"vo_id": vo_id, "job_id": job_id})
    return queue_id
