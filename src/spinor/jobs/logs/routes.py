"""Logs over HTTP: by long poll for programs, and as server-sent events for pages; and the changes of jobs likewise."""

import time

from starlette.requests import Request
from starlette.responses import Response

from spinor.access import Caller, Scope
from spinor.blobs import Blobs
from spinor.db import Database
from spinor.http import Routes, State
from spinor.jobs.logs import events, service
from spinor.jobs.logs.events import Streams
from spinor.jobs.models import EventQuery, LogEventQuery, LogPart, LogQuery
from spinor.signals import Signals
from spinor.streaming import streamed

_LOG_LOOK_S = 0.3  # New bytes of a log are not signalled: each look costs less than a signal to every server.
_STREAM = "text/event-stream"
_NOT_HELD = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"}

routes = Routes("jobs")


@routes.get("/api/jobs/{job_id}/log", scope=Scope.JOBS_READ)
async def read_log(db: Database, caller: Caller, job_id: int, query: LogQuery, state: State) -> Response:
    """Read a job's stdout or stderr from a position on; with `wait_s`, wait for new bytes."""
    signals = state[Signals]
    deadline = time.monotonic() + query.wait_s
    async with signals.subscribed(f"log:{job_id}") as stopping:
        while True:
            part = await service.read_log(db, state[Blobs], caller, job_id, query)
            left = deadline - time.monotonic()
            if part.data or part.ended or left <= 0 or await signals.wait(stopping, min(left, _LOG_LOOK_S)):
                return _log_response(part)


def _log_response(part: LogPart) -> Response:
    headers = {
        "X-Spinor-Position": str(part.position),
        "X-Spinor-Attempt": str(part.attempt),
        "X-Spinor-Ended": "true" if part.ended else "false",
        # Whatever a payload writes, no browser takes it for a page.
        "X-Content-Type-Options": "nosniff",
    }
    return Response(part.data, media_type="application/octet-stream", headers=headers)


@routes.get("/api/jobs/{job_id}/log/events", scope=Scope.JOBS_READ)
async def log_events(
    db: Database, caller: Caller, job_id: int, query: LogEventQuery, request: Request, state: State
) -> Response:
    """Follow a job's stdout or stderr as server-sent events (`log`, then `end`), each with text to be shown as text."""
    since = _since(request, query.since)
    if since == events.ENDED:
        return Response(status_code=204)
    # The first look is made before the answer begins, so that an unknown job is a problem like any other.
    await service.read_log(db, state[Blobs], caller, job_id, LogQuery(stream=query.stream))
    frames = events.log_events(db, state[Blobs], state[Signals], caller, job_id, query, since)
    return await streamed(state[Streams].counted(frames), _STREAM, _NOT_HELD)


@routes.get("/api/jobs/events", scope=Scope.JOBS_READ)
async def job_events(db: Database, caller: Caller, query: EventQuery, request: Request, state: State) -> Response:
    """Follow changes of jobs' states as server-sent events (`state`, then `end`): of jobs, of arrays, or of the VO."""
    since = _since(request, query.since)
    if since == events.ENDED:
        return Response(status_code=204)
    events.moment_of(since)
    jobs = await events.followed(db, caller, query)
    frames = events.job_events(db, state[Signals], caller, jobs, since)
    return await streamed(state[Streams].counted(frames), _STREAM, _NOT_HELD)


def _since(request: Request, since: str) -> str:
    """The last event that the client got. 204 to the last one of all makes a browser stop asking."""
    return request.headers.get("last-event-id", "") or since
