"""Commands over many existing jobs: each is done or refused on its own."""

from collections.abc import Awaitable, Callable, Sequence

from spinor.access import Caller, Scope
from spinor.db import Tx
from spinor.jobs import rules, store
from spinor.jobs.models import CommandJobs, JobStatus, Outcome, Refused
from spinor.jobs.rows import LockedJob
from spinor.jobs.rules import named
from spinor.jobs.service.logs import UnknownJob
from spinor.signals import notify

Change = Callable[[Tx, Caller, Sequence[int], str], Awaitable[list[int]]]


async def kill_jobs(tx: Tx, caller: Caller, command: CommandJobs) -> Outcome:
    """End jobs that are not final. A pilot that holds one is told at once, and stops its payload."""
    return await _command(tx, caller, command, JobStatus.KILLED, store.kill_jobs)


async def reschedule_jobs(tx: Tx, caller: Caller, command: CommandJobs) -> Outcome:
    """Let jobs that failed, were killed or run now wait for another attempt."""
    return await _command(tx, caller, command, JobStatus.RESCHEDULED, store.reschedule_jobs)


async def _command(tx: Tx, caller: Caller, command: CommandJobs, wanted: JobStatus, change: Change) -> Outcome:
    jobs = await store.lock_jobs(tx, caller.vo_id, command.job_ids, command.array_ids)
    _check_arrays(command.array_ids, jobs)
    refused = {job_id: _unknown(job_id) for job_id in set(command.job_ids) - {job.job_id for job in jobs}}
    for job in jobs:
        problem = _problem(caller, job, wanted)
        if problem:
            refused[job.job_id] = problem
    chosen = [job for job in jobs if job.job_id not in refused]
    done = await change(tx, caller, [job.job_id for job in chosen], command.reason)
    topics = {f"array:{job.array_id}" for job in chosen}
    topics |= {f"pilot:{job.pilot_id}" for job in chosen if job.status in rules.HELD}
    if topics:
        await notify(tx, *sorted(topics))
    return Outcome(done=done, refused=[refused[job_id] for job_id in sorted(refused)])


def _check_arrays(array_ids: Sequence[int], jobs: Sequence[LockedJob]) -> None:
    missing = sorted(set(array_ids) - {job.array_id for job in jobs})
    if missing:
        raise UnknownJob(f"There is no array {named([str(array_id) for array_id in missing])} in your VO.")


def _unknown(job_id: int) -> Refused:
    return Refused(job_id=job_id, code=UnknownJob.code, detail=f"There is no job {job_id} in your VO.")


def _problem(caller: Caller, job: LockedJob, wanted: JobStatus) -> Refused | None:
    own = job.owner_id == caller.user_id and caller.may(Scope.JOBS_SUBMIT)
    if not own and not caller.may(Scope.JOBS_MANAGE):
        detail = f"Job {job.job_id} is another user's; changing it needs the scope {Scope.JOBS_MANAGE.value}."
        return Refused(job_id=job.job_id, code="denied", detail=detail)
    if not rules.allowed(job.status, wanted):
        error = rules.refusal(job.job_id, job.status, wanted)
        return Refused(job_id=job.job_id, code=error.code, detail=error.message)
    return None
