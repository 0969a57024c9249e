"""Why a job is in its state, and what to change: sentences for people, and the same as facts for programs."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from spinor.access import Caller
from spinor.db import Tx
from spinor.jobs import rules
from spinor.jobs.logs.service import read_tail
from spinor.jobs.looking import store as looking
from spinor.jobs.looking.service import stored_job
from spinor.jobs.matching import store
from spinor.jobs.matching.elements import capacity_of
from spinor.jobs.models import ElementVerdict, Explanation, HistoryEntry, JobStatus, LogStream
from spinor.jobs.rows import PilotCount, PlaceInQueue, StoredJob
from spinor.jobs.specs import spec_of
from spinor.resources import service as resources

_TAIL_LINES = 10


async def explain_job(tx: Tx, caller: Caller, job_id: int) -> Explanation:
    """The state of a job, since when and why, in one sentence each."""
    job = await stored_job(tx, caller, job_id)
    history = await looking.list_history(tx, caller.vo_id, job_id)
    since = history[-1].at if history else job.submitted_at
    sentences = [_state(job, history, since)]
    facts: dict[str, Any] = {"attempt": job.attempt, "reschedules": job.reschedules}
    elements: list[ElementVerdict] = []
    if job.status is JobStatus.WAITING:
        elements = await _explain_waiting(tx, caller, job, sentences, facts)
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


async def _explain_waiting(
    tx: Tx, caller: Caller, job: StoredJob, sentences: list[str], facts: dict[str, Any]
) -> list[ElementVerdict]:
    place = await store.find_place_in_queue(tx, caller.vo_id, job.job_id)
    if place:
        facts["jobs_ahead_in_queue"] = place.ahead_in_queue
        facts["jobs_ahead_in_other_queues"] = place.ahead_in_others
        sentences.append(_place(place))
    elements = await _elements(tx, caller, job)
    able = [verdict for verdict in elements if not verdict.excluded_by]
    if able:
        named = rules.named([f"{verdict.computing_element} (site {verdict.site})" for verdict in able])
        sentences.append(f"It can run on {named}.")
    for verdict in elements:
        if verdict.excluded_by:
            clauses = "; ".join(verdict.excluded_by)
            sentences.append(f"{verdict.computing_element} (site {verdict.site}) cannot run it: {clauses}.")
    if not able:
        sentences.append(_remedy(caller, elements))
    pilots = await store.count_pilots_alive(tx, caller.vo_id)
    facts["pilots_alive"] = sum(row.pilots for row in pilots)
    sentences.append(_pilots(caller, pilots))
    return elements


def _place(place: PlaceInQueue) -> str:
    if not place.ahead_in_queue and not place.ahead_in_others:
        return "No other job of the VO goes before it."
    same, others, queues = place.ahead_in_queue, place.ahead_in_others, place.other_queues
    return (
        f"Before it {'goes' if same == 1 else 'go'} {_jobs(same)} of the same requirements, and {_jobs(others)} "
        f"in {queues} other task queue{'' if queues == 1 else 's'} of the VO."
    )


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count:,} jobs" if count else "no job"


async def _elements(tx: Tx, caller: Caller, job: StoredJob) -> list[ElementVerdict]:
    owner = replace(caller, user_id=job.owner_id, group_id=job.group_id)
    wants = rules.requirements(spec_of(job), owner)
    return [
        ElementVerdict(
            computing_element=element.name,
            site=element.site,
            excluded_by=rules.exclusions(wants, capacity_of(element)),
        )
        for element in await resources.computing_elements(tx)
        if caller.vo_id in element.vo_ids
    ]


def _remedy(caller: Caller, elements: Sequence[ElementVerdict]) -> str:
    if not elements:
        return (
            f"VO {caller.vo} may use no computing element, so nothing can run; an operator adds one (`spinor config`)."
        )
    nearest = min(elements, key=lambda verdict: len(verdict.excluded_by))
    fields = rules.listed([clause.partition(":")[0] for clause in nearest.excluded_by])
    return (
        f"No computing element can run it as it is. {nearest.computing_element} comes nearest: "
        f"submit it again with another value of {fields}, and kill this one."
    )


def _pilots(caller: Caller, pilots: Sequence[PilotCount]) -> str:
    if not pilots:
        return f"No pilot of VO {caller.vo} is alive now; the pilot factory submits them where jobs can run."
    counts = ", ".join(f"{row.pilots} {row.status} on {row.computing_element}" for row in pilots)
    return f"Pilots of VO {caller.vo} that are alive: {counts}."


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
    over = job.status is JobStatus.WAITING
    return [
        f"Attempt {attempt} ended {entry.status.value}: {entry.minor_status}{entry.reason and f' ({entry.reason})'}."
        for attempt, entry in sorted(ends.items())
        if attempt < job.attempt or over
    ]
