"""Addresses in this process: requests as a caller of one's choice, without sockets and tokens."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from starlette.requests import Request

from spinor.access import Caller
from spinor.app import Service
from spinor.blobs import Blobs
from spinor.db import Database
from spinor.http import Routes, State
from spinor.jobs.logs.events import Streams
from spinor.jobs.service import Intake, Matcher
from spinor.settings import Settings
from spinor.signals import Signals


class Answer(msgspec.Struct):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Http:
    def __init__(self, service: Service, state: State) -> None:
        self._service = service
        self.state = state

    async def __call__(self, caller: Caller, method: str, path: str, body: Any = b"", **headers: str) -> Answer:
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        path, _, query = path.partition("?")
        names = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
        scope = {
            "type": "http", "method": method, "path": path, "query_string": query.encode(), "caller_of_test": caller,
            "headers": list(names.items()), "path_params": {}, "http_version": "1.1",
        }  # fmt: skip
        sent: list[Any] = []
        # In parts, as a server hands a large body on.
        parts = [data[n : n + 65_536] for n in range(0, len(data), 65_536)] or [b""]

        async def receive() -> Any:
            if not parts:
                await asyncio.Event().wait()  # The client stays connected, and sends no more.
            part = parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(parts)}

        async def send(message: Any) -> None:
            sent.append(message)

        await self._service(scope, receive, send)
        found = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], found, b"".join(part.get("body", b"") for part in sent[1:]))


async def _caller_of(request: Request) -> Caller:
    caller: Caller = request.scope["caller_of_test"]
    return caller


@asynccontextmanager
async def over_http(db: Database, folder: Path, routes: Routes, blobs: str = "") -> AsyncIterator[Http]:
    settings = Settings.from_environment(
        {
            "SPINOR_DATABASE_URL": db.url,
            "SPINOR_DATA_DIR": str(folder),
            "SPINOR_URL": "https://spinor.test",
            "SPINOR_BLOB_DIR": str(folder / "blob_dir"),
            "SPINOR_BLOBS": blobs,
        }
    )
    async with Signals(db.url).listening() as signals:
        service = Service()
        state = State(settings, signals, Matcher(), Intake(db), db, Blobs.of(settings), Streams())
        service.open(routes.all, db, state, _caller_of)
        yield Http(service, state)
