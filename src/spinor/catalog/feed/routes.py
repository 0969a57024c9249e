"""Addresses of the change feed. They join the catalog's."""

import asyncio
import time

import msgspec
from starlette.responses import Response

from spinor.access import Caller, Scope
from spinor.catalog.feed import service
from spinor.catalog.feed.models import ChangePage, ChangesRequest, StreamRequest
from spinor.db import Database
from spinor.http import Routes, State
from spinor.signals import Signals
from spinor.streaming import Pieces, streamed

routes = Routes("catalog")

_LOOK_S = 10.0  # A lost signal costs a delay of this much.
_PAUSE_S = 0.05  # Changes that come thick are read together.


@routes.get("/api/files/changes", scope=Scope.FILES_READ)
async def read_changes(db: Database, caller: Caller, query: ChangesRequest, state: State) -> ChangePage:
    """What happened to the files of the VO after a position; with `wait_s`, wait for a change."""
    if query.since == "now" or query.wait_s == 0:
        async with db.statements() as reads:
            return await service.changes(reads, caller, query)
    signals = state[Signals]
    deadline = time.monotonic() + query.wait_s
    async with signals.subscribed(service.topic(caller)) as event:
        while True:
            async with db.statements() as reads:
                page = await service.changes(reads, caller, query)
            left_s = deadline - time.monotonic()
            if page.rows or left_s <= 0:
                return page
            query = msgspec.structs.replace(query, since=page.next)
            if page.more:
                continue
            await signals.wait(event, min(left_s, _LOOK_S))
            if event.is_set():  # It stays set when the server is about to stop.
                return page


@routes.get("/api/files/changes/stream", scope=Scope.FILES_READ)
async def stream_changes(db: Database, caller: Caller, query: StreamRequest, state: State) -> Response:
    """The changes after a position as they happen, as JSON lines. An empty line says that nothing happened for a while.

    Each line has the position after it, from which to go on when the stream ends: it does when the server stops.
    """
    return await streamed(_lines(db, caller, query, state[Signals]), "application/x-ndjson")


async def _lines(db: Database, caller: Caller, query: StreamRequest, signals: Signals) -> Pieces:
    encoder = msgspec.json.Encoder()
    asked = ChangesRequest(since=query.since, path=query.path, expand=query.expand)
    async with signals.subscribed(service.topic(caller)) as event:
        while True:
            async with db.statements() as reads:
                page = await service.changes(reads, caller, asked)
            yield encoder.encode_lines(page.rows) or b"\n"
            asked = msgspec.structs.replace(asked, since=page.next)
            if page.more:
                continue
            await signals.wait(event, _LOOK_S)
            if event.is_set():
                return
            await asyncio.sleep(_PAUSE_S)
