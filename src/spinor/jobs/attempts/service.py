"""Leases of attempts: how they are renewed, and what becomes of an attempt when its pilot is lost."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from spinor.access import Caller
from spinor.db import Tx, array_text
from spinor.jobs import rules
from spinor.jobs.attempts import store
from spinor.jobs.control import store as control
from spinor.jobs.control.changes import given_back
from spinor.jobs.models import Held, JobStatus, Lost
from spinor.jobs.rows import NotRenewed, QuickFailures
from spinor.jobs.usage import service as usage
from spinor.signals import notify

_BATCH = 1000
_GIVEN_BACK = 10  # So often a job is given back by pilots that leave, and it costs no retry.


async def renew_leases(tx: Tx, pilot: Caller, held: Sequence[Held]) -> list[Lost]:
    """Hold these attempts for another minute; the answer names those that are no longer the pilot's."""
    [lost] = await renew_leases_of(tx, [(pilot, held)])
    return lost


async def renew_leases_of(tx: Tx, beats: Sequence[tuple[Caller, Sequence[Held]]]) -> list[list[Lost]]:
    """The same for several pilots at once."""
    by_attempt = {
        (each.job_id, each.attempt, pilot.pilot_id or 0): (pilot, each) for pilot, held in beats for each in held
    }
    if not by_attempt:
        return [[] for _ in beats]
    ordered = [by_attempt[key] for key in sorted(by_attempt)]
    columns: dict[str, Any] = {
        "job_ids": array_text([each.job_id for _, each in ordered]),
        "attempts": array_text([each.attempt for _, each in ordered]),
        "pilot_ids": array_text([pilot.pilot_id for pilot, _ in ordered]),
        "vo_ids": array_text([pilot.vo_id for pilot, _ in ordered]),
    }
    lost: dict[int, list[Lost]] = defaultdict(list)
    for row in await store.renew_leases(tx, columns):
        lost[row.pilot_id].append(Lost(job_id=row.job_id, attempt=row.attempt, reason=_why_lost(row)))
    columns |= {
        "cpu_s": [each.cpu_s for _, each in ordered],
        "wall_s": [each.wall_s for _, each in ordered],
        "max_rss_bytes": array_text([each.max_rss_bytes for _, each in ordered]),
    }
    await store.record_usage(tx, columns)
    await usage.note_usage_of(tx, ordered)
    return [lost[pilot.pilot_id or 0] for pilot, _ in beats]


def _why_lost(row: NotRenewed) -> str:
    if row.status is None:
        return "there is no such job"
    if row.newest_attempt != row.attempt:
        return f"attempt {row.newest_attempt} replaced it"
    if row.status is JobStatus.KILLED:
        return row.minor_status or "killed"
    return f"the job is {row.status.value}"


async def release_jobs_of_pilot(tx: Tx, pilot_id: int, reason: str) -> list[int]:
    """Take from a pilot that is gone all that it held: the jobs wait again, or failed when that came too often."""
    job_ids = await store.lock_jobs_of_pilot(tx, pilot_id)
    if not job_ids:
        return []
    released = await store.release_jobs(tx, job_ids, rules.source_of(pilot_id), reason, pilot_id=pilot_id)
    await _tell(tx, {row.array_id for row in released if row.status is JobStatus.FAILED})
    return [row.job_id for row in released]


async def give_back_jobs_of_pilot(tx: Tx, pilot: Caller, reason: str) -> list[int]:
    """Take from a pilot that leaves all that it holds. What it never began waits again as if it had not been given, but
    not for ever: a job that was given back often may be why its pilots leave, and is then released like the others.
    """
    assert pilot.pilot_id is not None
    job_ids = await store.lock_jobs_of_pilot(tx, pilot.pilot_id)
    if not job_ids:
        return []
    unbegun = await store.list_unbegun(tx, pilot, job_ids, _GIVEN_BACK)
    if unbegun:
        change = given_back(rules.source_of(pilot.pilot_id), reason)
        await control.change_jobs(tx, pilot.vo_id, unbegun, [JobStatus.MATCHED], change)
    return sorted([*unbegun, *await release_jobs_of_pilot(tx, pilot.pilot_id, reason)])


async def expire_leases(tx: Tx, now: datetime | None = None) -> list[int]:
    """The jobs whose pilot has been silent for a minute wait again, or failed when that happened too often.

    At most 1,000 at a time, skipping those that somebody is changing: repeat while the answer is full.
    """
    before = now or datetime.now(UTC)
    job_ids = await store.lock_expired_jobs(tx, before, _BATCH)
    if not job_ids:
        return []
    reason = f"its pilot was silent for {rules.LEASE_S} s"
    released = await store.release_jobs(tx, job_ids, "lease", reason, before=before)
    await _tell(tx, {row.array_id for row in released if row.status is JobStatus.FAILED})
    return [row.job_id for row in released]


async def expire_leases_when_due(tx: Tx) -> list[int]:
    """As `expire_leases`, unless the last look was so dear that it is too early for another one."""
    if not await store.is_expiring_due(tx):
        return []
    expired = await expire_leases(tx)
    if len(expired) < _BATCH:
        await store.rest_from_expiring(tx)
    return expired


async def _tell(tx: Tx, array_ids: set[int]) -> None:
    if array_ids:
        await notify(tx, *(f"array:{array_id}" for array_id in sorted(array_ids)))


async def quick_failures(tx: Tx, *, within_s: float, shorter_s: float) -> list[QuickFailures]:
    """The pilots of which attempts failed at once, for reasons of their site, within the last `within_s` seconds."""
    return await store.list_quick_failures(tx, within_s=within_s, shorter_s=shorter_s)
