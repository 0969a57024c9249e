"""Tokens for services, and tokens for tokens (RFC 8693)."""

from __future__ import annotations

import time
from typing import Any

import pytest

from spinor.db import execute, fetch_rows
from spinor.identity import tokens
from spinor.identity.models import Proven
from tests.identity.oauth.server import (
    ACCESS_TOKEN,
    EXCHANGE,
    STORAGE,
    TOKEN,
    URL,
    Answer,
    Server,
    basic,
    claims_in,
)


async def exchange(server: Server, token: str, client: str = "spinor-cli", **more: str) -> Answer:
    fields = {"grant_type": EXCHANGE, "subject_token": token, "subject_token_type": ACCESS_TOKEN, **more}
    if client.startswith("spinor-"):
        return await server.form(TOKEN, {"client_id": client, **fields})
    return await server.form(TOKEN, fields, basic(client))


async def test_a_service_acts_as_its_robot(server: Server) -> None:
    answer = await server.as_client("runner", TOKEN, grant_type="client_credentials")
    assert answer.status == 200
    assert answer.body.keys() == {"access_token", "token_type", "expires_in", "scope"}, "and no refresh token"
    assert answer.body["scope"] == "jobs:read jobs:submit", "what both the client and the group have"
    who = (await server.get("/api/auth/whoami", answer.body["access_token"])).body
    assert who["code"] == "denied", "self:read was not given to this client"
    claims = claims_in(answer.body["access_token"])
    assert (claims["client_id"], claims["vo"], claims["group"]) == ("runner", "astro", "astro_users")
    async with server.world.db.transaction() as tx:
        ((kind, by, scopes),) = await fetch_rows(tx, "SELECT kind, signed_in_by, scopes FROM identity.session")
        ((named, client),) = await fetch_rows(tx, "SELECT name, client_id FROM identity.issued")
    assert (kind, by, scopes) == ("service", "client:runner", ["jobs:read", "jobs:submit"])
    assert (named, client) == (claims["jti"], "runner")


async def test_a_service_gets_less_and_never_more(server: Server) -> None:
    narrow = await server.as_client("runner", TOKEN, grant_type="client_credentials", scope="jobs:read")
    assert narrow.body["scope"] == "jobs:read"
    for scope in ("config:write", "files:read", "jobs:read files:read", "payload:act", "pilot:act", "openid"):
        refused = await server.as_client("runner", TOKEN, grant_type="client_credentials", scope=scope)
        assert (refused.status, refused.body["error"]) == (400, "invalid_scope"), scope
    for role in ({"vo": "bio"}, {"group": "astro_admins"}):
        refused = await server.as_client("runner", TOKEN, grant_type="client_credentials", **role)
        assert (refused.status, refused.body["error"]) == (400, "invalid_grant")


GONE = {
    "no member": "DELETE FROM identity.membership WHERE user_id = (SELECT user_id FROM identity.user_account "
    "WHERE name = 'robot')",
    "suspended": "INSERT INTO identity.suspension (user_id, reason, suspended_by) "
    "SELECT user_id, 'x', 'ada' FROM identity.user_account WHERE name = 'robot'",
    "retired": "UPDATE identity.user_account SET retired_at = now() WHERE name = 'robot'",
}


@pytest.mark.parametrize("change", GONE)
async def test_a_robot_that_is_gone_gets_nothing(server: Server, change: str) -> None:
    async with server.world.db.transaction() as tx:
        await execute(tx, GONE[change])
    refused = await server.as_client("runner", TOKEN, grant_type="client_credentials")
    assert (refused.status, refused.body["error"]) == (400, "invalid_grant")


async def test_a_token_for_less(server: Server) -> None:
    first = await server.sign_in("ada", "jobs:read jobs:submit self:read tokens:create")
    answer = await exchange(server, first.access_token, scope="self:read")
    assert answer.status == 200, answer.body
    assert answer.body["issued_token_type"] == ACCESS_TOKEN
    assert answer.body["token_type"] == "Bearer"
    assert "refresh_token" not in answer.body
    assert answer.body["scope"] == "self:read"
    old, new = claims_in(first.access_token), claims_in(answer.body["access_token"])
    assert {n: new[n] for n in ("iss", "aud", "sub", "sid", "vo", "group", "auth_time")} == {
        n: old[n] for n in ("iss", "aud", "sub", "sid", "vo", "group", "auth_time")
    }
    assert new["exp"] <= old["exp"]
    assert "act" not in new, "nobody else acts"
    who = (await server.get("/api/auth/whoami", answer.body["access_token"])).body
    assert (who["user"], who["scopes"]) == ("ada", ["self:read"])
    for scope in ("jobs:read", "self:read jobs:read", "config:write", "files:manage", "storage.read:/"):
        refused = await exchange(server, answer.body["access_token"], scope=scope)
        assert (refused.status, refused.body["error"]) == (400, "invalid_scope"), scope


async def test_a_chain_of_exchanges_lasts_no_longer_than_its_first_token(server: Server) -> None:
    claims = claims_in((await server.sign_in()).access_token)
    said = {name: claims[name] for name in ("sub", "sid", "client_id", "vo", "group", "scope")}
    token = tokens.mint(server.keys, URL, said, lifetime_s=90)
    for _ in range(3):
        token = (await exchange(server, token)).body["access_token"]
        assert claims_in(token)["exp"] <= time.time() + 90


async def test_a_subject_token_must_hold(server: Server) -> None:
    good = await server.sign_in()
    claims = claims_in(good.access_token)
    said = {name: claims[name] for name in ("sub", "sid", "client_id", "vo", "group", "scope")}
    bad = {
        "expired": tokens.mint(server.keys, URL, said, now=time.time() - 1300),
        "from the future": tokens.mint(server.keys, URL, {**said, "nbf": time.time() + 300}),
        "for another service": tokens.mint(server.keys, URL, {**said, "aud": "https://other.example.org"}),
        "changed": good.access_token[:-4] + "AAAA",
        "without a session": tokens.mint(server.keys, URL, {**said, "sid": ""}),
        "of a pilot": tokens.mint(server.keys, URL, {"sub": "pilot:1", "vo": "astro", "client_id": "spinor-cli"}),
        "a refresh token": good.refresh_token,
        "garbage": "x",
    }
    for why, token in bad.items():
        refused = await exchange(server, token)
        assert refused.status == 400, why
        assert refused.body["error"] in ("invalid_request", "invalid_grant"), why
        assert token not in refused.body["error_description"] or token == "x"


async def test_the_types_of_an_exchange(server: Server) -> None:
    token = (await server.sign_in()).access_token
    kinds = ["id_token", "refresh_token", "jwt", "saml2"]
    for kind in [*(f"urn:ietf:params:oauth:token-type:{name}" for name in kinds), "access_token", ""]:
        refused = await exchange(server, token, subject_token_type=kind)
        assert (refused.status, refused.body["error"]) == (400, "invalid_request"), kind
    for name in ("refresh_token", "id_token", "jwt"):
        wanted = f"urn:ietf:params:oauth:token-type:{name}"
        assert (await exchange(server, token, requested_token_type=wanted)).status == 400
    assert (await exchange(server, token, requested_token_type=ACCESS_TOKEN)).status == 200
    assert (await exchange(server, token, actor_token=token, actor_token_type=ACCESS_TOKEN)).status == 400
    for field in ("subject_token", "subject_token_type"):
        assert (await exchange(server, **{"token": token, field: ""})).status == 400


async def test_a_token_of_another_client_is_not_exchanged(server: Server) -> None:
    token = (await server.sign_in(client_id="spinor-notebook")).access_token
    assert (await exchange(server, token)).body["error"] == "invalid_request"
    assert (await exchange(server, token, "runner")).body["error"] == "invalid_request"
    assert (await exchange(server, token, "spinor-notebook")).status == 200


async def test_who_acts_for_whom_stands_in_the_token(server: Server) -> None:
    token = (await server.sign_in()).access_token
    one = await exchange(server, token, "gateway", scope="self:read jobs:read")
    assert claims_in(one.body["access_token"])["act"] == {"sub": "gateway"}
    again = await exchange(server, one.body["access_token"], "gateway")
    assert claims_in(again.body["access_token"])["act"] == {"sub": "gateway"}, "it is the same actor still"
    two = await exchange(server, one.body["access_token"], "second-gateway", scope="self:read")
    assert claims_in(two.body["access_token"])["act"] == {"sub": "second-gateway", "act": {"sub": "gateway"}}
    back = two.body["access_token"]
    for client in ("gateway", "second-gateway"):
        back = (await exchange(server, back, client)).body["access_token"]
    refused = await exchange(server, back, "gateway")
    assert refused.status == 400, "the chain of actors is bounded"
    assert "handed on" in refused.body["error_description"]


async def test_may_act_is_respected(server: Server) -> None:
    claims = claims_in((await server.sign_in()).access_token)
    said = {name: claims[name] for name in ("sub", "sid", "client_id", "vo", "group", "scope")}
    token = tokens.mint(server.keys, URL, {**said, "may_act": {"sub": "gateway"}})
    assert (await exchange(server, token)).body["error"] == "invalid_request"
    assert (await exchange(server, token, "second-gateway")).body["error"] == "invalid_request"
    assert (await exchange(server, token, "gateway")).status == 200


async def test_an_ended_session_gives_no_more(server: Server) -> None:
    first = await server.sign_in()
    narrow = (await exchange(server, first.access_token)).body["access_token"]
    async with server.world.db.transaction() as tx:
        await execute(tx, "UPDATE identity.session SET ended_at = now()")
    assert (await exchange(server, first.access_token)).body["error"] == "invalid_request"
    assert (await server.get("/api/auth/whoami", narrow)).status == 401


async def test_an_exchange_for_a_storage(server: Server) -> None:
    token = (await server.sign_in()).access_token
    answer = await exchange(server, token, audience=STORAGE, scope="storage.read:/data")
    assert answer.status == 200, answer.body
    claims = claims_in(answer.body["access_token"])
    assert (claims["iss"], claims["aud"], claims["scope"]) == (f"{URL}/vo/astro", STORAGE, "storage.read:/data")
    assert (await exchange(server, token, resource=STORAGE, scope="storage.read:/")).status == 200
    refusals = [
        ({"audience": "https://evil.example.org", "scope": "storage.read:/"}, "invalid_target"),
        ({"audience": "https://wlcg.cern.ch/jwt/v1/any", "scope": "storage.read:/"}, "invalid_target"),
        ({"audience": STORAGE, "resource": URL, "scope": "storage.read:/"}, "invalid_target"),
        ({"audience": STORAGE}, "invalid_scope"),
        ({"audience": STORAGE, "scope": "storage.modify:/users/alan"}, "invalid_scope"),
    ]
    for fields, error in refusals:
        assert (await exchange(server, token, **fields)).body["error"] == error, fields
    narrow = (await server.sign_in(scope="self:read")).access_token
    refused = await exchange(server, narrow, audience=STORAGE, scope="storage.read:/")
    assert refused.status == 400, "tokens:create was not given"


# ------------------------------------------------------------------------------------- tokens of a provider

PROVIDER = "https://login.example.org/realms/astro"


def foreign(server: Server, **changes: Any) -> str:
    """A token as a provider makes it; who verifies it is the federation's business."""
    return server.assertion(**{"iss": PROVIDER, "sub": "f00", "azp": "hub", "aud": "spinor", **changes})


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """A federation that knows one provider, and what it was asked."""
    asked: list[tuple[str, str]] = []

    async def proven_by_token(_db: Any, _state: Any, issuer: str, token: str) -> Proven:
        asked.append((issuer, token))
        return Proven(user="ada", signed_in_by=f"exchange:{issuer}")

    monkeypatch.setattr("spinor.identity.federation.service.proven_by_token", proven_by_token)
    return asked


async def test_a_providers_token_gives_one_of_ours(server: Server, provider: list[tuple[str, str]]) -> None:
    token = foreign(server)
    answer = await exchange(server, token, "spinor-notebook", scope="self:read", vo="astro", group="astro_users")
    assert answer.status == 200, answer.body
    assert answer.body["issued_token_type"] == ACCESS_TOKEN
    assert "refresh_token" not in answer.body
    assert provider == [(PROVIDER, token)]
    assert (await server.get("/api/auth/whoami", answer.body["access_token"])).body["user"] == "ada"
    assert (await exchange(server, token, "spinor-notebook", scope="config:write")).body["error"] == "invalid_scope"
    opaque = await exchange(server, "opaque-token", "spinor-notebook", subject_issuer=PROVIDER)
    assert opaque.status == 200
    refused = await exchange(server, token, "spinor-notebook", audience=STORAGE, scope="storage.read:/")
    assert refused.body["error"] == "invalid_target"


async def test_what_is_never_shown_to_the_federation(server: Server, provider: list[tuple[str, str]]) -> None:
    refused = [
        await exchange(server, foreign(server), "gateway"),  # May exchange our tokens only.
        await exchange(server, foreign(server), "runner"),
        await exchange(server, "opaque-token"),
        await exchange(server, "opaque-token", subject_issuer=URL),
        await exchange(server, foreign(server), subject_issuer="https://other.example.org"),
        await exchange(server, foreign(server, iss=None), subject_issuer=PROVIDER),
        await exchange(server, foreign(server, iss=["a"]), subject_issuer=PROVIDER),
        await exchange(server, foreign(server, at_hash="x")),  # An ID token, whatever it is called.
        await exchange(server, foreign(server, typ="ID")),
        await exchange(server, foreign(server, typ="Refresh")),
        await exchange(server, foreign(server), subject_token_type="urn:ietf:params:oauth:token-type:id_token"),
        await exchange(server, server.assertion({"crit": ["b64"], "b64": True}, iss=PROVIDER)),
    ]
    assert [answer.status for answer in refused] == [400] * len(refused)
    assert not provider


async def test_a_token_that_says_it_is_ours_is_verified_as_ours(
    server: Server, provider: list[tuple[str, str]]
) -> None:
    assert (await exchange(server, foreign(server, iss=URL))).body["error"] == "invalid_request"
    assert not provider


async def test_without_a_provider_nothing_is_exchanged(server: Server) -> None:
    answer = await exchange(server, foreign(server))
    assert answer.status == 400
    assert "error" in answer.body
