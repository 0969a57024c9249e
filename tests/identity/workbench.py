"""A service's routes in this process, without a socket."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from starlette.requests import Request

from spinor.errors import SpinorError
from spinor.http import Endpoint, Routes, State
from spinor.identity.federation.provider import Upstreams
from spinor.identity.keys import KeyRing
from spinor.identity.oauth.authentication import Guesses
from spinor.identity.tokens import Verifier
from spinor.settings import Settings

if TYPE_CHECKING:
    from tests.conftest import World

ISSUER = "https://spinor.example.org"


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: Any


def request(method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    raw = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    path, _, query = path.partition("?")
    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": raw}
    return Request(scope, receive)


@dataclass(frozen=True)
class Service:
    """What answers requests, and the parts it is made of."""

    world: World
    keys: KeyRing
    settings: Settings
    verifier: Verifier
    all_routes: list[Routes]
    upstreams: Upstreams
    guesses: Guesses = field(default_factory=Guesses)

    async def call(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        state = State(self.settings, self.keys, self.verifier, self.upstreams, self.guesses)
        for system in self.all_routes:
            for route in system.all:
                if (route.method, route.path) == (method, path.partition("?")[0]):
                    endpoint = Endpoint(route, self.world.db, state, self.verifier.caller_of)
                    answer = await endpoint(request(method, path, body, headers))
                    content = bytes(answer.body)
                    return Answer(answer.status_code, answer.headers, json.loads(content) if content else None)
        raise LookupError(path)

    async def form(self, path: str, **fields: str) -> Answer:
        headers = {"content-type": "application/x-www-form-urlencoded"}
        return await self.call("POST", path, urlencode({"client_id": "spinor-cli", **fields}).encode(), headers)

    async def signed(self, method: str, path: str, token: str, body: bytes = b"") -> Answer:
        """The answer; a refusal as its status and problem code."""
        try:
            return await self.call(method, path, body, {"authorization": f"Bearer {token}"})
        except SpinorError as error:
            return Answer(error.status, {}, {"code": error.code, "detail": error.message})


def make_service(world: World, directory: Path, *, systems: list[Routes], development_login: bool = True) -> Service:
    keys = KeyRing.create(directory / "keys")
    made = Settings(
        database_url=world.db.url,
        data_dir=directory,
        url=ISSUER,
        keys_dir=directory / "keys",
        blob_dir=directory / "blobs",
        storage_dir=directory / "storage",
        ce_dir=directory / "computing",
        development_login=development_login,
    )
    return Service(world, keys, made, Verifier(keys, ISSUER, world.db), systems, Upstreams(directory / "secrets"))
