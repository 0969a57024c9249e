"""A provider that answers what a test wants, over real HTTPS: what no honest one would."""

from __future__ import annotations

import asyncio
import contextlib
import time
import warnings
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import uvicorn
from joserfc import jws
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, RSAKey
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tests.servers.authority import Authority
from tests.servers.process import free_port

KEY = ECKey.generate_key("P-256", {"alg": "ES256", "use": "sig", "kid": "one"})
RSA = RSAKey.generate_key(2048, {"use": "sig", "kid": "rsa"})
with warnings.catch_warnings(action="ignore", category=SecurityWarning):
    WEAK = RSAKey.generate_key(1024, {"use": "sig", "kid": "weak"})
ACCESS_TOKEN = "opaque-access-token"
DISCOVERY = "/.well-known/openid-configuration"
Answer = Response | Callable[[Request, bytes], Response] | dict[str, Any]


def public(*keys: ECKey | RSAKey) -> dict[str, Any]:
    return {"keys": [key.as_dict(private=False) for key in keys]}


class Hostile:
    """`answers` by path; each is a document, a response, or a function of the request. What was asked is kept."""

    def __init__(self, port: int) -> None:
        self.issuer = f"https://localhost:{port}"
        self.metadata = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/auth",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/me",
            "introspection_endpoint": f"{self.issuer}/introspect",
            "jwks_uri": f"{self.issuer}/jwks",
        }
        self.answers: dict[str, Answer] = {
            DISCOVERY: self.metadata,
            "/jwks": public(KEY, RSA, WEAK),
            "/me": {"sub": "mallory"},
        }
        self.asked: list[tuple[str, str, bytes]] = []
        self.claims: dict[str, Any] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        body = await request.body()
        self.asked.append((request.url.path, request.headers.get("authorization", ""), body))
        answer = self.answers.get(request.url.path, Response(status_code=404))
        if callable(answer) and not isinstance(answer, Response):
            answer = answer(request, body)
        if isinstance(answer, dict):
            answer = Response(msgspec.json.encode(answer), media_type="application/json")
        await answer(scope, receive, send)

    def gives(self, id_token: str) -> None:
        self.answers["/token"] = {"access_token": ACCESS_TOKEN, "token_type": "Bearer", "id_token": id_token}


def signed(claims: dict[str, Any], key: ECKey | RSAKey = KEY, algorithm: str = "ES256", **header: Any) -> str:
    made = {"alg": algorithm, "kid": key.kid, **header}
    with warnings.catch_warnings(action="ignore", category=SecurityWarning):
        return jws.serialize_compact(
            {name: value for name, value in made.items() if value is not None},
            msgspec.json.encode(claims),
            key,
            algorithms=[algorithm],
        )


def usual(issuer: str, **more: Any) -> dict[str, Any]:
    now = int(time.time())
    claims = {"iss": issuer, "sub": "mallory", "aud": "spinor", "exp": now + 600, "iat": now, **more}
    return {name: value for name, value in claims.items() if value is not None}


@contextlib.asynccontextmanager
async def hostile_provider(authority: Authority) -> AsyncIterator[Hostile]:
    port = free_port()
    made, host = Hostile(port), authority.host()
    config = uvicorn.Config(
        made, host="127.0.0.1", port=port, ssl_keyfile=str(host.key), ssl_certfile=str(host.certificate),
        lifespan="off", log_config=None, access_log=False,
    )  # fmt: skip
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    try:
        while not server.started:
            if task.done():
                task.result()
            await asyncio.sleep(0.02)
        yield made
    finally:
        server.should_exit = True
        await task
