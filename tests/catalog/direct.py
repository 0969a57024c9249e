"""The command line against the application in this process: the client's wire is replaced, and nothing else."""

import asyncio
import io
from collections.abc import Callable, Mapping
from typing import Any

from starlette.types import Message

from spinor.access import Caller
from spinor.app import Service, all_routes
from spinor.cli import run
from spinor.client import Client
from spinor.db import Database
from spinor.http import State
from spinor.signals import Signals

Disturb = Callable[[str, str], None]  # Called with method and path before and after each exchange.


class DirectClient(Client):
    def __init__(self, service: Service, loop: asyncio.AbstractEventLoop, disturb: Disturb) -> None:
        super().__init__("https://direct")
        self.service = service
        self.loop = loop
        self.disturb = disturb

    def token(self) -> str:
        return "token"

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        self.disturb(method, f"before {path}")
        answer = asyncio.run_coroutine_threadsafe(self._call(method, path, body, headers), self.loop).result()
        self.disturb(method, f"after {path}")
        return answer

    def _begin(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], Any]:
        status, answered, data = self._exchange(method, path, body, headers)
        return status, answered, io.BytesIO(data) if status < 400 else data

    async def _call(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        address, _, query = path.partition("?")
        scope = {
            "type": "http", "method": method, "path": address, "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }  # fmt: skip
        sent: list[Message] = []
        asked: list[Message] = [{"type": "http.request", "body": body or b"", "more_body": False}]

        async def receive() -> Message:
            if not asked:
                await asyncio.Event().wait()  # The client stays.
            return asked.pop()

        async def send(message: Message) -> None:
            sent.append(message)

        await self.service(scope, receive, send)
        answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], answered, b"".join(message.get("body", b"") for message in sent[1:])


class Commands:
    """Runs `spinor …` as a caller; call it from a test with `await`."""

    def __init__(self, db: Database, monkeypatch: Any) -> None:
        self.db = db
        self.monkeypatch = monkeypatch

    async def __call__(self, caller: Caller, *words: str, disturb: Disturb | None = None) -> int:
        service = Service()

        async def authenticate(_request: Any) -> Caller:
            return caller

        service.open(all_routes(), self.db, State(Signals(self.db.url)), authenticate)
        loop = asyncio.get_running_loop()

        def client() -> Client:
            return DirectClient(service, loop, disturb or (lambda _method, _path: None))

        self.monkeypatch.setattr(Client, "from_environment", staticmethod(client))
        return await asyncio.to_thread(run, list(words))
