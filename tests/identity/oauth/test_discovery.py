"""What the service says of itself is what it does (RFC 8414, RFC 9728, the WLCG profile)."""

from __future__ import annotations

import pytest

from spinor.identity.oauth.grants import GRANTS
from tests.identity.oauth.server import URL, Server

PLAIN = "/.well-known/oauth-authorization-server"
OPENID = "/.well-known/openid-configuration"


async def test_the_authorization_server_describes_itself(server: Server) -> None:
    found = (await server.get(PLAIN)).body
    openid = (await server.get(OPENID)).body
    assert found.items() <= openid.items()
    assert found["issuer"] == URL, "letter by letter"
    assert {"token_endpoint", "jwks_uri", "response_types_supported", "grant_types_supported"} <= found.keys()
    assert set(found["grant_types_supported"]) == set(GRANTS) - {"urn:spinor:params:oauth:grant-type:development"}
    assert not {"password", "implicit"} & set(found["grant_types_supported"])
    assert "plain" not in found.get("code_challenge_methods_supported", [])
    assert not {"HS256", "none"} & set(openid["id_token_signing_alg_values_supported"])


async def test_every_address_that_is_named_is_there_and_on_this_host(server: Server) -> None:
    for path in (PLAIN, OPENID, f"{OPENID}/vo/astro", "/vo/astro" + OPENID):
        for name, value in (await server.get(path)).body.items():
            if not name.endswith(("_endpoint", "_uri")):
                continue
            assert value.startswith(URL + "/"), name
            where = value.removeprefix(URL)
            answers = [(await server.send(method, where)).status for method in ("GET", "POST")]
            assert answers != [404, 404], name


async def test_both_forms_of_a_vos_address_say_the_same(server: Server) -> None:
    appended = (await server.get("/vo/astro" + OPENID)).body
    assert appended["issuer"] == f"{URL}/vo/astro"
    assert (await server.get(f"{OPENID}/vo/astro")).body == appended
    assert (await server.get(f"{PLAIN}/vo/astro")).body == appended
    assert appended["jwks_uri"] == f"{URL}/vo/astro/jwks.json"
    assert (await server.get("/vo/astro/jwks.json")).body == (await server.get("/.well-known/jwks.json")).body


@pytest.mark.parametrize("vo", ["nowhere", "Astro", "..", "%2e%2e", "astro%00", "astro/"])
async def test_there_is_no_issuer_of_what_is_no_vo(server: Server, vo: str) -> None:
    for path in (f"/vo/{vo}{OPENID}", f"{OPENID}/vo/{vo}", f"{PLAIN}/vo/{vo}", f"/vo/{vo}/jwks.json"):
        assert (await server.get(path)).status in (404, 422), path


async def test_the_resource_describes_itself(server: Server) -> None:
    found = (await server.get("/.well-known/oauth-protected-resource")).body
    assert (found["resource"], found["authorization_servers"]) == (URL, [URL])
    assert found["bearer_methods_supported"] == ["header"]
    token = (await server.sign_in()).access_token
    assert (await server.get(f"/api/auth/whoami?access_token={token}")).status == 401
    body = f"access_token={token}".encode()
    kind = {"content-type": "application/x-www-form-urlencoded"}
    assert (await server.send("POST", "/api/auth/tokens", body, kind)).status == 401


async def test_the_keys_are_public_and_can_be_kept(server: Server) -> None:
    answer = await server.get("/.well-known/jwks.json")
    assert answer.headers["content-type"] == "application/jwk-set+json"
    assert "max-age=3600" in answer.headers["cache-control"]
    assert len(answer.body["keys"]) >= 2
    assert not any(
        key.keys() & {"d", "p", "q", "dp", "dq", "qi", "k", "spinor_signs_from"} for key in answer.body["keys"]
    )
