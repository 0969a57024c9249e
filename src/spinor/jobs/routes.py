"""Jobs over HTTP. A long poll holds no transaction while it waits."""

import asyncio
import time
from typing import Any

from starlette.requests import Request

from spinor.access import Caller, Scope
from spinor.db import Database, Tx
from spinor.errors import BadInput
from spinor.http import Public, Routes, State
from spinor.jobs import service
from spinor.jobs.description.schema import schema
from spinor.jobs.logs.routes import routes as logs
from spinor.jobs.models import (
    Checked,
    CommandJobs,
    Explanation,
    HistoryEntry,
    Job,
    JobPage,
    JobStatistics,
    JobSummary,
    Outcome,
    PrioritiseJobs,
    Progress,
    StatisticsQuery,
    SubmitJobs,
    Submitted,
    SummariseJobs,
    TaskQueuePage,
    TaskQueueQuery,
    Waited,
    WaitForJobs,
)
from spinor.jobs.sandboxes.routes import routes as sandboxes
from spinor.jobs.service import Intake, Matcher
from spinor.jobs.usage.routes import routes as usage
from spinor.search.models import Search
from spinor.signals import Signals, notify

routes = Routes("jobs")


@routes.get("/api/payload/job", scope=Scope.PAYLOAD_ACT)
async def own_job(tx: Tx, caller: Caller) -> Job:
    """Show the job to its own payload."""
    return await service.own_job(tx, caller)


@routes.post("/api/payload/progress", scope=Scope.PAYLOAD_ACT)
async def note_progress(tx: Tx, caller: Caller, body: Progress) -> None:
    """Say how far the payload is; people see it with the job."""
    await service.note_progress(tx, caller, body.text)


_COUNT_LOOK_S = 2.0
_COUNT_PAUSE_S = 0.2  # A large array ends many jobs a second; it is counted at most this often.
_MAX_KEY = 200


@routes.post("/api/jobs", scope=Scope.JOBS_SUBMIT, status=201)
async def submit_jobs(db: Database, caller: Caller, body: SubmitJobs, request: Request, state: State) -> Submitted:
    """Submit jobs: all of them, or none. With an Idempotency-Key header, a repeat gives the first answer again."""
    key = request.headers.get("idempotency-key")
    if key is not None and not 1 <= len(key) <= _MAX_KEY:
        raise BadInput(
            f"Idempotency-Key has {len(key)} characters; 1 to {_MAX_KEY} are allowed.", field="Idempotency-Key"
        )
    matcher, intake = state[Matcher], state[Intake]
    wake = f"waiting:{caller.vo_id}"
    if key is None and service.stands_alone(body.specs):
        submitted = await service.submit_alone(db, intake, caller, matcher.elements, body.specs[0])
        if matcher.may_wake(caller.vo_id):
            async with db.statements() as tx:
                await notify(tx, wake)
        return submitted
    # One description is stored by one statement, which is a transaction by itself; several are stored together.
    linked = service.linked(body.specs)
    async with db.transaction() if linked else db.statements() as tx:
        if linked:
            submitted = await service.submit_jobs(tx, caller, matcher.elements, body.specs, key)
        else:
            submitted = await service.submit_jobs(tx, caller, matcher.elements, body.specs, key, intake.insert)
        if matcher.may_wake(caller.vo_id):
            await notify(tx, wake)
    return submitted


@routes.post("/api/jobs/check", scope=Scope.JOBS_SUBMIT)
async def check_jobs(reads: Tx, caller: Caller, body: SubmitJobs, state: State) -> Checked:
    """Say what submitting these would store, after all its checks; nothing is stored."""
    return await service.check_jobs(reads, caller, state[Matcher].elements, body.specs)


@routes.get("/api/schemas/job.json", scope=Public.DESCRIPTION)
async def job_schema() -> dict[str, Any]:
    """Give the JSON Schema of job descriptions, for editors."""
    return schema()


@routes.post("/api/jobs/search", scope=Scope.JOBS_READ)
async def search_jobs(tx: Tx, caller: Caller, body: Search) -> JobPage:
    """List jobs of the VO, the newest first unless sorted otherwise."""
    return await service.search_jobs(tx, caller, body)


@routes.post("/api/jobs/summary", scope=Scope.JOBS_READ)
async def summarise_jobs(tx: Tx, caller: Caller, body: SummariseJobs) -> JobSummary:
    """Count jobs of the VO by some fields."""
    return await service.summarise_jobs(tx, caller, body)


@routes.get("/api/task-queues", scope=Scope.JOBS_READ)
async def list_task_queues(reads: Tx, caller: Caller, query: TaskQueueQuery) -> TaskQueuePage:
    """List the VO's task queues with waiting jobs: what these want, how many wait, and how their owner stands."""
    return await service.task_queues(reads, caller, query)


@routes.get("/api/jobs/statistics", scope=Scope.JOBS_READ)
async def job_statistics(reads: Tx, caller: Caller, query: StatisticsQuery) -> JobStatistics:
    """Say what waits and runs now, how what ended of late went and what it used, and how attempts failed."""
    return await service.job_statistics(reads, caller, query)


@routes.get("/api/jobs/{job_id}", scope=Scope.JOBS_READ)
async def show_job(tx: Tx, caller: Caller, job_id: int) -> Job:
    """Show one job in full."""
    return await service.show_job(tx, caller, job_id)


@routes.get("/api/jobs/{job_id}/history", scope=Scope.JOBS_READ)
async def job_history(tx: Tx, caller: Caller, job_id: int) -> list[HistoryEntry]:
    """List every change of a job's state, the oldest first."""
    return await service.job_history(tx, caller, job_id)


@routes.get("/api/jobs/{job_id}/explain", scope=Scope.JOBS_READ)
async def explain_job(tx: Tx, caller: Caller, job_id: int) -> Explanation:
    """Say why a job is in its state, and what to change."""
    return await service.explain_job(tx, caller, job_id)


# Whose job it is decides which scope a command needs, so the verb asks for it: jobs:submit for one's own, jobs:manage
# for another's.
@routes.post("/api/jobs/kill", scope=Scope.JOBS_READ)
async def kill_jobs(db: Database, caller: Caller, body: CommandJobs) -> Outcome:
    """Kill jobs. Each is done or refused on its own."""
    return await service.kill_jobs(db, caller, body)


@routes.post("/api/jobs/delete", scope=Scope.JOBS_READ)
async def delete_jobs(db: Database, caller: Caller, body: CommandJobs) -> Outcome:
    """Delete jobs; those that have not ended are killed first. Each is done or refused on its own."""
    return await service.delete_jobs(db, caller, body)


@routes.post("/api/jobs/reschedule", scope=Scope.JOBS_READ)
async def reschedule_jobs(db: Database, caller: Caller, body: CommandJobs) -> Outcome:
    """Let jobs run again, as a new attempt. Each is done or refused on its own."""
    return await service.reschedule_jobs(db, caller, body)


@routes.post("/api/jobs/hold", scope=Scope.JOBS_READ)
async def hold_jobs(db: Database, caller: Caller, body: CommandJobs) -> Outcome:
    """Keep jobs from running until they are released. Each is done or refused on its own."""
    return await service.hold_jobs(db, caller, body)


@routes.post("/api/jobs/release", scope=Scope.JOBS_READ)
async def release_jobs(db: Database, caller: Caller, body: CommandJobs) -> Outcome:
    """Let held jobs go on. Each is done or refused on its own."""
    return await service.release_jobs(db, caller, body)


@routes.post("/api/jobs/prioritise", scope=Scope.JOBS_READ)
async def prioritise_jobs(db: Database, caller: Caller, body: PrioritiseJobs) -> Outcome:
    """Give jobs another priority. Each is done or refused on its own."""
    return await service.prioritise_jobs(db, caller, body)


@routes.post("/api/jobs/wait", scope=Scope.JOBS_READ)
async def wait_for_jobs(db: Database, caller: Caller, body: WaitForJobs, state: State) -> Waited:
    """Wait until all these jobs have ended (or, with `seen`, until the counts differ from it), or for `wait_s`."""
    signals = state[Signals]
    deadline = time.monotonic() + body.wait_s
    async with db.transaction() as tx:
        arrays = await service.arrays_of(tx, caller, body)
    async with signals.subscribed(*(f"array:{array_id}" for array_id in arrays)) as event:
        while True:
            async with db.transaction() as tx:
                waited = await service.count_jobs(tx, caller, body)
            left = deadline - time.monotonic()
            if waited.all_ended or left <= 0 or (body.seen is not None and waited.counts != body.seen):
                return waited
            await signals.wait(event, min(left, _COUNT_LOOK_S))
            if event.is_set():  # It stays set when the server is about to stop.
                return waited
            await asyncio.sleep(min(_COUNT_PAUSE_S, max(0.0, deadline - time.monotonic())))


for room in (sandboxes, logs, usage):
    routes.all += room.all
