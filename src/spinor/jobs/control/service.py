"""Commands over many existing jobs: each is done or refused on its own.

A command may name any number of jobs, by id, array, set or query. It works through them in batches, each a transaction
of its own: whatever breaks in between, what is done stays done, and the same command again does the rest.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import UTC, datetime

from spinor.access import Caller, Scope
from spinor.db import Database, Tx
from spinor.errors import BadInput
from spinor.jobs import rules
from spinor.jobs.control import changes, store
from spinor.jobs.errors import UnknownJob
from spinor.jobs.looking import store as looking
from spinor.jobs.looking.service import FIELDS
from spinor.jobs.models import ChosenJobs, CommandJobs, IdRange, JobStatus, Outcome, PrioritiseJobs, Refused
from spinor.jobs.rows import Change, LockedJob
from spinor.jobs.rules import named
from spinor.search import parse
from spinor.search.where import compile_where
from spinor.signals import notify

S = JobStatus
BATCH = 5000
NOT_STARTED = frozenset({S.SUBMITTING, S.RECEIVED, S.CHECKING, S.SCOUTING, S.STAGING, S.WAITING})

# What to do with jobs in a state: the change, or why not (code, sentence).
Decision = Change | tuple[str, str] | int
Decide = Callable[[LockedJob], Decision]


async def kill_jobs(db: Database, caller: Caller, command: CommandJobs) -> Outcome:
    """End jobs that are not final. A pilot that holds one is told at once, and stops its payload."""
    change = changes.killed(caller.user, command.reason)
    return await _command(db, caller, command, lambda job: _checked(job, S.KILLED, change))


async def delete_jobs(db: Database, caller: Caller, command: CommandJobs) -> Outcome:
    """Take jobs out of people's sight; those that have not ended are killed first."""
    ended, living = (changes.deleted(caller.user, command.reason, ended=each) for each in (True, False))

    def decide(job: LockedJob) -> Decision:
        if job.status in rules.FINAL:
            return _checked(job, S.DELETED, ended)
        return _checked(job, S.KILLED, living)

    return await _command(db, caller, command, decide)


async def reschedule_jobs(db: Database, caller: Caller, command: CommandJobs) -> Outcome:
    """Let jobs that ended or run now wait for another attempt. A job that is done must have left no output data."""
    change = changes.rescheduled(caller.user, command.reason)
    return await _command(db, caller, command, lambda job: _checked(job, S.RESCHEDULED, change))


async def hold_jobs(db: Database, caller: Caller, command: CommandJobs) -> Outcome:
    """Keep jobs from running until they are released; a pilot that holds one stops its payload."""
    waiting, running = (changes.held(caller.user, command.reason, running=each) for each in (False, True))

    def decide(job: LockedJob) -> Decision:
        if job.status is S.CHECKING and job.minor_status.startswith(rules.held_by("")):
            return "transition-refused", "It is held already."
        if job.status in NOT_STARTED:
            return waiting
        return _checked(job, S.RESCHEDULED, running) if job.status in rules.HELD else _ended(job)

    return await _command(db, caller, command, decide)


async def release_jobs(db: Database, caller: Caller, command: CommandJobs) -> Outcome:
    """Let held jobs go on: into their queue, or to wait for the jobs that they come after."""
    queued, waits = changes.queued(caller.user, command.reason or "released"), changes.made_to_wait(caller.user)

    def decide(job: LockedJob) -> Decision:
        if job.status is not S.CHECKING or not job.minor_status.startswith(rules.held_by("")):
            return "transition-refused", f"It is {job.status.value}, and nobody holds it."
        return waits if job.has_open_dependency else queued

    return await _command(db, caller, command, decide)


async def prioritise_jobs(db: Database, caller: Caller, command: PrioritiseJobs) -> Outcome:
    """Give jobs that have not ended another priority; waiting ones change their place at once."""
    return await _command(
        db, caller, command, lambda job: _ended(job) if job.status in rules.FINAL else command.priority
    )


def _checked(job: LockedJob, wanted: JobStatus, change: Change) -> Decision:
    if rules.allowed(job.status, wanted):
        if wanted is S.RESCHEDULED and job.status is S.DONE and job.has_outputs:
            return "has-outputs", "It is done and its outputs are registered; remove them before it runs again."
        return change
    error = rules.refusal(job.status, wanted)
    return error.code, error.message


def _ended(job: LockedJob) -> tuple[str, str]:
    return "transition-refused", f"It is {job.status.value}: it has ended already."


class _Tally:
    """The answer to a command, while it is put together."""

    def __init__(self) -> None:
        self.done: list[int] = []
        self.refused: dict[tuple[str, str], list[int]] = defaultdict(list)

    def outcome(self) -> Outcome:
        refused = [
            Refused(job_ids=ranges(job_ids), code=code, detail=detail)
            for (code, detail), job_ids in sorted(self.refused.items(), key=lambda item: item[1][0])
        ]
        return Outcome(done=ranges(self.done), refused=refused)


def ranges(job_ids: Iterable[int]) -> list[IdRange]:
    """Runs without a gap."""
    found: list[IdRange] = []
    for job_id in sorted(job_ids):
        if found and found[-1].last == job_id - 1:
            found[-1] = IdRange(found[-1].first, job_id)
        else:
            found.append(IdRange(job_id, job_id))
    return found


async def _command(db: Database, caller: Caller, command: CommandJobs, decide: Decide) -> Outcome:
    tally = _Tally()
    async for batch in chosen(db, caller, command):
        async with db.transaction() as tx:
            await _carry_out(tx, caller, command, batch, decide, tally)
    return tally.outcome()


async def chosen(db: Database, caller: Caller, choice: ChosenJobs) -> AsyncIterator[Sequence[int]]:
    """The ids that a choice means, in batches. UnknownJob for an array or a set that is not there; BadQuery."""
    if not (choice.job_ids or choice.array_ids or choice.job_groups or choice.where):
        raise BadInput("Name jobs: `job_ids`, `array_ids`, `job_groups` or `where`.", field="job_ids")
    where, parameters = compile_where(parse(choice.where), FIELDS, datetime.now(UTC))
    async with db.statements() as tx:
        arrays = await store.list_arrays(tx, caller.vo_id, choice.array_ids, choice.job_groups)
    missing = sorted(set(choice.array_ids) - {array.array_id for array in arrays})
    if missing:
        raise UnknownJob(f"There is no array {named([str(each) for each in missing])} in your VO.")
    if choice.job_groups and not arrays:
        raise UnknownJob(f"There is no job in the set {named(choice.job_groups)} in your VO.")
    single = sorted(set(choice.job_ids))
    for start in range(0, len(single), BATCH):
        yield single[start : start + BATCH]
    for array in arrays:
        for first in range(array.first_job_id, array.first_job_id + array.size, BATCH):
            yield range(first, min(first + BATCH, array.first_job_id + array.size))
    after = 0
    while choice.where:
        async with db.statements() as tx:
            found = await looking.list_chosen(tx, caller.vo_id, where, parameters, after, BATCH)
        if found:
            yield found
            after = found[-1]
        if len(found) < BATCH:
            return


async def _carry_out(
    tx: Tx, caller: Caller, command: CommandJobs, job_ids: Sequence[int], decide: Decide, tally: _Tally
) -> None:
    jobs = await store.lock_jobs(tx, caller.vo_id, job_ids)
    for job_id in set(job_ids) - {job.job_id for job in jobs}:
        tally.refused[UnknownJob.code, "There is no such job in your VO."].append(job_id)
    by_decision: dict[int, tuple[Decision, list[LockedJob]]] = {}
    for job in jobs:
        decision: Decision = decide(job) if _may(caller, job) else _DENIED
        if isinstance(decision, tuple):
            tally.refused[decision].append(job.job_id)
        else:
            by_decision.setdefault(id(decision), (decision, []))[1].append(job)
    topics: set[str] = set()
    for decision, group in by_decision.values():
        tally.done += await _change(tx, caller, command, decision, group)
        topics |= {f"array:{job.array_id}" for job in group}
        topics |= {f"pilot:{job.pilot_id}" for job in group if job.status in rules.HELD}
    if topics:
        await notify(tx, *sorted(topics))


async def _change(
    tx: Tx, caller: Caller, command: CommandJobs, decision: Decision, group: Sequence[LockedJob]
) -> list[int]:
    job_ids = [job.job_id for job in group]
    if isinstance(decision, int):
        return await store.prioritise_jobs(tx, caller, job_ids, decision, command.reason)
    assert isinstance(decision, Change)
    return await store.change_jobs(tx, caller.vo_id, job_ids, sorted({job.status for job in group}), decision)


_DENIED = ("denied", f"It is another user's; changing it needs the scope {Scope.JOBS_MANAGE.value}.")


def _may(caller: Caller, job: LockedJob) -> bool:
    own = job.owner_id == caller.user_id and caller.may(Scope.JOBS_SUBMIT)
    return own or caller.may(Scope.JOBS_MANAGE)
