"""Use, attempts and peeks over HTTP."""

from spinor.access import Caller, Scope
from spinor.db import Database, Tx
from spinor.http import Routes, State
from spinor.jobs.models import Attempt, Peek, PeekAnswer, PeekQuery, Usage, UsageQuery
from spinor.jobs.usage import peeking, service
from spinor.signals import Signals

routes = Routes("jobs")


@routes.get("/api/jobs/{job_id}/usage", scope=Scope.JOBS_READ)
async def job_usage(reads: Tx, caller: Caller, job_id: int, query: UsageQuery) -> Usage:
    """What an attempt used over time: processor, memory, disk, input and output."""
    return await service.usage(reads, caller, job_id, query.attempt)


@routes.get("/api/jobs/{job_id}/attempts", scope=Scope.JOBS_READ)
async def job_attempts(reads: Tx, caller: Caller, job_id: int) -> list[Attempt]:
    """Every attempt of a job: where it ran, when, and how it ended."""
    return await service.attempts(reads, caller, job_id)


@routes.get("/api/jobs/{job_id}/peek", scope=Scope.JOBS_READ)
async def peek(db: Database, caller: Caller, job_id: int, query: PeekQuery, state: State) -> Peek:
    """Look into the directory of a running job of one's own: the end of a file, another part of it, or a list."""
    return await peeking.peek(db, state[Signals], caller, job_id, query)


@routes.put("/api/pilot/jobs/{job_id}/peek", scope=Scope.PILOT_ACT)
async def answer_peek(tx: Tx, caller: Caller, job_id: int, body: PeekAnswer) -> None:
    """Answer what a heartbeat asked: part of a file, the entries of a directory, or why neither."""
    await peeking.answer_peek(tx, caller, job_id, body)
