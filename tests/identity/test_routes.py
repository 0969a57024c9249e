"""The token endpoint and its neighbours, as a client sees them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spinor.errors import NotSignedIn
from spinor.identity import development
from spinor.identity.models import DEVELOPMENT_GRANT
from spinor.identity.routes import routes
from tests.identity.workbench import ISSUER, Answer, Service, make_service

if TYPE_CHECKING:
    from tests.conftest import World

TOKEN, REVOKE = "/api/auth/token", "/api/auth/revoke"


async def sign_in(service: Service, secret: str, **more: str) -> Answer:
    return await service.form(TOKEN, grant_type=DEVELOPMENT_GRANT, secret=secret, **more)


async def test_sign_in_use_refresh_and_revoke(service: Service, secret: str) -> None:
    given = await sign_in(service, secret)
    assert given.status == 200
    assert given.headers["cache-control"] == "no-store"
    assert given.body["token_type"] == "Bearer"
    assert given.body["expires_in"] == 1200
    who = await service.signed("GET", "/api/auth/whoami", given.body["access_token"])
    assert (who.body["user"], who.body["vo"], who.body["group"]) == ("ada", "astro", "astro_users")
    assert {m["group"] for m in who.body["memberships"]} == {"astro_users", "astro_admins"}
    again = await service.form(TOKEN, grant_type="refresh_token", refresh_token=given.body["refresh_token"])
    assert again.status == 200
    assert (await service.form(REVOKE, token=again.body["refresh_token"])).status == 200
    ended = await service.form(TOKEN, grant_type="refresh_token", refresh_token=again.body["refresh_token"])
    assert (ended.status, ended.body["error"]) == (400, "invalid_grant")


async def test_a_role_can_be_chosen(service: Service, secret: str) -> None:
    given = await sign_in(service, secret, vo="astro", group="astro_admins")
    assert "config:write" in given.body["scope"].split()
    for role in ({"vo": "bio"}, {"group": "bio_users"}, {"vo": "astro", "group": "nothing"}):
        refused = await sign_in(service, secret, **role)
        assert (refused.status, refused.body["code"]) == (400, "no-such-role")
        assert "astro/astro_admins" in refused.body["error_description"]


async def test_scopes_can_be_narrowed(service: Service, secret: str) -> None:
    assert (await sign_in(service, secret, scope="files:read")).body["scope"] == "files:read"
    assert (await sign_in(service, secret, scope="config:write")).body["error"] == "invalid_scope"


async def test_reuse_is_refused_and_the_revocation_stays(service: Service, secret: str) -> None:
    """The answer is an error, and what it did is committed all the same."""
    first = (await sign_in(service, secret)).body["refresh_token"]
    second = (await service.form(TOKEN, grant_type="refresh_token", refresh_token=first)).body["refresh_token"]
    third = (await service.form(TOKEN, grant_type="refresh_token", refresh_token=second)).body["refresh_token"]
    refused = await service.form(TOKEN, grant_type="refresh_token", refresh_token=first)
    assert (refused.status, refused.body["error"]) == (400, "invalid_grant")
    assert "somebody else" in refused.body["error_description"]
    assert (await service.form(TOKEN, grant_type="refresh_token", refresh_token=third)).status == 400


@pytest.mark.parametrize("grant", ["password", "implicit", "x" * 5000, "\x00"])
async def test_other_grants_are_not_offered(service: Service, grant: str) -> None:
    answer = await service.form(TOKEN, grant_type=grant, username="ada", password="x")
    assert (answer.status, answer.body["error"]) == (400, "unsupported_grant_type")
    assert len(answer.body["error_description"]) < 300


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "application/x-www-form-urlencoded"),
        (b"grant_type", "application/x-www-form-urlencoded"),
        (b"grant_type=", "application/x-www-form-urlencoded"),
        (b"grant_type=refresh_token&client_id=spinor-cli", "application/x-www-form-urlencoded"),
        (b"grant_type=refresh_token&refresh_token=a&refresh_token=b", "application/x-www-form-urlencoded"),
        (b"\xff=\xff", "application/x-www-form-urlencoded"),
        (b"x=" + b"y" * 70_000, "application/x-www-form-urlencoded"),
        (b"&".join(b"a%d=1" % n for n in range(50)), "application/x-www-form-urlencoded"),
        (b'{"grant_type": "refresh_token"}', "application/json"),
        (b"grant_type=refresh_token", ""),
    ],
)
async def test_what_is_no_form(service: Service, body: bytes, content_type: str) -> None:
    answer = await service.call("POST", TOKEN, body, {"content-type": content_type})
    assert (answer.status, answer.body["error"]) == (400, "invalid_request")
    assert answer.headers["cache-control"] == "no-store"


async def test_a_wrong_secret_is_refused(service: Service, secret: str) -> None:
    for wrong in ("x", secret + "x", secret[:-1], "é"):
        answer = await sign_in(service, wrong)
        assert (answer.status, answer.body["code"]) == (400, "secret-refused")
        assert secret not in str(answer.body)


async def test_the_secret_is_its_owners_alone(service: Service, secret: str) -> None:
    path = development.secret_file(service.settings.data_dir)
    assert path.stat().st_mode & 0o777 == 0o600
    assert development.make_secret(service.settings.data_dir, "bea") == path
    assert development.read_secret(path) == development.DevelopmentLogin(user="ada", secret=secret)


async def test_without_the_setting_there_is_no_development_login(world: World, tmp_path: Path) -> None:
    plain = make_service(world, tmp_path / "plain", systems=[routes], development_login=False)
    secret = development.read_secret(development.make_secret(plain.settings.data_dir, "ada")).secret
    assert (await sign_in(plain, secret)).body["error"] == "unsupported_grant_type"
    assert DEVELOPMENT_GRANT not in (await plain.call("GET", "/.well-known/openid-configuration")).body[
        "grant_types_supported"
    ]  # fmt: skip


async def test_discovery_tells_the_truth(service: Service) -> None:
    found = (await service.call("GET", "/.well-known/openid-configuration")).body
    assert found["issuer"] == ISSUER
    served = {route.path for route in routes.all}
    for name in ("token_endpoint", "revocation_endpoint", "jwks_uri"):
        assert found[name].removeprefix(ISSUER) in served
    keys = (await service.call("GET", "/.well-known/jwks.json")).body["keys"]
    assert {key["kid"] for key in keys} == set(service.keys.by_kid)


async def test_whoami_needs_a_token(service: Service) -> None:
    with pytest.raises(NotSignedIn):
        await service.call("GET", "/api/auth/whoami")
    assert (await service.signed("GET", "/api/auth/whoami", "x")).status == 401


async def test_no_secret_is_ever_logged(service: Service, secret: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    given = (await sign_in(service, secret)).body
    await service.form(TOKEN, grant_type="refresh_token", refresh_token=given["refresh_token"])
    await service.form(TOKEN, grant_type="refresh_token", refresh_token="spinor_rt_unknown")
    await service.signed("GET", "/api/auth/whoami", given["access_token"])
    await service.signed("GET", "/api/auth/whoami", given["access_token"][:-3])
    await service.form(REVOKE, token=given["refresh_token"])
    logged = "\n".join(str(vars(record)) for record in caplog.records)
    for hidden in (secret, given["refresh_token"], given["access_token"], given["access_token"][:-3]):
        assert hidden not in logged
