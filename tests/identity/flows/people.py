"""A person's browser and a program that wants to be let in, both without sockets."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.responses import Response

from spinor.http import Endpoint, State
from spinor.identity import browser
from spinor.identity.models import Proven
from tests.identity.workbench import ISSUER, Answer, Service, request

AUTHORIZE, DEVICE = "/api/auth/authorize", "/api/auth/device_authorization"
TOKEN, REVOKE = "/api/auth/token", "/api/auth/revoke"
CALLBACK = "http://127.0.0.1:41023/callback"
VERIFIER = "v" * 64
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


def challenge_of(verifier: str) -> str:
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def authorization(**changes: str | None) -> dict[str, str]:
    """A request that is good but for the changes; None takes a parameter away."""
    asked = {
        "response_type": "code",
        "client_id": "spinor-cli",
        "redirect_uri": CALLBACK,
        "state": "the-state",
        "code_challenge": challenge_of(VERIFIER),
        "code_challenge_method": "S256",
    }
    return {name: value for name, value in {**asked, **changes}.items() if value is not None}


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self.roles: list[str] = []
        self.decisions: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.scripts += tag == "script" or any(name.startswith("on") for name, _ in attrs)
        if tag == "input" and found.get("type") in ("hidden", "text"):
            self.fields[found["name"]] = found.get("value", "")
        if found.get("name") == "role":
            self.roles.append(found["value"])
        if tag == "button" and "name" in found:
            self.decisions.append(found["value"])


@dataclass(frozen=True)
class Seen:
    """What a browser gets."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def form(self) -> _Forms:
        found = _Forms()
        found.feed(self.text)
        return found

    @property
    def fields(self) -> dict[str, str]:
        return self.form.fields

    @property
    def answer(self) -> dict[str, str]:
        """What a redirect takes back to the program."""
        return {name: values[0] for name, values in parse_qs(urlsplit(self.headers["location"]).query).items()}


@dataclass
class Browser:
    """One person's."""

    service: Service
    address: str = "192.0.2.7"
    cookie: str = ""
    headers: dict[str, str] = field(default_factory=lambda: {"accept": "text/html", "sec-fetch-site": "same-origin"})

    async def sign_in(self, user: str) -> Browser:
        response = Response()
        async with self.service.world.db.transaction() as tx:
            await browser.remember(tx, response, Proven(user=user, signed_in_by="development"))
        self.cookie = response.headers["set-cookie"].partition(";")[0]
        return self

    async def get(self, path: str, fields: Mapping[str, str] | None = None) -> Seen:
        return await self._seen("GET", f"{path}?{urlencode(fields)}" if fields else path, b"")

    async def post(self, path: str, fields: Mapping[str, str]) -> Seen:
        return await self._seen("POST", path, urlencode(fields).encode())

    async def _seen(self, method: str, path: str, body: bytes) -> Seen:
        headers = {**self.headers, "content-type": "application/x-www-form-urlencoded", "user-agent": "Test Browser/1"}
        headers |= {"cookie": self.cookie} if self.cookie else {}
        asked = request(method, path, body, headers)
        asked.scope["client"] = (self.address, 50_000)
        asked.scope.update(server=("spinor.example.org", 443), scheme="https")
        endpoint = endpoint_of(self.service, method, path.partition("?")[0])
        answer = await endpoint(asked)
        return Seen(answer.status_code, answer.headers, bytes(answer.body).decode())

    async def consent(self, asked: Mapping[str, str], decision: str = "allow", **changes: str) -> Seen:
        """Open the page that asks, and answer it."""
        page = await self.get(AUTHORIZE, asked)
        assert page.status == 200, page
        role = {"role": page.form.roles[0]} if page.form.roles else {}
        return await self.post(AUTHORIZE, {**page.fields, **role, "decision": decision, **changes})

    async def code(self, **changes: str | None) -> str:
        """A code for the program."""
        return (await self.consent(authorization(**changes))).answer["code"]

    async def confirm(self, user_code: str) -> Seen:
        """Type a code; the page that asks whether to let the program in."""
        page = await self.get("/device")
        return await self.post("/device", {**page.fields, "user_code": user_code})

    async def decide(self, user_code: str, decision: str = "allow", **changes: str) -> Seen:
        page = await self.confirm(user_code)
        assert page.status == 200, page
        role = {"role": page.form.roles[0]} if page.form.roles else {}
        return await self.post("/device/decision", {**page.fields, **role, "decision": decision, **changes})


def endpoint_of(service: Service, method: str, path: str) -> Endpoint:
    state = State(service.settings, service.keys, service.verifier, service.guesses)
    for system in service.all_routes:
        for route in system.all:
            if (route.method, route.path) == (method, path):
                return Endpoint(route, service.world.db, state, service.verifier.caller_of)
    raise LookupError(f"{method} {path}")


@dataclass(frozen=True)
class Program:
    """A client of the authorization server."""

    service: Service
    client_id: str = "spinor-cli"

    async def redeem(self, code: str, **changes: str | None) -> Answer:
        form = {
            "grant_type": "authorization_code",
            "client_id": self.client_id,
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": VERIFIER,
            **changes,
        }
        return await self.service.form(TOKEN, **{name: value for name, value in form.items() if value is not None})

    async def start(self, **fields: str) -> dict[str, Any]:
        answer = await self.service.form(DEVICE, client_id=self.client_id, **fields)
        assert answer.status == 200, answer
        started: dict[str, Any] = answer.body
        return started

    async def poll(self, device_code: str, **fields: str) -> Answer:
        form = {"grant_type": DEVICE_GRANT, "client_id": self.client_id, "device_code": device_code, **fields}
        return await self.service.form(TOKEN, **form)

    async def refresh(self, token: str) -> Answer:
        return await self.service.form(TOKEN, grant_type="refresh_token", client_id=self.client_id, refresh_token=token)

    async def who(self, token: str) -> Answer:
        return await self.service.signed("GET", "/api/auth/whoami", token)


def refused(answer: Answer, error: str) -> bool:
    """Whether the token endpoint refused with this error of RFC 6749, for a program and for a person."""
    told = {"error", "error_description", "code"} <= set(answer.body)
    return told and answer.body["error"] == error and answer.headers["cache-control"] == "no-store"


def is_page(seen: Seen, status: int) -> bool:
    return seen.status == status and "location" not in seen.headers and "<h1>" in seen.text


__all__ = ["ISSUER", "Browser", "Program", "Seen", "authorization", "challenge_of", "is_page", "refused"]
