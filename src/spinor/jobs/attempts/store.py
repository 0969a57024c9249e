"""The rows of attempts."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from spinor.access import Caller
from spinor.db import Queries, Tx, array_text, execute, fetch, fetch_one, fetch_rows, fetch_value
from spinor.jobs import rules
from spinor.jobs.models import FinishReport, JobStatus
from spinor.jobs.rows import Attempt, ChosenJob, HeldJob, NotRenewed, PayloadRow, QuickFailures, Released, Retry
from spinor.jobs.rules import source_of

Q = Queries("spinor.jobs.attempts")


Attempts = Sequence[tuple[int, int]]  # Jobs, and their attempts.


def held_by(pilot: Caller, job_id: int, attempt: int) -> dict[str, Any]:
    """The parameters of a statement about an attempt that a pilot holds."""
    assert pilot.pilot_id is not None
    return {
        "vo_id": pilot.vo_id,
        "pilot_id": pilot.pilot_id,
        "job_id": job_id,
        "attempt": attempt,
        "source": source_of(pilot.pilot_id),
    }


def _all_held_by(pilot: Caller, attempts: Attempts) -> dict[str, Any]:
    assert pilot.pilot_id is not None
    return {
        "vo_id": pilot.vo_id,
        "pilot_id": pilot.pilot_id,
        "job_ids": [job_id for job_id, _ in attempts],
        "attempts": [attempt for _, attempt in attempts],
        "source": source_of(pilot.pilot_id),
    }


async def start_jobs(tx: Tx, pilot: Caller, attempts: Attempts) -> None:
    """Of jobs that are locked."""
    await execute(tx, Q.start_jobs, _all_held_by(pilot, attempts))


async def find_attempt(tx: Tx, vo_id: int, job_id: int) -> Attempt | None:
    return await fetch_one(tx, Attempt, Q.find_attempt, {"vo_id": vo_id, "job_id": job_id})


async def lock_held_jobs(tx: Tx, pilot: Caller, attempts: Attempts) -> dict[tuple[int, int], HeldJob]:
    """Those of the attempts that the pilot holds."""
    parameters = {**_all_held_by(pilot, attempts), "held": [status.value for status in rules.HELD]}
    return {(job.job_id, job.attempt): job for job in await fetch(tx, HeldJob, Q.lock_held_jobs, parameters)}


async def lock_held_job(tx: Tx, pilot: Caller, job_id: int, attempt: int) -> HeldJob | None:
    return (await lock_held_jobs(tx, pilot, [(job_id, attempt)])).get((job_id, attempt))


async def reported_ends(tx: Tx, pilot: Caller, attempts: Attempts) -> dict[tuple[int, int], JobStatus]:
    """How this pilot ended those of these attempts that it did end before."""
    rows = await fetch_rows(tx, Q.list_reported, _all_held_by(pilot, attempts))
    return {(job_id, attempt): JobStatus(status) for job_id, attempt, status in rows}


async def renew_leases(tx: Tx, columns: dict[str, Any]) -> list[NotRenewed]:
    return await fetch(tx, NotRenewed, Q.renew_leases, {**columns, "lease_s": rules.LEASE_S})


async def extend_leases(tx: Tx) -> int:
    return await execute(tx, Q.extend_leases, {"lease_s": rules.LEASE_S})


async def record_usage(tx: Tx, columns: dict[str, Any]) -> None:
    await execute(tx, Q.record_usage, columns)


class End(msgspec.Struct, frozen=True, kw_only=True):
    """The end of an attempt, with what follows it."""

    job: HeldJob
    report: FinishReport
    verdict: rules.Verdict
    retry: Retry | None

    @property
    def done(self) -> bool:
        return self.verdict.status is JobStatus.DONE

    @property
    def steps(self) -> list[tuple[str, str, str]]:
        """History lines: state, minor status, reason."""
        verdict = self.verdict
        first = (verdict.status.value, verdict.minor_status, verdict.reason[:10_000])
        return [first, *(self.retry.steps if self.retry else [])]


async def end_jobs(tx: Tx, vo_id: int, ends: Sequence[End], source: str) -> dict[int, int]:
    """The ended jobs with their arrays. Those whose state did not allow this end are left out."""
    retries = [end.retry for end in ends]
    steps = [(end.job.job_id, *step) for end in ends for step in end.steps]
    files = [(end.job.job_id, output.lfn) for end in ends if end.done for output in end.report.outputs]
    rows = await fetch_rows(
        tx,
        Q.end_jobs,
        {
            "vo_id": vo_id,
            "source": source,
            "job_ids": [end.job.job_id for end in ends],
            "attempts": [end.job.attempt for end in ends],
            "old_statuses": [end.job.status.value for end in ends],
            "old_queue_ids": [end.job.task_queue_id for end in ends],
            "statuses": [end.verdict.status.value for end in ends],
            "next_statuses": [(end.retry or end.verdict).status.value for end in ends],
            "next_minor_statuses": [(end.retry or end.verdict).minor_status for end in ends],
            "next_queue_ids": [(end.retry or end.job).task_queue_id for end in ends],
            "retries": [array_text(retry.retried) if retry else None for retry in retries],
            "delays_s": [retry.delay_s if retry else 0 for retry in retries],
            "error_classes": [None if end.done else rules.error_class(end.report).value for end in ends],
            "exit_codes": [end.report.exit_code for end in ends],
            "cpu_s": [end.report.cpu_s for end in ends],
            "wall_s": [end.report.wall_s for end in ends],
            "max_rss_bytes": [end.report.max_rss_bytes for end in ends],
            "sandbox_ids": [end.report.output_sandbox_id for end in ends],
            "missing": [msgspec.json.encode(end.report.missing).decode() for end in ends],
            "step_job_ids": [job_id for job_id, *_ in steps],
            "step_statuses": [status for _, status, _, _ in steps],
            "step_minors": [minor for _, _, minor, _ in steps],
            "step_reasons": [reason for *_, reason in steps],
            "lfn_job_ids": [job_id for job_id, _ in files],
            "lfns": [lfn for _, lfn in files],
        },
    )
    return dict(rows)


async def end_job(
    tx: Tx, vo_id: int, job: HeldJob, report: FinishReport, verdict: rules.Verdict, source: str, retry: Retry | None
) -> int | None:
    """The job's array, or None when its state did not allow this end."""
    end = End(job=job, report=report, verdict=verdict, retry=retry)
    return (await end_jobs(tx, vo_id, [end], source)).get(job.job_id)


async def lock_expired_jobs(tx: Tx, now: datetime, limit: int) -> list[int]:
    return [row[0] for row in await fetch_rows(tx, Q.lock_expired_jobs, {"now": now, "limit": limit})]


async def is_expiring_due(tx: Tx) -> bool:
    return bool(await fetch_value(tx, Q.is_expiring_due))


async def rest_from_expiring(tx: Tx) -> None:
    """When this transaction was long in looking for leases that are over, the next look comes later."""
    await execute(tx, Q.rest_from_expiring)


async def lock_jobs_of_pilot(tx: Tx, pilot_id: int) -> list[int]:
    return [row[0] for row in await fetch_rows(tx, Q.lock_jobs_of_pilot, {"pilot_id": pilot_id})]


async def list_unbegun(tx: Tx, pilot: Caller, job_ids: Sequence[int], most: int) -> list[int]:
    """Of jobs that are locked, those that wait for the pilot to begin, and were not given back `most` times before."""
    parameters = {"vo_id": pilot.vo_id, "pilot_id": pilot.pilot_id, "job_ids": list(job_ids), "most": most}
    return [row[0] for row in await fetch_rows(tx, Q.list_unbegun, parameters)]


async def release_jobs(
    tx: Tx,
    job_ids: Sequence[int],
    source: str,
    reason: str,
    *,
    pilot_id: int | None = None,
    before: datetime | None = None,
) -> list[Released]:
    """Of these, only those of the pilot, or those whose lease ended before a moment."""
    parameters = {
        "job_ids": list(job_ids),
        "pilot_id": pilot_id,
        "before": before,
        "source": source,
        "reason": reason,
        "sources": rules.sources_of(JobStatus.STALLED),
    }
    return await fetch(tx, Released, Q.release_jobs, parameters)


async def lock_suspended_jobs(tx: Tx, limit: int) -> list[ChosenJob]:
    return await fetch(tx, ChosenJob, Q.lock_suspended_jobs, {"limit": limit})


async def find_payload(tx: Tx, vo: str, job_id: int, attempt: int) -> PayloadRow | None:
    return await fetch_one(tx, PayloadRow, Q.find_payload, {"vo": vo, "job_id": job_id, "attempt": attempt})


async def note_progress(tx: Tx, caller: Caller, text: str) -> bool:
    parameters = {"vo_id": caller.vo_id, "job_id": caller.job_id, "attempt": caller.attempt, "text": text}
    return await execute(tx, Q.note_progress, parameters) > 0


async def seconds_since_mark(tx: Tx, *, lock: bool = True) -> float:
    """Since a server last marked that it answers pilots; endless when none ever did."""
    seconds = await fetch_value(tx, Q.lock_mark if lock else Q.find_mark)
    return float("inf") if seconds is None else float(seconds)


async def set_mark(tx: Tx) -> None:
    await execute(tx, Q.set_mark)


async def list_quick_failures(tx: Tx, *, within_s: float, shorter_s: float) -> list[QuickFailures]:
    return await fetch(tx, QuickFailures, Q.list_quick_failures, {"within_s": within_s, "shorter_s": shorter_s})
