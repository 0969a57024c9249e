"""Codes: once, soon, by the program and at the place that they were given to, with the verifier of the same sign-in."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

import msgspec
import pytest
from joserfc import jws

from spinor.db import Tx, execute, fetch_rows, fetch_value
from spinor.http import Public
from spinor.identity import browser as browsers
from spinor.identity import service as identity
from spinor.identity.routes import routes
from spinor.identity.tokens import TokenWrongType, read_token
from tests.identity.flows.people import (
    AUTHORIZE,
    CALLBACK,
    ISSUER,
    TOKEN,
    VERIFIER,
    Browser,
    Program,
    authorization,
    challenge_of,
    refused,
)
from tests.identity.workbench import Service, request

if TYPE_CHECKING:
    from spinor.db import Database

SUSPEND_ADA = (
    "INSERT INTO identity.suspension (user_id, reason, suspended_by)"
    " SELECT user_id, 'tests', 'tests' FROM identity.user_account WHERE name = 'ada'"
)


async def sessions(db: Database) -> list[tuple[str | None]]:
    async with db.transaction() as tx:
        return [(row[0],) for row in await fetch_rows(tx, "SELECT ended_by FROM identity.session ORDER BY opened_at")]


async def change(service: Service, statement: str) -> None:
    async with service.world.db.transaction() as tx:
        assert await execute(tx, statement), statement


async def test_a_second_use_is_refused_and_ends_what_the_first_has_opened(
    ada: Browser, program: Program, service: Service
) -> None:
    """RFC 6749 section 4.1.2, and the replay for 300 s of DIRAC's server (A3)."""
    code = await ada.code()
    tokens = (await program.redeem(code)).body
    assert refused(await program.redeem(code), "invalid_grant")
    assert await sessions(service.world.db) == [("reuse",)], "committed although the answer is a refusal"
    assert (await program.who(tokens["access_token"])).status == 401
    assert refused(await program.refresh(tokens["refresh_token"]), "invalid_grant")
    assert refused(await program.redeem(code), "invalid_grant")


async def test_two_uses_at_once_give_one_session(ada: Browser, program: Program, service: Service) -> None:
    code = await ada.code()
    answers = await asyncio.gather(*(program.redeem(code) for _ in range(8)))
    assert sorted(answer.status for answer in answers) == [200, *[400] * 7]
    assert await sessions(service.world.db) == [("reuse",)]


async def test_a_code_is_good_for_a_minute(ada: Browser, program: Program, service: Service) -> None:
    code = await ada.code()
    async with service.world.db.transaction() as tx:
        lifetime_s = await fetch_value(
            tx, "SELECT extract(epoch FROM expires_at - now()) FROM identity.authorization_code"
        )
    assert 0 < lifetime_s <= 60
    await change(service, "UPDATE identity.authorization_code SET expires_at = clock_timestamp()")
    answer = await program.redeem(code)
    assert refused(answer, "invalid_grant")
    assert "expired" in answer.body["error_description"]


async def test_a_code_is_good_for_its_own_client(ada: Browser, program: Program, other: Program) -> None:
    code = await ada.code()
    assert refused(await other.redeem(code), "invalid_grant")
    assert (await program.redeem(code)).status == 200


@pytest.mark.parametrize(
    ("redirect_uri", "error"),
    [
        (None, "invalid_request"),
        ("", "invalid_request"),
        ("http://127.0.0.1:41024/callback", "invalid_grant"),
        (CALLBACK + "/", "invalid_grant"),
    ],
)
async def test_a_code_is_good_for_its_own_place(
    ada: Browser, program: Program, redirect_uri: str | None, error: str
) -> None:
    code = await ada.code()
    assert refused(await program.redeem(code, redirect_uri=redirect_uri), error)
    assert (await program.redeem(code)).status == 200


@pytest.mark.parametrize(
    ("verifier", "error"),
    [
        (None, "invalid_request"),
        ("", "invalid_request"),
        ("w" * 64, "invalid_grant"),
        (challenge_of(VERIFIER), "invalid_grant"),
        ("v" * 42, "invalid_grant"),
        ("v" * 129, "invalid_grant"),
        ("v" * 63 + "é", "invalid_grant"),
        ("v" * 64 + "\n", "invalid_grant"),
    ],
)
async def test_a_code_needs_the_verifier_of_its_sign_in(
    ada: Browser, program: Program, verifier: str | None, error: str
) -> None:
    code = await ada.code()
    assert refused(await program.redeem(code, code_verifier=verifier), error)
    assert (await program.redeem(code)).status == 200


@pytest.mark.parametrize("length", [42, 129])
async def test_a_verifier_too_short_or_too_long_is_refused_even_when_it_fits(
    ada: Browser, program: Program, length: int
) -> None:
    verifier = "v" * length
    code = await ada.code(code_challenge=challenge_of(verifier))
    assert refused(await program.redeem(code, code_verifier=verifier), "invalid_grant")


async def test_an_injected_code_is_refused(ada: Browser, bea: Browser, program: Program) -> None:
    """RFC 9700 section 4.5: a code of somebody else's sign-in, brought into one's own."""
    stolen = await ada.code()
    await bea.code(code_challenge=challenge_of("b" * 64))
    assert refused(await program.redeem(stolen, code_verifier="b" * 64), "invalid_grant")


@pytest.mark.parametrize("code", ["", "spinor_ac_unknown", "\0", "' OR 1=1 --", "x" * 5000])
async def test_an_unknown_code_is_refused(program: Program, code: str) -> None:
    assert refused(await program.redeem(code), "invalid_grant" if code else "invalid_request")


async def test_the_token_endpoint_takes_forms_by_post_alone(ada: Browser, program: Program, service: Service) -> None:
    code = await ada.code()
    assert [route.method for route in routes.all if route.path == TOKEN] == ["POST"]
    query = f"grant_type=authorization_code&code={code}&redirect_uri={CALLBACK}&code_verifier={VERIFIER}"
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert refused(await service.call("POST", f"{TOKEN}?{query}", b"", headers), "invalid_request")
    twice = f"{query}&code={code}".encode()
    assert refused(await service.call("POST", TOKEN, twice, headers), "invalid_request")
    assert (await program.redeem(code)).status == 200


async def test_the_role_and_the_scopes_are_those_that_the_person_saw(ada: Browser, program: Program) -> None:
    answer = await ada.consent(authorization(scope="files:read"), role="astro/astro_admins")
    tokens = (await program.redeem(answer.answer["code"])).body
    assert tokens["scope"] == "files:read"
    assert (await program.who(tokens["access_token"])).status == 403, "self:read was not asked for"
    answer = await ada.consent(authorization(), role="astro/astro_admins")
    tokens = (await program.redeem(answer.answer["code"])).body
    assert (await program.who(tokens["access_token"])).body["group"] == "astro_admins"
    code = await ada.code(scope="files:read")
    more = (await program.redeem(code, scope="files:read jobs:submit", group="astro_admins", vo="bio")).body
    assert more["scope"] == "files:read", "what a program adds afterwards is not looked at"


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM identity.membership",
        "UPDATE identity.user_account SET retired_at = now() WHERE name = 'ada'",
        "UPDATE identity.vo_group SET retired_at = now()",
        SUSPEND_ADA,
        "DELETE FROM identity.browser_session",
    ],
)
async def test_what_has_ended_meanwhile_gives_nothing(
    ada: Browser, program: Program, service: Service, statement: str
) -> None:
    code = await ada.code(group="astro_users")
    await change(service, statement)
    assert refused(await program.redeem(code), "invalid_grant")
    assert await sessions(service.world.db) == []


async def test_signing_out_of_the_browser_voids_its_codes(ada: Browser, program: Program, service: Service) -> None:
    from starlette.responses import Response

    code = await ada.code()
    async with service.world.db.transaction() as tx:
        await browsers.forget(tx, request("POST", "/logout", headers={"cookie": ada.cookie}), Response())
    assert refused(await program.redeem(code), "invalid_grant")


async def test_an_id_token_says_who_has_signed_in_and_opens_nothing(
    ada: Browser, program: Program, service: Service
) -> None:
    code = await ada.code(scope="openid", nonce="n-0S6_WzA2Mj")
    tokens = (await program.redeem(code)).body
    assert set(tokens["scope"].split()) == {"openid", "self:read"}, "openid alone gives nothing but who one is"
    key = next(key for key in service.keys.by_kid.values() if key.algorithm == "RS256")
    told = jws.deserialize_compact(tokens["id_token"], key.key, algorithms=["RS256"])
    claims = msgspec.json.decode(told.payload)
    assert told.headers()["kid"] == key.kid
    assert (claims["iss"], claims["aud"], claims["nonce"]) == (ISSUER, "spinor-cli", "n-0S6_WzA2Mj")
    assert claims["auth_time"] <= claims["iat"] < claims["exp"] <= claims["iat"] + 300
    assert claims["sub"] == read_token(service.keys, ISSUER, tokens["access_token"], time.time()).sub
    with pytest.raises(TokenWrongType):
        read_token(service.keys, ISSUER, tokens["id_token"], time.time())
    assert (await program.who(tokens["id_token"])).body["code"] == "token-wrong-type"
    assert refused(await program.refresh(tokens["id_token"]), "invalid_grant")


async def test_openid_beside_other_scopes_adds_none(ada: Browser, program: Program) -> None:
    tokens = (await program.redeem(await ada.code(scope="openid files:read"))).body
    assert set(tokens["scope"].split()) == {"openid", "files:read"}


async def test_codes_are_kept_as_hashes_and_never_logged(
    ada: Browser, program: Program, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    code = await ada.code(nonce="")
    tokens = (await program.redeem(code)).body
    await program.redeem(code)
    await program.redeem("spinor_ac_never-given")
    async with service.world.db.transaction() as tx:
        kept = str(await fetch_rows(tx, "SELECT c::text FROM identity.authorization_code c"))
    logged = "\n".join(str(vars(record)) for record in caplog.records)
    cookie = ada.cookie.partition("=")[2]
    for hidden in (code, VERIFIER, cookie, tokens["access_token"], tokens["refresh_token"], "never-given"):
        assert hidden not in kept
        assert hidden not in logged


async def test_what_has_expired_is_deleted_a_day_later(ada: Browser, program: Program, service: Service) -> None:
    await ada.code()
    await program.start()
    await ada.confirm("BBBB-BBBB")

    async def left(tx: Tx) -> int:
        count: int = await fetch_value(
            tx,
            "SELECT (SELECT count(*) FROM identity.authorization_code) + (SELECT count(*) FROM identity.device_grant)"
            " + (SELECT count(*) FROM identity.device_guess)",
        )
        return count

    for statement in (
        "UPDATE identity.authorization_code SET expires_at = now() - interval '23 hours'",
        "UPDATE identity.device_grant SET expires_at = now() - interval '23 hours'",
    ):
        await change(service, statement)
    async with service.world.db.transaction() as tx:
        await identity.delete_expired(tx)
        assert await left(tx) == 3, "so long a second use is still seen"
    for statement in (
        "UPDATE identity.authorization_code SET expires_at = now() - interval '25 hours'",
        "UPDATE identity.device_grant SET expires_at = now() - interval '25 hours'",
        "UPDATE identity.device_guess SET guessed_at = now() - interval '25 hours'",
    ):
        await change(service, statement)
    async with service.world.db.transaction() as tx:
        assert await identity.delete_expired(tx) == 3
        assert await left(tx) == 0


async def test_discovery_describes_what_is_there(service: Service) -> None:
    found = (await service.call("GET", "/.well-known/openid-configuration")).body
    served = {(route.method, route.path) for route in routes.all if route.scope is Public.SIGN_IN}
    assert ("GET", found["authorization_endpoint"].removeprefix(ISSUER)) in served
    assert ("POST", found["device_authorization_endpoint"].removeprefix(ISSUER)) in served
    assert found["authorization_endpoint"] == ISSUER + AUTHORIZE
    assert found["response_types_supported"] == ["code"]
    assert found["code_challenge_methods_supported"] == ["S256"]
    assert found["authorization_response_iss_parameter_supported"] is True
    assert {"authorization_code", "urn:ietf:params:oauth:grant-type:device_code"} <= set(found["grant_types_supported"])
    assert "openid" in found["scopes_supported"]
