"""What a service may learn of a token (RFC 7662), and how its client ends it (RFC 7009)."""

from __future__ import annotations

import time

from spinor.db import execute, fetch_value
from spinor.identity import tokens
from spinor.identity.oauth import capabilities
from tests.identity.oauth.server import INTROSPECT, REVOKE, STORAGE, TOKEN, URL, Server, claims_in

INACTIVE = {"active": False}


async def test_a_token_that_holds_is_described(server: Server) -> None:
    token = (await server.sign_in("ada", "jobs:read self:read")).access_token
    claims = claims_in(token)
    answer = await server.as_client("gateway", INTROSPECT, token=token, token_type_hint="access_token")
    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.body == {
        "active": True, "token_type": "Bearer", "username": "ada", "scope": "jobs:read self:read",
        **{n: claims[n] for n in ("iss", "sub", "aud", "exp", "iat", "jti", "client_id", "vo", "group", "auth_time")},
    }  # fmt: skip


async def test_of_what_does_not_hold_nothing_is_told(server: Server) -> None:
    good = await server.sign_in()
    claims = claims_in(good.access_token)
    said = {name: claims[name] for name in ("sub", "sid", "client_id", "vo", "group", "scope")}
    bad = [
        tokens.mint(server.keys, URL, said, now=time.time() - 1300),
        tokens.mint(server.keys, URL, {**said, "nbf": time.time() + 300}),
        tokens.mint(server.keys, URL, {**said, "aud": "https://other.example.org"}),
        tokens.mint(server.keys, URL, {**said, "iss": "https://other.example.org"}),
        tokens.mint(server.keys, URL, {**said, "iss": f"{URL}/vo/astro"}, now=time.time() - 1300),
        tokens.mint(server.keys, URL, {**said, "sid": "7d8f3a1e-0000-4000-8000-000000000001"}),
        good.access_token[:-4] + "AAAA",
        "spinor_rt_" + "x" * 43,
        "x",
        "é",
        "a.b.c",
    ]
    for token in bad:
        assert (await server.as_client("gateway", INTROSPECT, token=token)).body == INACTIVE, token


async def test_sessions_and_suspensions_are_known_at_once(server: Server) -> None:
    given = await server.sign_in()
    for token in (given.access_token, given.refresh_token):
        assert (await server.as_client("gateway", INTROSPECT, token=token)).body["active"]
    async with server.world.db.transaction() as tx:
        await execute(
            tx,
            "INSERT INTO identity.suspension (user_id, reason, suspended_by) "
            "SELECT user_id, 'x', 'ada' FROM identity.user_account WHERE name = 'ada'",
        )
    assert (await server.as_client("gateway", INTROSPECT, token=given.access_token)).body == INACTIVE
    async with server.world.db.transaction() as tx:
        await execute(tx, "UPDATE identity.suspension SET lifted_at = now()")
        await execute(tx, "UPDATE identity.session SET ended_at = now()")
    for token in (given.access_token, given.refresh_token):
        assert (await server.as_client("gateway", INTROSPECT, token=token)).body == INACTIVE


async def test_a_storages_token_is_described_too(server: Server) -> None:
    minted = capabilities.mint(server.keys, URL, "astro", "s", ["storage.read:/"], STORAGE)
    told = (await server.as_client("gateway", INTROSPECT, token=minted.token)).body
    assert (told["active"], told["iss"], told["scope"]) == (True, f"{URL}/vo/astro", "storage.read:/")
    past = capabilities.mint(server.keys, URL, "astro", "s", ["storage.read:/"], STORAGE, -120)
    assert (await server.as_client("gateway", INTROSPECT, token=past.token)).body == INACTIVE


async def test_only_services_that_are_let_may_ask(server: Server) -> None:
    token = (await server.sign_in()).access_token
    public = await server.form(INTROSPECT, {"client_id": "spinor-cli", "token": token})
    other = await server.as_client("runner", INTROSPECT, token=token)
    for answer in (public, other):
        assert (answer.status, answer.body["error"]) == (400, "unauthorized_client")
        assert "active" not in answer.body
    assert (await server.form(INTROSPECT, {"token": token})).status == 401
    assert (await server.as_client("gateway", INTROSPECT, "wrong", token=token)).status == 401
    assert (await server.as_client("gateway", INTROSPECT)).body["error"] == "invalid_request"
    assert (await server.send("GET", f"{INTROSPECT}?token={token}")).status == 405


async def test_an_access_token_ends_with_its_session(server: Server) -> None:
    given = await server.sign_in()
    answer = await server.form(REVOKE, {"client_id": "spinor-cli", "token": given.access_token})
    assert (answer.status, answer.body) == (200, {})
    assert (await server.get("/api/auth/whoami", given.access_token)).body["code"] == "session-ended"
    refreshed = {"client_id": "spinor-cli", "grant_type": "refresh_token", "refresh_token": given.refresh_token}
    assert (await server.form(TOKEN, refreshed)).body["error"] == "invalid_grant"


async def test_a_refresh_token_takes_its_whole_session_along(server: Server) -> None:
    given = await server.sign_in()
    assert (await server.form(REVOKE, {"client_id": "spinor-cli", "token": given.refresh_token})).status == 200
    assert (await server.get("/api/auth/whoami", given.access_token)).status == 401


async def test_nobody_ends_what_another_client_has(server: Server) -> None:
    given = await server.sign_in()
    for token in (given.access_token, given.refresh_token, "unknown", given.access_token[:-4] + "AAAA"):
        for client in ("gateway", "runner"):
            answer = await server.as_client(client, REVOKE, token=token)
            assert (answer.status, answer.body) == (200, {}), "and it does not learn whether there was one"
        notebook = {"client_id": "spinor-notebook", "token": token}
        assert (await server.form(REVOKE, notebook)).status == 200
    async with server.world.db.transaction() as tx:
        assert await fetch_value(tx, "SELECT count(*) FROM identity.session WHERE ended_at IS NOT NULL") == 0


async def test_a_storages_token_cannot_be_ended_and_that_is_said(server: Server) -> None:
    minted = capabilities.mint(server.keys, URL, "astro", "s", ["storage.read:/"], STORAGE)
    answer = await server.form(REVOKE, {"client_id": "spinor-cli", "token": minted.token})
    assert (answer.status, answer.body["error"]) == (400, "unsupported_token_type")
