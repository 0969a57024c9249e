"""What lets jobs out of `checking` without a person: a pause that is over, other jobs that ended. And deadlines."""

from collections.abc import Sequence
from itertools import groupby

from spinor.db import Tx
from spinor.jobs import rules
from spinor.jobs.control import changes, store
from spinor.jobs.models import Condition, JobStatus
from spinor.jobs.rows import Change, ChosenJob, Dependency
from spinor.jobs.rules import STORAGE_PAUSE
from spinor.signals import notify

S = JobStatus
BATCH = 1000

WISHED: dict[Condition, tuple[JobStatus, ...]] = {
    Condition.DONE: (S.DONE,),
    Condition.FAILED: (S.FAILED, S.KILLED),
    Condition.ENDED: (S.DONE, S.FAILED, S.KILLED, S.DELETED),
}


async def end_pauses(tx: Tx) -> int:
    """Queue the jobs whose pause before a retry is over; how many. At most 1,000: repeat while the answer is full."""
    return await _change_each(
        tx, await store.lock_due_jobs(tx, BATCH), (S.CHECKING,), changes.queued("retry", "pause over")
    )


async def end_storage_pauses(tx: Tx) -> int:
    """Let the jobs go on that wait for storage elements, when one of these has come back; how many."""
    return await store.end_storage_pauses(tx, STORAGE_PAUSE)


async def fail_late(tx: Tx) -> int:
    """End the jobs that have not started by their deadline; how many. At most 1,000: repeat while full."""
    late = await store.lock_late_jobs(tx, BATCH)
    change = changes.failed("deadline", "deadline passed", "it had not started by its deadline")
    done = await _change_each(tx, late, (S.WAITING, S.CHECKING, S.MATCHED), change)
    if len(late) < BATCH:
        await store.forget_deadlines(tx)
    return done


async def _change_each(tx: Tx, jobs: Sequence[ChosenJob], sources: Sequence[JobStatus], change: Change) -> int:
    for vo_id, group in groupby(sorted(jobs, key=lambda job: (job.vo_id, job.job_id)), key=lambda job: job.vo_id):
        await store.change_jobs(tx, vo_id, [job.job_id for job in group], sources, change)
    topics = {f"array:{job.array_id}" for job in jobs} | {f"pilot:{job.pilot_id}" for job in jobs if job.pilot_id}
    if topics:
        await notify(tx, *sorted(topics))
    return len(jobs)


async def open_gates(tx: Tx) -> int:
    """Look at every array that waits for jobs; how many jobs that let go, or ended because it can never come true."""
    moved = 0
    for dependency in await store.lock_open_dependencies(tx):
        moved += await (_look_each if dependency.each else _look)(tx, dependency)
    return moved


async def _look(tx: Tx, dependency: Dependency) -> int:
    """The whole array waits for all of the other jobs."""
    wished = WISHED[dependency.condition]
    jobs = (dependency.open_from, dependency.last_job_id)
    found = await store.find_first_open(tx, dependency.vo_id, jobs, wished)
    if found is None:
        await store.set_dependency(tx, dependency, dependency.last_job_id + 1, fulfilled=True)
        if await store.count_open_dependencies(tx, dependency.vo_id, dependency.array_id):
            return 0
        return await _all(tx, dependency, dependency.own, changes.queued("dependency", "what it waits for has ended"))
    job_id, status = found
    if status in rules.FINAL:
        await store.set_dependency(tx, dependency, job_id, fulfilled=True)
        return await _all(tx, dependency, dependency.own, _impossible(dependency, job_id, status))
    if job_id > dependency.open_from:
        await store.set_dependency(tx, dependency, job_id, fulfilled=False)
    return 0


async def _look_each(tx: Tx, dependency: Dependency) -> int:
    """Element i waits for element i. An array with another open dependency waits for that one first."""
    others = await store.count_open_dependencies(tx, dependency.vo_id, dependency.array_id)
    if others > 1:
        return 0
    shift = dependency.own_first - dependency.first_job_id
    moved = 0
    for job_id, status in await store.list_ended_among(
        tx, dependency.vo_id, (dependency.open_from, dependency.last_job_id)
    ):
        own = (job_id + shift, job_id + shift)
        if status in WISHED[dependency.condition]:
            moved += await _all(tx, dependency, own, changes.queued("dependency", f"job {job_id} has ended"))
        else:
            moved += await _all(tx, dependency, own, _impossible(dependency, job_id, status))
    ends = WISHED[Condition.ENDED]
    found = await store.find_first_open(tx, dependency.vo_id, (dependency.open_from, dependency.last_job_id), ends)
    if found is None:
        await store.set_dependency(tx, dependency, dependency.last_job_id + 1, fulfilled=True)
    elif found[0] > dependency.open_from:
        await store.set_dependency(tx, dependency, found[0], fulfilled=False)
    return moved


def _impossible(dependency: Dependency, job_id: int, status: JobStatus) -> Change:
    reason = f"it waits for job {job_id} to be {dependency.condition.value}, and that is {status.value}"
    return changes.failed("dependency", "a job that it waits for ended otherwise", reason)


async def _all(tx: Tx, dependency: Dependency, jobs: tuple[int, int], change: Change) -> int:
    """Change the jobs of the range that wait for others; held ones stay held."""
    moved = 0
    while True:
        found = await store.lock_dependents(tx, dependency.vo_id, jobs, rules.WAITS_FOR_OTHERS, BATCH)
        moved += await _change_each(tx, found, (S.CHECKING,), change)
        if len(found) < BATCH:
            return moved
