"""The rows of attempts."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from spinor.access import Caller
from spinor.db import Queries, Tx, execute, fetch, fetch_one, fetch_rows, fetch_value
from spinor.jobs import rules
from spinor.jobs.models import FinishReport, JobStatus
from spinor.jobs.rows import Attempt, ChosenJob, HeldJob, NotRenewed, PayloadRow, QuickFailures, Released, Retry
from spinor.jobs.rules import source_of

Q = Queries("spinor.jobs.attempts")


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


async def start_job(tx: Tx, pilot: Caller, job_id: int, attempt: int) -> bool:
    return bool(await fetch_rows(tx, Q.start_job, held_by(pilot, job_id, attempt)))


async def find_attempt(tx: Tx, vo_id: int, job_id: int) -> Attempt | None:
    return await fetch_one(tx, Attempt, Q.find_attempt, {"vo_id": vo_id, "job_id": job_id})


async def lock_held_job(tx: Tx, pilot: Caller, job_id: int, attempt: int) -> HeldJob | None:
    parameters = {**held_by(pilot, job_id, attempt), "held": [status.value for status in rules.HELD]}
    return await fetch_one(tx, HeldJob, Q.lock_held_job, parameters)


async def reported_end(tx: Tx, pilot: Caller, job_id: int, attempt: int) -> JobStatus | None:
    """How this pilot ended this attempt before; None when it did not."""
    status = await fetch_value(tx, Q.was_reported, held_by(pilot, job_id, attempt))
    return JobStatus(status) if status else None


async def renew_leases(tx: Tx, columns: dict[str, Any]) -> list[NotRenewed]:
    return await fetch(tx, NotRenewed, Q.renew_leases, {**columns, "lease_s": rules.LEASE_S})


async def extend_leases(tx: Tx) -> int:
    return await execute(tx, Q.extend_leases, {"lease_s": rules.LEASE_S})


async def record_usage(tx: Tx, columns: dict[str, Any]) -> None:
    await execute(tx, Q.record_usage, columns)


async def end_job(
    tx: Tx, vo_id: int, job: HeldJob, report: FinishReport, verdict: rules.Verdict, source: str, retry: Retry | None
) -> int | None:
    """The job's array, or None when its state did not allow this end."""
    done = verdict.status is JobStatus.DONE
    steps = [(verdict.status.value, verdict.minor_status, verdict.reason[:10_000]), *(retry.steps if retry else [])]
    error_class = None if done else rules.error_class(report)
    array_id: int | None = await fetch_value(
        tx,
        Q.end_job,
        {
            "vo_id": vo_id,
            "job_id": job.job_id,
            "attempt": job.attempt,
            "old_status": job.status.value,
            "old_queue_id": job.task_queue_id,
            "status": verdict.status.value,
            "next_status": retry.status.value if retry else verdict.status.value,
            "next_minor_status": retry.minor_status if retry else verdict.minor_status,
            "next_queue_id": retry.task_queue_id if retry else job.task_queue_id,
            "retried": retry.retried if retry else None,
            "delay_s": retry.delay_s if retry else 0,
            "error_class": error_class.value if error_class else None,
            "step_statuses": [status for status, _, _ in steps],
            "step_minors": [minor for _, minor, _ in steps],
            "step_reasons": [reason for _, _, reason in steps],
            "source": source,
            "exit_code": report.exit_code,
            "cpu_s": report.cpu_s,
            "wall_s": report.wall_s,
            "max_rss_bytes": report.max_rss_bytes,
            "sandbox_id": report.output_sandbox_id,
            "missing": report.missing,
            "lfns": [output.lfn for output in report.outputs] if done else [],
        },
    )
    return array_id


async def lock_expired_jobs(tx: Tx, now: datetime, limit: int) -> list[int]:
    return [row[0] for row in await fetch_rows(tx, Q.lock_expired_jobs, {"now": now, "limit": limit})]


async def lock_jobs_of_pilot(tx: Tx, pilot_id: int) -> list[int]:
    return [row[0] for row in await fetch_rows(tx, Q.lock_jobs_of_pilot, {"pilot_id": pilot_id})]


async def release_jobs(
    tx: Tx, job_ids: Sequence[int], source: str, reason: str, before: datetime | None = None
) -> list[Released]:
    """`before`: only those whose lease ended before it."""
    parameters = {
        "job_ids": list(job_ids),
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
