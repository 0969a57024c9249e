"""What must fail everywhere: the negative rows of the RFCs, and the defects that other systems had (A1 to A8)."""

from __future__ import annotations

import json
import logging
import re
import secrets
import time
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import ECKey
from psycopg import sql

from spinor.access import Scope
from spinor.app import Service, all_routes
from spinor.db import fetch_rows
from spinor.http import State
from spinor.identity import tokens
from spinor.identity.keys import KeyRing
from spinor.identity.oauth import capabilities
from spinor.jobs.service import Matcher
from tests.identity.oauth.server import (
    ACCESS_TOKEN,
    ASSERTION_TYPE,
    EXCHANGE,
    INTROSPECT,
    REVOKE,
    SECRET,
    STORAGE,
    TOKEN,
    TOKENS,
    URL,
    Server,
    basic,
    claims_in,
)

TABLES = """
SELECT c.oid::regclass::text FROM pg_class c
 WHERE relkind IN ('r', 'p') AND relnamespace IN ('identity'::regnamespace, 'configuration'::regnamespace)
"""


def bad_tokens(server: Server, good: str) -> dict[str, str]:
    claims = claims_in(good)
    said = {name: claims[name] for name in ("sub", "sid", "client_id", "vo", "group", "scope")}
    now = time.time()
    keys = server.keys

    def typed(kind: str | None) -> str:
        header = {"alg": "ES256", "kid": keys.signer.kid, **({"typ": kind} if kind else {})}
        return jws.serialize_compact(header, json.dumps(claims), keys.signer.key, algorithms=["ES256"])

    def without(name: str) -> str:
        header = {"alg": "ES256", "kid": keys.signer.kid, "typ": "at+jwt"}
        left = {key: value for key, value in claims.items() if key != name}
        return jws.serialize_compact(header, json.dumps(left), keys.signer.key, algorithms=["ES256"])

    stranger = ECKey.generate_key("P-256")
    return {
        "expired": tokens.mint(keys, URL, said, now=now - 1300),
        "from the future": tokens.mint(keys, URL, {**said, "nbf": now + 120}),
        "for another service": tokens.mint(keys, URL, {**said, "aud": "https://other.example.org"}),
        "of another issuer": tokens.mint(keys, "https://other.example.org", {**said, "aud": URL}),
        "of the VO's issuer": tokens.mint(keys, f"{URL}/vo/astro", {**said, "aud": URL}),
        "for a storage": capabilities.mint(keys, URL, "astro", claims["sub"], ["storage.read:/"], STORAGE).token,
        "for us, of a VO": capabilities.mint(keys, URL, "astro", claims["sub"], ["storage.read:/"], URL).token,
        "an ID token": typed("JWT"),
        "a token without a type": typed(None),
        "a logout token": typed("logout+jwt"),
        "without sub": without("sub"),
        "without exp": without("exp"),
        "without aud": without("aud"),
        "without jti": without("jti"),
        "without client_id": without("client_id"),
        "of a session that never was": tokens.mint(keys, URL, {**said, "sid": "7d8f3a1e-0000-4000-8000-000000000001"}),
        "without a session": tokens.mint(keys, URL, {**said, "sid": ""}),
        "of a session, for another group": tokens.mint(keys, URL, {**said, "group": "astro_admins"}),
        "signed by a stranger": jws.serialize_compact(
            {"alg": "ES256", "kid": keys.signer.kid, "typ": "at+jwt"}, json.dumps(claims), stranger
        ),
        "a refresh token": "spinor_rt_" + secrets.token_urlsafe(32),
        "a megabyte": good + "A" * 1_000_000,
        "garbage": "a.b.c",
        "nothing": "",
    }


async def test_no_route_takes_a_token_that_does_not_hold(server: Server) -> None:
    """Defect A2 of DIRAC, and RFC 9068: every route that asks for a scope, with every token that must not pass."""
    app, every = Service(), all_routes()
    verifier = tokens.Verifier(server.keys, URL, server.world.db)
    app.open(every, server.world.db, State(server.settings, server.keys, verifier, Matcher()), verifier.caller_of)
    whole = Server(server.world, server.settings, server.keys, app, server.client_key, server.guesses)
    bad = bad_tokens(server, (await server.sign_in()).access_token)
    guarded = [route for route in every if isinstance(route.scope, Scope)]
    assert len(guarded) > 50
    for number, route in enumerate(guarded):
        path = re.sub(r"{\w+}", "1", route.path)
        # Those that the tables must be asked about are tried at every tenth route: the verifier is the same one.
        for why, token in bad.items():
            if "session" in why and number % 10:
                continue
            answer = await whole.send(route.method, path, b"{}", {"authorization": f"Bearer {token}"})
            assert answer.status == 401, (route.method, path, why)
            assert answer.headers["www-authenticate"].startswith("Bearer ")
        assert (await whole.send(route.method, path, b"{}")).status == 401


async def test_the_token_endpoint_takes_forms_by_post_and_nothing_else(server: Server) -> None:
    kind = {"content-type": "application/x-www-form-urlencoded", **basic("runner")}
    assert (await server.send("GET", f"{TOKEN}?grant_type=client_credentials", b"", basic("runner"))).status == 405
    in_query = await server.send("POST", f"{TOKEN}?grant_type=client_credentials", b"", kind)
    assert in_query.body["error"] == "invalid_request"
    twice = await server.send("POST", TOKEN, b"grant_type=client_credentials&scope=jobs:read&scope=self:read", kind)
    assert twice.body["error"] == "invalid_request"
    as_json = {**kind, "content-type": "application/json"}
    in_json = await server.send("POST", TOKEN, b'{"grant_type":"client_credentials"}', as_json)
    assert in_json.body["error"] == "invalid_request"
    for grant in ("password", "implicit", "urn:ietf:params:oauth:grant-type:saml2-bearer", "", "\0"):
        answer = await server.form(TOKEN, {"grant_type": grant, "username": "ada", "password": "x"}, basic("runner"))
        assert answer.status == 400
        assert answer.body["error"] in ("unsupported_grant_type", "invalid_request")
    two = [("content-type", "application/x-www-form-urlencoded"), *[(k, v) for k, v in basic("runner").items()] * 2]
    sent = await _raw(server, two)
    assert sent == 401, "two Authorization headers"


async def _raw(server: Server, headers: list[tuple[str, str]]) -> int:
    found: list[Any] = []
    scope: dict[str, Any] = {
        "type": "http", "method": "POST", "path": TOKEN, "query_string": b"", "path_params": {}, "http_version": "1.1",
        "client": ("192.0.2.1", 1), "headers": [(name.encode(), value.encode()) for name, value in headers],
    }  # fmt: skip

    async def receive() -> Any:
        return {"type": "http.request", "body": b"grant_type=client_credentials", "more_body": False}

    async def send(message: Any) -> None:
        found.append(message)

    await server.app(scope, receive, send)
    return int(found[0]["status"])


async def test_every_refusal_is_as_rfc_6749_wants_it(server: Server) -> None:
    answers = [
        await server.form(TOKEN, {}),
        await server.form(TOKEN, {"grant_type": "client_credentials"}),
        await server.as_client("runner", TOKEN, "wrong", grant_type="client_credentials"),
        await server.as_client("runner", TOKEN, grant_type="refresh_token"),
        await server.as_client("runner", TOKEN, grant_type="client_credentials", scope="config:write"),
        await server.as_client("gateway", TOKEN, grant_type="refresh_token", refresh_token="x"),
        await server.form(REVOKE, {}),
        await server.as_client("runner", INTROSPECT, token="x"),
    ]
    for answer in answers:
        assert answer.status in (400, 401)
        assert answer.body.keys() == {"error", "error_description", "code"}
        assert re.fullmatch(r"[a-z_]+", answer.body["error"])
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-type"] == "application/json"


async def test_no_secret_is_logged_or_stored(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """Defects A6 and A8 of DIRAC: tokens in logs, and tokens of others in clear in the database."""
    with caplog.at_level(logging.DEBUG):
        given = await server.sign_in()
        assertion = server.assertion()
        exchange = {
            "client_id": "spinor-cli", "grant_type": EXCHANGE, "subject_token": given.access_token,
            "subject_token_type": ACCESS_TOKEN,
        }  # fmt: skip
        narrow = (await server.form(TOKEN, exchange)).body["access_token"]
        robot = (await server.as_client("runner", TOKEN, grant_type="client_credentials")).body["access_token"]
        signed = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
        assert (await server.form(TOKEN, {"grant_type": "client_credentials", **signed})).status == 200
        wanted = {"audience": STORAGE, "scope": "storage.read:/"}
        stored = (await server.post(TOKENS, given.access_token, wanted)).body["access_token"]
        refresh = {"client_id": "spinor-cli", "grant_type": "refresh_token", "refresh_token": given.refresh_token}
        renewed = (await server.form(TOKEN, refresh)).body
        await server.as_client("gateway", INTROSPECT, token=given.access_token)
        await server.as_client("runner", TOKEN, "another-secret", grant_type="client_credentials")
        await server.form(REVOKE, {"client_id": "spinor-cli", "token": renewed["refresh_token"]})
        await server.get("/api/auth/whoami", "a.b.c")
    kept = [given.access_token, given.refresh_token, narrow, robot, stored, assertion, SECRET, "another-secret"]
    kept += [renewed["access_token"], renewed["refresh_token"]]
    logged = "\n".join(str(record.__dict__) for record in caplog.records)
    async with server.world.db.transaction() as tx:
        tables = await fetch_rows(tx, TABLES)
        rows = [str(await fetch_rows(tx, sql.SQL(f"SELECT to_jsonb(t)::text FROM {name} t"))) for (name,) in tables]
    assert len(rows) > 10
    for secret in kept:
        assert secret not in logged
        assert secret.rpartition(".")[2] not in logged
        assert not any(secret in text for text in rows)
    private = [path.read_text() for path in server.settings.keys_dir.iterdir()]
    for text in private:
        for name in ("d", "k"):
            value = json.loads(text).get(name, "nothing of that name")
            assert not any(value in row for row in rows), "defect A1: keys in the database"


def test_every_key_is_large_enough(tmp_path: Any) -> None:
    for key in KeyRing.create(tmp_path / "keys").jwks()["keys"]:
        assert key["kty"] == "EC" or len(key["n"]) >= 2048 / 6
