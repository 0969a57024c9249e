"""What becomes of a job whose attempt failed: another attempt, after a pause and maybe with more memory, or its end."""

import msgspec

from spinor.db import Tx
from spinor.jobs import rules
from spinor.jobs.models import ErrorClass, FinishReport, JobSpec, JobStatus, Requirements
from spinor.jobs.rows import HeldJob, Retry
from spinor.jobs.submission import store as submission


async def retry_of(tx: Tx, vo_id: int, job: HeldJob, spec: JobSpec, report: FinishReport) -> Retry | None:
    """The next attempt, or None when the job has had as many of this class as it may."""
    kind = rules.error_class(report)
    place = rules.ERROR_CLASSES.index(kind)
    counts = list(job.retried or [0] * len(rules.ERROR_CLASSES))
    most = rules.allowed_retries(spec.retries)[place]
    if counts[place] >= most:
        return None
    delay_s = rules.retry_delay_s(spec.retries, sum(counts))
    counts[place] += 1
    word = f"retry {counts[place]} of {most} after an error of class {kind.value}"
    queue_id, grown = job.task_queue_id, ""
    if kind is ErrorClass.MEMORY:
        queue_id, grown = await _grown(tx, vo_id, job, spec)
    minor_status = f"{word}{grown}"
    return Retry(
        status=JobStatus.CHECKING,
        minor_status=minor_status,
        task_queue_id=queue_id,
        retried=counts,
        delay_s=delay_s,
        steps=[
            (JobStatus.RESCHEDULED.value, minor_status, ""),
            (JobStatus.CHECKING.value, minor_status, f"pauses for {delay_s} s"),
        ],
    )


async def _grown(tx: Tx, vo_id: int, job: HeldJob, spec: JobSpec) -> tuple[int, str]:
    """The queue of the same requirements with more memory."""
    wants: Requirements = await submission.requirements_of(tx, vo_id, job.task_queue_id)
    more = int(wants.memory_bytes * spec.retries.memory_growth)
    grown = msgspec.structs.replace(wants, memory_bytes=more)
    return await submission.task_queue_of(tx, grown), f", with {more:,} bytes of memory"
