"""What attempts used over time, and what each of them was."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from spinor.access import Caller
from spinor.db import Database, Tx
from spinor.jobs.errors import UnknownJob
from spinor.jobs.models import Attempt, Held, Usage
from spinor.jobs.usage import rules, store

KEPT_DAYS = 90
_BATCH = 10_000


async def note_usage_of(tx: Tx, told: Sequence[tuple[Caller, Held]]) -> None:
    """Keep those heartbeats that begin a new span of their attempt's time; most begin none, and cost nothing. `told`
    are (pilot, what it tells)."""
    points = [(pilot, held, slot_s) for pilot, each in told for held, slot_s in rules.points([each])]
    if not points:
        return
    await store.insert_heartbeats(tx, points)
    if crowded := rules.thinned([(held, slot_s) for _, held, slot_s in points]):
        await store.thin_heartbeats(tx, crowded)


async def usage(tx: Tx, caller: Caller, job_id: int, attempt: int | None = None) -> Usage:
    """The points of an attempt, at most some 200; the newest unless told. Without any: it has just begun."""
    found = await store.find_job_limits(tx, caller.vo_id, job_id)
    if found is None:
        raise UnknownJob(f"There is no job {job_id} in your VO.", job_id=job_id)
    wanted = attempt or found.attempt
    return Usage(
        job_id=job_id,
        attempt=wanted,
        memory_bytes=found.memory_bytes,
        disk_bytes=found.disk_bytes,
        cores=found.cores,
        points=await store.list_heartbeats(tx, caller.vo_id, job_id, wanted),
    )


async def attempts(tx: Tx, caller: Caller, job_id: int) -> list[Attempt]:
    """Every attempt of a job, the oldest first."""
    if await store.find_owner(tx, caller.vo_id, job_id) is None:
        raise UnknownJob(f"There is no job {job_id} in your VO.", job_id=job_id)
    return await store.list_attempts(tx, caller.vo_id, job_id)


async def forget_usage(db: Database, now: datetime | None = None) -> int:
    """Delete points older than 90 days, and what is left of peeks; how many points."""
    before = (now or datetime.now(UTC)) - timedelta(days=KEPT_DAYS)
    async with db.transaction() as tx:
        await store.forget_peeks(tx)
    forgotten = 0
    while True:
        async with db.transaction() as tx:
            deleted = await store.forget_heartbeats(tx, before, _BATCH)
        forgotten += deleted
        if deleted < _BATCH:
            return forgotten
