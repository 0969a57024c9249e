"""The life of an attempt under its lease: start, renew, finish; and what becomes of it when its pilot is lost."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

import msgspec
import psycopg

from spinor.access import Caller
from spinor.catalog import service as catalog
from spinor.catalog.models import NewFile
from spinor.db import Tx, array_text
from spinor.errors import Conflict, SpinorError
from spinor.identity import service as identity
from spinor.jobs import rules
from spinor.jobs.attempts import store
from spinor.jobs.attempts.retries import retry_of
from spinor.jobs.errors import StaleReport
from spinor.jobs.models import ErrorClass, FinishReport, Held, JobSpec, JobStatus, Lost, OutputData, OutputFile
from spinor.jobs.rows import HeldJob, NotRenewed, QuickFailures
from spinor.jobs.rules import Verdict, named
from spinor.jobs.specs import names_many, places_of, spec_of, suffix_of
from spinor.jobs.usage import service as usage
from spinor.signals import notify
from spinor.types import LFN, PFN, SEName

_BATCH = 1000


class UnwantedOutput(Conflict):
    """The report names an output that the job's description does not."""

    code = "unwanted-output"


async def start_job(tx: Tx, pilot: Caller, job_id: int, attempt: int) -> None:
    """The payload runs. A repeated report is harmless; StaleReport when the attempt is not this pilot's."""
    if await store.start_job(tx, pilot, job_id, attempt):
        return
    job = await store.find_attempt(tx, pilot.vo_id, job_id)
    if job and (job.attempt, job.pilot_id, job.status) == (attempt, pilot.pilot_id, JobStatus.RUNNING):
        return
    raise StaleReport(job_id=job_id, attempt=attempt)


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


async def finish_job(tx: Tx, pilot: Caller, job_id: int, report: FinishReport) -> JobStatus:
    """Register the outputs and end the job, in one transaction. Repeating the same report is harmless.

    A job whose outputs the catalog refuses has failed, with the catalog's words as the reason.
    """
    job = await store.lock_held_job(tx, pilot, job_id, report.attempt)
    if job is None:
        ended = await store.reported_end(tx, pilot, job_id, report.attempt)
        if ended is not None:
            return ended
        raise StaleReport(job_id=job_id, attempt=report.attempt)
    spec = spec_of(job)
    wanted = _wanted_outputs(job, spec, report)
    verdict = rules.verdict(report, wanted)
    if verdict.status is JobStatus.DONE:
        if job.status is JobStatus.MATCHED:
            # The report of its start was lost on the way.
            await store.start_job(tx, pilot, job_id, report.attempt)
            job = msgspec.structs.replace(job, status=JobStatus.RUNNING)
        if report.outputs:
            verdict = await _registered(tx, pilot, job, spec, report, verdict)
    if verdict.status is JobStatus.FAILED and verdict.error_class is not None:
        report = msgspec.structs.replace(report, error_class=verdict.error_class)
    retry = await retry_of(tx, pilot.vo_id, job, spec, report) if verdict.status is JobStatus.FAILED else None
    array_id = await store.end_job(tx, pilot.vo_id, job, report, verdict, rules.source_of(pilot.pilot_id or 0), retry)
    if array_id is None:
        raise StaleReport(job_id=job_id, attempt=report.attempt)
    await notify(tx, f"array:{array_id}")
    return verdict.status


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


async def release_jobs_of_pilot(tx: Tx, pilot_id: int, reason: str) -> list[int]:
    """Take from a pilot that is gone all that it held: the jobs wait again, or failed when that came too often."""
    job_ids = await store.lock_jobs_of_pilot(tx, pilot_id)
    if not job_ids:
        return []
    released = await store.release_jobs(tx, job_ids, rules.source_of(pilot_id), reason)
    await _tell(tx, {row.array_id for row in released if row.status is JobStatus.FAILED})
    return [row.job_id for row in released]


async def expire_leases(tx: Tx, now: datetime | None = None) -> list[int]:
    """The jobs whose pilot has been silent for a minute wait again, or failed when that happened too often.

    At most 1,000 at a time, skipping those that somebody is changing: repeat while the answer is full.
    """
    before = now or datetime.now(UTC)
    job_ids = await store.lock_expired_jobs(tx, before, _BATCH)
    if not job_ids:
        return []
    reason = f"its pilot was silent for {rules.LEASE_S} s"
    released = await store.release_jobs(tx, job_ids, "lease", reason, before)
    await _tell(tx, {row.array_id for row in released if row.status is JobStatus.FAILED})
    return [row.job_id for row in released]


async def _tell(tx: Tx, array_ids: set[int]) -> None:
    if array_ids:
        await notify(tx, *(f"array:{array_id}" for array_id in sorted(array_ids)))


async def quick_failures(tx: Tx, *, within_s: float, shorter_s: float) -> list[QuickFailures]:
    """The pilots of which attempts failed at once, for reasons of their site, within the last `within_s` seconds."""
    return await store.list_quick_failures(tx, within_s=within_s, shorter_s=shorter_s)
