"""What pilots report of their attempts: started, ended, or given back unused. Reports of many jobs come together."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import msgspec
import psycopg

from spinor.access import Caller
from spinor.catalog import service as catalog
from spinor.catalog.models import NewFile
from spinor.db import Tx
from spinor.errors import BadInput, Conflict, SpinorError
from spinor.identity import service as identity
from spinor.jobs import rules
from spinor.jobs.attempts import store
from spinor.jobs.attempts.retries import retry_of
from spinor.jobs.control import store as control
from spinor.jobs.control.changes import given_back
from spinor.jobs.errors import StaleReport
from spinor.jobs.models import (
    Answer,
    AttemptRef,
    EndReport,
    ErrorClass,
    FinishReport,
    JobSpec,
    JobStatus,
    OutputData,
    OutputFile,
    Refusal,
    Reported,
    Reports,
)
from spinor.jobs.rows import HeldJob
from spinor.jobs.rules import Verdict, named
from spinor.jobs.specs import names_many, places_of, spec_of, suffix_of
from spinor.signals import notify
from spinor.types import LFN, PFN, SEName

_Attempt = tuple[int, int]
_Held = dict[_Attempt, HeldJob]


class UnwantedOutput(Conflict):
    """The report names an output that the job's description does not."""

    code = "unwanted-output"


async def take_reports(tx: Tx, pilot: Caller, reports: Reports) -> Reported:
    """Write down what a pilot reports, in one transaction, and answer to each report in its place.

    Repeating a report is harmless. What the server refuses of one report says nothing about the others. A job whose
    outputs the catalog refuses has failed, with the catalog's words as the reason.
    """
    attempts = [each.key for each in [*reports.started, *reports.returned]] + [each.key for each in reports.ended]
    if len({job_id for job_id, _ in attempts}) < len(attempts):
        raise BadInput("Each job can be reported on once in a request.", field="ended")
    held = await store.lock_held_jobs(tx, pilot, attempts)
    return Reported(
        started=await _start(tx, pilot, held, reports.started),
        ended=await _end(tx, pilot, held, reports.ended),
        returned=await _give_back(tx, pilot, held, reports.returned),
    )


async def start_job(tx: Tx, pilot: Caller, job_id: int, attempt: int) -> None:
    """The payload runs. A repeated report is harmless; StaleReport when the attempt is not this pilot's."""
    held = await store.lock_held_jobs(tx, pilot, [(job_id, attempt)])
    [answer] = await _start(tx, pilot, held, [AttemptRef(job_id=job_id, attempt=attempt)])
    if answer.refused is not None:
        raise StaleReport(job_id=job_id, attempt=attempt)


async def finish_job(tx: Tx, pilot: Caller, job_id: int, report: FinishReport) -> JobStatus:
    """Register the outputs and end the job, in one transaction. Repeating the same report is harmless."""
    held = await store.lock_held_jobs(tx, pilot, [(job_id, report.attempt)])
    [ended] = await _ended(tx, pilot, held, [EndReport(job_id=job_id, **msgspec.structs.asdict(report))])
    if isinstance(ended, SpinorError):
        raise ended
    return ended


async def _start(tx: Tx, pilot: Caller, held: _Held, started: Sequence[AttemptRef]) -> list[Answer]:
    new = [job for each in started if (job := held.get(each.key)) is not None and job.status is JobStatus.MATCHED]
    if new:
        await store.start_jobs(tx, pilot, [(job.job_id, job.attempt) for job in new])
        held |= {(job.job_id, job.attempt): msgspec.structs.replace(job, status=JobStatus.RUNNING) for job in new}
    return [
        Answer(status=job.status) if (job := held.get(each.key)) is not None else _refusal(_stale(each.key))
        for each in started
    ]


async def _give_back(tx: Tx, pilot: Caller, held: _Held, returned: Sequence[AttemptRef]) -> list[Answer]:
    """Attempts that never began wait again as if they had not been given."""
    unused = [job for each in returned if (job := held.get(each.key)) is not None and job.status is JobStatus.MATCHED]
    done: set[int] = set()
    if unused:
        change = given_back(rules.source_of(pilot.pilot_id or 0))
        done.update(
            await control.change_jobs(tx, pilot.vo_id, [job.job_id for job in unused], [JobStatus.MATCHED], change)
        )
    return [
        Answer(status=JobStatus.WAITING) if each.job_id in done else _refusal(_stale(each.key)) for each in returned
    ]


async def _end(tx: Tx, pilot: Caller, held: _Held, ended: Sequence[EndReport]) -> list[Answer]:
    return [
        _refusal(each) if isinstance(each, SpinorError) else Answer(status=each)
        for each in await _ended(tx, pilot, held, ended)
    ]


async def _ended(tx: Tx, pilot: Caller, held: _Held, ended: Sequence[EndReport]) -> list[JobStatus | SpinorError]:
    unknown = [report.key for report in ended if report.key not in held]
    before = await store.reported_ends(tx, pilot, unknown) if unknown else {}
    answers: dict[_Attempt, JobStatus | SpinorError] = {**before}
    well: list[tuple[HeldJob, JobSpec, EndReport, Verdict]] = []
    for report in ended:
        job = held.get(report.key)
        if job is None:
            answers.setdefault(report.key, _stale(report.key))
            continue
        spec, report = spec_of(job), _storable(report)
        try:
            well.append((job, spec, report, rules.verdict(report, _wanted_outputs(job, spec, report))))
        except UnwantedOutput as refused:
            answers[report.key] = refused
    # The reports of their starts were lost on the way, or they ended so soon that there were none.
    silent = [
        (job.job_id, job.attempt)
        for job, _, _, verdict in well
        if verdict.status is JobStatus.DONE and job.status is JobStatus.MATCHED
    ]
    if silent:
        await store.start_jobs(tx, pilot, silent)
    # Whoever registers files locks their directories: all in one order, so that two pilots never wait for each other.
    well.sort(key=lambda each: min((output.lfn for output in each[2].outputs), default=""))
    ends = [await _end_of(tx, pilot, *each, started=each[2].key in silent) for each in well]
    ends.sort(key=lambda end: end.job.job_id)  # The order in which a heartbeat takes the same leases.
    arrays = await store.end_jobs(tx, pilot.vo_id, ends, rules.source_of(pilot.pilot_id or 0)) if ends else {}
    for end in ends:
        key = (end.job.job_id, end.job.attempt)
        answers[key] = end.verdict.status if end.job.job_id in arrays else _stale(key)
    if arrays:
        await notify(tx, *(f"array:{array_id}" for array_id in sorted(set(arrays.values()))))
    return [answers[report.key] for report in ended]


async def _end_of(
    tx: Tx, pilot: Caller, job: HeldJob, spec: JobSpec, report: EndReport, verdict: Verdict, *, started: bool
) -> store.End:
    """The end, after its outputs were registered."""
    if started:
        job = msgspec.structs.replace(job, status=JobStatus.RUNNING)
    if verdict.status is JobStatus.DONE and report.outputs:
        verdict = await _registered(tx, pilot, job, spec, report, verdict)
    if verdict.status is JobStatus.FAILED and verdict.error_class is not None:
        report = msgspec.structs.replace(report, error_class=verdict.error_class)
    retry = await retry_of(tx, pilot.vo_id, job, spec, report) if verdict.status is JobStatus.FAILED else None
    return store.End(job=job, report=report, verdict=verdict, retry=retry)


def _storable(report: EndReport) -> EndReport:
    """No text of PostgreSQL can hold the character NUL, and one report with it must not keep the others out."""
    if "\0" not in report.error and not any("\0" in name for name in report.missing):
        return report
    missing = [name.replace("\0", "\ufffd") for name in report.missing]
    return msgspec.structs.replace(report, error=report.error.replace("\0", "\ufffd"), missing=missing)


def _stale(key: _Attempt) -> StaleReport:
    return StaleReport(job_id=key[0], attempt=key[1])


def _refusal(error: SpinorError) -> Answer:
    return Answer(refused=Refusal(status=error.status, code=error.code, detail=error.message))


def _wanted_outputs(job: HeldJob, spec: JobSpec, report: FinishReport) -> list[str]:
    """The outputs that must be there, as the description names them, without those that are.

    A pilot acts for the owner here, so it can register nothing but what the owner asked for: UnwantedOutput.
    """
    missing = {output.path: output.lfn for output in spec.output_data if output.required}
    for file in report.outputs:
        found = _asked_for(spec, file)
        if found is None or not file.pfn.endswith(suffix_of(job)):
            raise UnwantedOutput(lfn=file.lfn, se=file.se, job_id=job.job_id)
        missing.pop(found.path, None)
    return list(missing.values())


def _asked_for(spec: JobSpec, file: OutputFile) -> OutputData | None:
    """The part of the description that a file answers to."""
    for output in spec.output_data:
        if file.se not in (*places_of(output), *output.failover):
            continue
        if file.lfn == output.lfn:
            return output
        directory, _, name = file.lfn.rpartition("/")
        pattern = output.path.rpartition("/")[2]
        if names_many(output) and directory == output.lfn.rstrip("/") and fnmatchcase(name, pattern):
            return output
    return None


def _metadata(spec: JobSpec, file: OutputFile) -> dict[str, Any]:
    output = _asked_for(spec, file)
    return dict(output.metadata) if output else {}


def _refused(reason: str) -> Verdict:
    return Verdict(
        status=JobStatus.FAILED, minor_status="output data refused", reason=reason, error_class=ErrorClass.DATA
    )


async def _registered(
    tx: Tx, pilot: Caller, job: HeldJob, spec: JobSpec, report: FinishReport, verdict: Verdict
) -> Verdict:
    files = [
        NewFile(
            lfn=LFN(output.lfn),
            se=SEName(output.se),
            size_bytes=output.size_bytes,
            adler32=output.adler32,
            sha256=output.sha256,
            pfn=PFN(output.pfn),
            metadata=_metadata(spec, output),
        )
        for output in report.outputs
    ]
    try:
        async with tx.transaction():
            owner = await identity.caller_of_member(tx, pilot.vo_id, job.owner_id, job.group_id)
            await catalog.register_files(tx, owner, files)
    except SpinorError as error:
        if error.retry:
            raise
        return _refused(error.message)
    except psycopg.IntegrityError:
        reason = (
            f"somebody registered one of these at the same moment: {named([output.lfn for output in report.outputs])}"
        )
        return _refused(reason)
    return verdict
