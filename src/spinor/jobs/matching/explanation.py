"""Why a job is in its state, and what to change: sentences for people, and the same as facts for programs."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from spinor.access import Caller
from spinor.db import Tx
from spinor.jobs import rules
from spinor.jobs.logs.service import read_tail
from spinor.jobs.looking import store as looking
from spinor.jobs.looking.service import stored_job
from spinor.jobs.matching.waiting import why_it_waits
from spinor.jobs.models import ElementVerdict, Explanation, HistoryEntry, JobStatus, LogStream
from spinor.jobs.rows import StoredJob
from spinor.jobs.specs import spec_of
from spinor.jobs.storages import what_hinders

_TAIL_LINES = 10


async def explain_job(tx: Tx, caller: Caller, job_id: int) -> Explanation:
    """The state of a job, since when and why, in one sentence each."""
    job = await stored_job(tx, caller, job_id)
    history = await looking.list_history(tx, caller.vo_id, job_id)
    since = history[-1].at if history else job.submitted_at
    sentences = [_state(job, history, since)]
    facts: dict[str, Any] = {"attempt": job.attempt, "reschedules": job.reschedules}
    elements: list[ElementVerdict] = []
    if job.status in (JobStatus.WAITING, JobStatus.CHECKING):
        why = await why_it_waits(tx, caller, job)
        hindrance = await what_hinders(tx, caller, spec_of(job))
        sentences += [*hindrance.sentences, *why.sentences]
        facts |= why.facts
        if hindrance.facts:
            facts["storage"] = hindrance.facts
        elements = why.elements
    elif job.status is JobStatus.FAILED:
        await _explain_failed(tx, caller, job, sentences, facts)
    sentences += _earlier_attempts(job, history)
    return Explanation(
        job_id=job_id, status=job.status, since=since, sentences=sentences, facts=facts, elements=elements
    )


def _state(job: StoredJob, history: Sequence[HistoryEntry], since: datetime) -> str:
    last = history[-1] if history else None
    at = since.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    where = f" at site {job.site}" if job.site else ""
    by = f" by {last.source}" if last else ""
    reason = f": {last.reason}" if last and last.reason else ""
    name = f"Job {job.job_id}"
    match job.status:
        case JobStatus.WAITING:
            return f"{name} waits for a pilot since {at}."
        case JobStatus.CHECKING:
            return f"{name} may not start yet, since {at}: {job.minor_status}{reason}."
        case JobStatus.STALLED:
            return f"{name} is stalled since {at}: its pilot {job.pilot_id}{where} does not answer."
        case JobStatus.MATCHED:
            return f"{name} was given to pilot {job.pilot_id}{where} at {at}, which prepares it now."
        case JobStatus.RUNNING:
            return f"{name} runs since {at} on pilot {job.pilot_id}{where}, in attempt {job.attempt}."
        case JobStatus.DONE:
            return f"{name} ended well at {at}{where}, in attempt {job.attempt}."
        case JobStatus.FAILED:
            return f"{name} failed at {at}{where}, in attempt {job.attempt}: {job.minor_status}{reason}."
        case JobStatus.KILLED:
            return f"{name} was killed{by} at {at}{reason}."
        case _:
            return f"{name} is {job.status.value} since {at}{by}{reason}."


async def _explain_failed(tx: Tx, caller: Caller, job: StoredJob, sentences: list[str], facts: dict[str, Any]) -> None:
    facts["exit_code"] = job.exit_code
    for stream in (LogStream.STDERR, LogStream.STDOUT):
        tail = await _tail(tx, caller, job, stream)
        if tail:
            facts[f"{stream.value}_tail"] = tail
            sentences.append(f"The last lines of its {stream.value}:")
            sentences += [f"  {line}" for line in tail]
            return
    sentences.append("It wrote nothing to stdout or stderr.")


async def _tail(tx: Tx, caller: Caller, job: StoredJob, stream: LogStream) -> list[str]:
    data = await read_tail(tx, caller, job.job_id, job.attempt, stream)
    return data.decode(errors="replace").splitlines()[-_TAIL_LINES:]


def _earlier_attempts(job: StoredJob, history: Sequence[HistoryEntry]) -> list[str]:
    """How each attempt before the present one ended."""
    ends: dict[int, HistoryEntry] = {}
    final = rules.FINAL | {JobStatus.STALLED}
    for entry in history:
        if entry.attempt and entry.status in final:
            ends[entry.attempt] = entry
    over = job.status in (JobStatus.WAITING, JobStatus.CHECKING)
    return [
        f"Attempt {attempt} ended {entry.status.value}: {entry.minor_status}{entry.reason and f' ({entry.reason})'}."
        for attempt, entry in sorted(ends.items())
        if attempt < job.attempt or over
    ]
