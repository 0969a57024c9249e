"""The addresses of pilots: for people below /api/pilots, for pilots themselves below /api/pilot.

A long poll holds neither a transaction nor a connection of the pool while it waits. It subscribes first, looks, and
then waits; the signal is a hint, and looking again every second is what makes it true.
"""

import time
from contextlib import AsyncExitStack

from starlette.requests import Request
from starlette.responses import Response

from spinor import credentials
from spinor.access import Caller, Scope
from spinor.blobs import Blobs
from spinor.db import Database, Tx
from spinor.http import Public, Routes, State
from spinor.identity import service as identity
from spinor.identity.tokens import KeyRing
from spinor.jobs import service as jobs
from spinor.jobs.models import LogChunk, LogStream, Reported, Reports
from spinor.jobs.sandboxes.routes import sandbox_response
from spinor.jobs.service import Matcher
from spinor.pilots import service
from spinor.pilots.models import (
    AttemptQuery,
    Beaten,
    Cancelled,
    CancelPilots,
    ElementPilots,
    Enrolled,
    Enrolment,
    Goodbye,
    Heartbeat,
    JobLogQuery,
    LogQuery,
    MaskNodes,
    MaskQuery,
    Matched,
    MatchRequest,
    NodeMask,
    Pilot,
    PilotLogQuery,
    PilotPage,
    Position,
    StatsQuery,
    StoredSandbox,
    Unfit,
)
from spinor.pilots.probes import service as probes
from spinor.pilots.probes.routes import routes as probe_routes
from spinor.pilots.service.life import TOKEN_LIFETIME_S
from spinor.resources.service import StatusBoard
from spinor.search import Search
from spinor.settings import Settings
from spinor.signals import Signals

LOOK_AGAIN_S = 1.0
RAW = "application/octet-stream"

routes = Routes("pilots")
routes.all += probe_routes.all

# ------------------------------------------------------------------------------------------------------- for people


@routes.post("/api/pilots/search", scope=Scope.PILOTS_READ)
async def search_pilots(tx: Tx, caller: Caller, body: Search) -> PilotPage:
    """List the VO's pilots."""
    return await service.search_pilots(tx, caller, body)


@routes.get("/api/pilots/stats", scope=Scope.PILOTS_READ)
async def pilot_stats(tx: Tx, caller: Caller, query: StatsQuery) -> list[ElementPilots]:
    """Count the VO's pilots by computing element, with what they achieved and where the factory pauses."""
    return await service.pilot_stats(tx, caller, query.last_s, query.computing_element)


@routes.get("/api/pilots/nodes", scope=Scope.PILOTS_READ)
async def list_masked_nodes(tx: Tx, caller: Caller, query: MaskQuery) -> list[NodeMask]:
    """List the nodes whose pilots get no jobs, and why."""
    return await service.masked_nodes(tx, caller, query.computing_element)


@routes.post("/api/pilots/nodes", scope=Scope.RESOURCES_MANAGE)
async def mask_nodes(tx: Tx, caller: Caller, body: MaskNodes) -> list[str]:
    """Mask nodes for a while, or lift their masks."""
    return await service.mask_nodes(tx, caller, body)


@routes.get("/api/pilots/{pilot_id}", scope=Scope.PILOTS_READ)
async def pilot(tx: Tx, caller: Caller, pilot_id: int) -> Pilot:
    """Show one pilot."""
    return await service.pilot(tx, caller, pilot_id)


@routes.get("/api/pilots/{pilot_id}/log", scope=Scope.PILOTS_READ)
async def pilot_log(tx: Tx, caller: Caller, pilot_id: int, query: PilotLogQuery) -> Response:
    """Read a pilot's own log from a position on (bytes; X-Spinor-Position says where the next part starts)."""
    data = await service.pilot_log(tx, caller, pilot_id, query.position)
    headers = {"X-Spinor-Position": str(query.position + len(data))}
    return Response(data, media_type=RAW, headers=headers)


@routes.post("/api/pilots/cancel", scope=Scope.PILOTS_MANAGE)
async def cancel_pilots(tx: Tx, caller: Caller, body: CancelPilots) -> Cancelled:
    """End pilots; their jobs wait again."""
    return await service.cancel_pilots(tx, caller, body.pilot_ids, body.reason)


# ------------------------------------------------------------------------------------------------------- for pilots


@routes.post("/api/pilot/enrol", scope=Public.SIGN_IN)
async def enrol(db: Database, state: State, body: Enrolment) -> Enrolled:
    """Spend the enrolment secret for a token."""
    async with db.transaction() as tx:
        answer = await service.enrol(tx, state[KeyRing], state[Settings].url, body)
    if isinstance(answer, Enrolled):
        return answer
    raise answer  # After the end of the pilot was written down.


@routes.post("/api/pilot/match", scope=Scope.PILOT_ACT)
async def match(db: Database, state: State, request: Request, caller: Caller, body: MatchRequest) -> Matched:
    """Get jobs that fit into the offer; waits up to `wait_s` for some."""
    if any(tag.startswith(probes.TAG) for tag in body.offer.tags):
        return await _match_probe(db, state, caller, body)
    signals, desk = state[Signals], state[service.Desk]
    end = time.monotonic() + body.wait_s
    async with signals.subscribed(f"waiting:{caller.vo_id}") as event:
        given = await desk.match(caller, body)
        while not given and (left_s := end - time.monotonic()) > 0:
            signalled = await signals.wait(event, min(LOOK_AGAIN_S, left_s))
            # Whoever does not listen any more must not be given jobs; and a server about to stop gives none.
            if event.is_set() or await request.is_disconnected():
                break
            if await desk.worth_asking(caller, body, signalled=signalled):
                given = await desk.match(caller, body)
    return Matched(jobs=given)


@routes.post("/api/pilot/heartbeat", scope=Scope.PILOT_ACT)
async def heartbeat(db: Database, state: State, request: Request, caller: Caller, body: Heartbeat) -> Beaten:
    """Renew leases, then wait up to `wait_s` for news: jobs taken away, files to show, the order to leave."""
    signals, board, pulse = state[Signals], state[StatusBoard], state[service.Pulse]
    end = time.monotonic() + body.wait_s
    listening: set[int] = set()
    async with AsyncExitStack() as stack:
        event = await stack.enter_async_context(signals.subscribed(f"pilot:{caller.pilot_id}"))
        last = False
        while True:
            beat = await pulse.beat(caller, body.held)
            if beat.ce_id not in listening:
                listening.add(beat.ce_id)
                await stack.enter_async_context(signals.subscribed(f"ce:{beat.ce_id}", event=event))
            drain = beat.drains(await board.fresh_statuses(db))
            left_s = end - time.monotonic()
            if beat.lost or beat.peeks or (drain and not body.draining) or left_s <= 0 or last:
                break
            # Woken before the time: look once more, and answer; what came may be jobs that this call did not name.
            last = await signals.wait(event, left_s)
            if last:
                board.forget()
    return Beaten(lost=beat.lost, peeks=beat.peeks, drain=drain, token=_renewed(state, request, caller))


@routes.post("/api/pilot/reports", scope=Scope.PILOT_ACT)
async def take_reports(tx: Tx, caller: Caller, body: Reports) -> Reported:
    """Say which payloads run, register the outputs of those that ended and end their jobs, give back what was not
    begun. Each report has an answer of its own."""
    return await jobs.take_reports(tx, caller, body)


@routes.post("/api/pilot/jobs/{job_id}/log", scope=Scope.PILOT_ACT, body_type=RAW)
async def append_job_log(tx: Tx, caller: Caller, job_id: int, query: JobLogQuery, body: bytes) -> Position:
    """Add to a payload's stdout or stderr."""
    chunk = LogChunk(
        job_id=job_id, attempt=query.attempt, stream=LogStream(query.stream), position=query.position, data=body
    )
    return Position(position=await jobs.append_log(tx, caller, chunk))


@routes.put("/api/pilot/sandboxes", scope=Scope.PILOT_ACT, body_type="application/x-tar")
async def store_sandbox(
    db: Database, state: State, request: Request, caller: Caller, query: AttemptQuery
) -> StoredSandbox:
    """Store the output sandbox of an attempt that the pilot holds (a raw tar archive)."""
    job = (query.job_id, query.attempt)
    stored = await jobs.receive_sandbox_of_attempt(db, state[Blobs], caller, job, request.stream())
    return StoredSandbox(sandbox_id=stored.sandbox_id)


@routes.get("/api/pilot/sandboxes/{sandbox_id}", scope=Scope.PILOT_ACT)
async def fetch_sandbox(db: Database, state: State, caller: Caller, sandbox_id: int, query: AttemptQuery) -> Response:
    """Fetch an input sandbox of an attempt that the pilot holds (a raw tar archive)."""
    async with db.transaction() as tx:
        sandbox = await jobs.find_sandbox_of_attempt(tx, caller, (query.job_id, query.attempt), sandbox_id)
    return await sandbox_response(state[Blobs], sandbox)


@routes.post("/api/pilot/log", scope=Scope.PILOT_ACT, body_type=RAW)
async def append_log(tx: Tx, caller: Caller, query: LogQuery, body: bytes) -> Position:
    """Add to the pilot's own log."""
    return Position(position=await service.append_log(tx, caller, query.position, body))


@routes.post("/api/pilot/unfit", scope=Scope.PILOT_ACT)
async def report_unfit(tx: Tx, caller: Caller, body: Unfit) -> None:
    """Say that this node is not fit for work, and why; the pilot ends."""
    await service.report_unfit(tx, caller, body.diagnosis)


@routes.post("/api/pilot/goodbye", scope=Scope.PILOT_ACT)
async def say_goodbye(tx: Tx, caller: Caller, body: Goodbye) -> None:
    """Leave, and give back what is still held."""
    await service.say_goodbye(tx, caller, body.reason)


async def _match_probe(db: Database, state: State, caller: Caller, body: MatchRequest) -> Matched:
    """A probe's pilot gets its own job, whatever the status of its element, and no other."""
    async with state[Signals].subscribed(f"pilot:{caller.pilot_id}") as event:
        async with db.transaction() as tx:
            given = await probes.match_probe(tx, state[Matcher], caller, body.offer)
            [given] = await service.with_tokens(tx, state[KeyRing], state[Settings].url, [(caller, given)])
            await service.note_match(tx, caller, body.offer, given)
        if not given:
            await state[Signals].wait(event, body.wait_s)
    return Matched(jobs=given)


def _renewed(state: State, request: Request, caller: Caller) -> str | None:
    """A new token when the one of this request, verified before, has less than half its life left."""
    token = request.headers.get("authorization", "").partition(" ")[2]
    if credentials.peek(token).exp - time.time() > TOKEN_LIFETIME_S / 2:
        return None
    assert caller.pilot_id is not None
    return identity.mint_pilot_token(state[KeyRing], state[Settings].url, caller.vo, caller.pilot_id, TOKEN_LIFETIME_S)
