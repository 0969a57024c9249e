"""Tokens for storages and computing elements: who gets which."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from joserfc import jws
from joserfc.jwk import ECKey, KeySet

from spinor.configuration.checking import BadConfiguration, read_document
from spinor.db import fetch_rows
from spinor.identity.oauth import capabilities
from tests.identity.oauth.server import OPERATIONS, STORAGE, TOKENS, URL, Answer, Server, claims_in

if TYPE_CHECKING:
    from spinor.identity.keys import KeyRing


async def asked(server: Server, user: str = "ada", group: str = "astro_users", **body: Any) -> Answer:
    token = (await server.sign_in(user, group=group)).access_token
    return await server.post(TOKENS, token, {"audience": STORAGE, "scope": "storage.read:/", **body})


async def test_a_token_is_as_the_profile_wants_it(server: Server) -> None:
    token = (await server.sign_in()).access_token
    before = int(time.time())
    wanted = {"audience": STORAGE, "scope": "storage.read:/data compute.read"}
    answer = await server.post(TOKENS, token, wanted)
    assert answer.status == 200, answer.body
    assert answer.headers["cache-control"] == "no-store"
    assert (answer.body["token_type"], answer.body["expires_in"]) == ("Bearer", 3600)
    made = answer.body["access_token"]
    keys = (await server.get("/vo/astro/jwks.json")).body
    verified = jws.deserialize_compact(made, KeySet.import_key_set(keys), algorithms=["ES256"])
    assert {"alg", "kid", "typ"} == verified.headers().keys()
    claims = json.loads(verified.payload)
    assert claims.keys() == {"iss", "sub", "aud", "iat", "nbf", "exp", "jti", "wlcg.ver", "scope"}
    assert claims["iss"] == f"{URL}/vo/astro"
    assert claims["aud"] == STORAGE
    assert claims["sub"] == claims_in(token)["sub"]
    assert claims["wlcg.ver"] == "1.0"
    assert claims["scope"] == "storage.read:/data compute.read"
    assert claims["nbf"] <= before <= claims["iat"]
    assert claims["exp"] - claims["iat"] == 3600
    assert (await server.get("/api/auth/whoami", made)).status == 401, "it opens nothing of ours"
    async with server.world.db.transaction() as tx:
        ((audience, scopes, client),) = await fetch_rows(
            tx,
            "SELECT audience, scopes, address FROM identity.issued WHERE kind = 'storage_token' AND name = %(jti)s",
            {"jti": claims["jti"]},
        )
    assert (audience, scopes, client) == ([STORAGE], ["storage.read:/data", "compute.read"], "192.0.2.1")


async def test_who_gets_what(server: Server) -> None:
    given = {
        "storage.read:/": "storage.read:/",
        "storage.read:/%61": "storage.read:/a",
        "storage.modify:/users/ada/x": "storage.modify:/users/ada/x",
        "storage.create:/users/ada": "storage.create:/users/ada",
        "storage.read:/a storage.read:/a": "storage.read:/a",
        "wlcg.groups": "",
    }
    for scope, told in given.items():
        answer = await asked(server, scope=scope)
        assert (answer.status, answer.body["scope"]) == (200, told), scope
    refused = [
        "storage.modify:/",
        "storage.modify:/users/alan",
        "storage.modify:/users/adam",
        "storage.modify:/users/ada/../alan",
        "storage.create:/data",
        "storage.stage:/",
        "compute.create",
        "storage.read:/ storage.modify:/",
        "wlcg.groups:/bio",
        "wlcg.groups:/astro/astro_admins",
        "wlcg.groups:/astro/../bio",
    ]
    for scope in refused:
        assert (await asked(server, scope=scope)).status in (403, 422), scope
    for scope in ("", " ", "storage.read", "openid", "offline_access", "storage.read:/a//b", "storage.read:/%2e%2e/"):
        assert (await asked(server, scope=scope)).body["code"] == "bad-capability", scope
    theirs = await asked(server, "alan", scope="storage.modify:/users/alan")
    assert theirs.status == 200


async def test_groups_are_told_when_asked_for(server: Server) -> None:
    usual = await asked(server, scope="wlcg.groups")
    assert claims_in(usual.body["access_token"])["wlcg.groups"] == ["/astro"]
    both = await asked(server, scope="wlcg.groups:/astro/astro_users wlcg.groups storage.read:/")
    claims = claims_in(both.body["access_token"])
    assert claims["wlcg.groups"] == ["/astro/astro_users", "/astro"], "in the order that was asked for"
    assert claims["scope"] == "storage.read:/"


async def test_a_token_is_for_an_element_of_the_vo(server: Server) -> None:
    assert (await asked(server, audience="https://ce.example.org", scope="compute.read")).status == 200
    for audience in (
        "https://wlcg.cern.ch/jwt/v1/any",
        "any",
        "ANY",
        STORAGE + "/",
        STORAGE.upper(),
        "https://se.example.org",
        URL,
        "https://evil.example.org",
        f"{STORAGE} https://ce.example.org",
    ):
        assert (await asked(server, audience=audience)).body["code"] == "audience-refused", audience
    other = await asked(server, "bea", "bio_users")
    assert other.body["code"] == "audience-refused", "another VO's storage"


async def test_a_token_lives_six_hours_at_most(server: Server) -> None:
    answer = await asked(server, lifetime_s=21_600)
    claims = claims_in(answer.body["access_token"])
    assert claims["exp"] - claims["iat"] == 21_600
    for lifetime_s in (21_601, 59, 0, -1, 10**12, 3600.5, "3600", True):
        assert (await asked(server, lifetime_s=lifetime_s)).status == 422, lifetime_s


async def test_the_scope_of_the_route_is_needed(server: Server) -> None:
    token = (await server.sign_in(scope="files:read")).access_token
    answer = await server.post(TOKENS, token, {"audience": STORAGE, "scope": "storage.read:/"})
    assert (answer.status, answer.body["code"]) == (403, "denied")
    assert (await server.post(TOKENS, "x", {})).status == 401
    admin = await asked(server, group="astro_admins", scope="storage.stage:/")
    assert admin.body["code"] == "denied", "administrators have no tokens:create; they act as users for that"


async def test_without_rules_users_read(server: Server) -> None:
    from spinor.configuration import service as configuration

    text = OPERATIONS.format(key="{}", url=URL, storage=STORAGE)
    document = text[: text.index("      rules:")] + text[text.index("  bio:") : text.index("clients:")]
    document += text[text.index("sites:") :]
    async with server.world.db.transaction() as tx:
        await configuration.apply(tx, document, author="tests")
    assert (await asked(server, scope="storage.read:/x")).status == 200
    for scope in ("storage.create:/users/ada", "storage.modify:/", "compute.read"):
        assert (await asked(server, scope=scope)).body["code"] == "capability-denied"


def test_minting_for_the_server_itself(keys: KeyRing) -> None:
    minted = capabilities.mint(keys, URL, "astro", "robot", ["storage.create:/jobs/7"], STORAGE, 600)
    claims = claims_in(minted.token)
    for scope in ("storage.read", "storage.read:/a/../b", "jobs:read", "storage.read:/a b"):
        with pytest.raises(ValueError, match=r"has|is none"):
            capabilities.mint(keys, URL, "astro", "robot", [scope], STORAGE)
    assert (claims["jti"], claims["exp"]) == (minted.jti, minted.expires_at.timestamp())


@pytest.fixture
def keys(tmp_path: Any) -> KeyRing:
    from spinor.identity.keys import KeyRing

    return KeyRing.create(tmp_path / "keys")


# ---------------------------------------------------------------------------------------------- operations data


ROLE = "user: robot, vo: astro, group: astro_users}}\n    scopes"


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("storage.read:/\"", "storage.read:/..\"", "has . or .."),
        ("compute.read]", "compute.fly]", "is none of"),
        ("groups: [astro_admins]", "groups: [nobody]", "no group 'nobody'"),
        ("{{properties: [normal_user], scopes", "{{properties: [nothing], scopes", "no property 'nothing'"),
        ("{{groups: [astro_admins], scopes", "{{scopes", "for nobody"),
        ("[https://ce.example.org]", "[https://ce.example.org/]", "without a slash"),
        ("[https://ce.example.org]", "[any]", "must be an address"),
        ("kind: public", "kind: secret", "kind"),
        ("  browser-app:", "  spinor-cli:", "Spinor's own"),
        ("https://app.example.org/back", "http://app.example.org/back", "https"),
        ("https://app.example.org/back", "https://*.example.org/back", "wildcard"),
        ("https://app.example.org/back", "https://app.example.org/back#x", "fragment"),
        ("kind: public\n    grants: [au", "kind: public\n    grants: [client_credentials, au", "cannot use client"),
        ("    secret_file: runner\n", "", "either secret_file or jwks"),
        ("secret_file: runner", "secret_file: ../keys/x", "secret_file"),
        ("secret_file: runner", "secret_file: /etc/passwd", "secret_file"),
        (ROLE, "user: bea, vo: astro, group: astro_users}}\n    scopes", "no member"),
        (ROLE, "user: robot, vo: astro, group: nobody}}\n    scopes", "no group"),
        ("jobs:submit, config:write", "jobs:fly", "no scope"),
        ("kind: public", "kind: public\n    introspect: true", "cannot ask"),
        ("kind: public", "kind: public\n    secret_file: runner", "cannot keep a secret"),
        ("jwks: [{key}]", 'jwks: [{{kty: oct, k: AAAA}}]', "private key"),
        ("jwks: [{key}]", 'jwks: [{{kty: EC, crv: P-256, x: AA, y: AA, d: AA}}]', "private key"),
        ("jwks: [{key}]", 'jwks: [{{kty: RSA, n: AQAB, e: AQAB}}]', "jwks"),
        ("jwks: [{key}]", 'jwks: [{{kty: OKP, crv: Ed25519, x: AA}}]', "jwks"),
        ("jwks: [{key}]", 'jwks: [x]', "jwks"),
    ],
)  # fmt: skip
def test_operations_data_that_would_open_too_much(old: str, new: str, fault: str) -> None:
    assert old in OPERATIONS, old
    key = json.dumps(ECKey.generate_key("P-256").as_dict(private=False))
    assert read_document(OPERATIONS.format(key=key, url=URL, storage=STORAGE))
    with pytest.raises(BadConfiguration, match=fault):
        read_document(OPERATIONS.replace(old, new).format(key=key, url=URL, storage=STORAGE))
