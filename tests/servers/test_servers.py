"""Each server really runs and answers. What Spinor does with them is tested where Spinor does it."""

import secrets
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from tests.servers.chromium import screenshot
from tests.servers.oidc import NOWHERE, OIDCServer, challenge, sign_in

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = pytest.mark.acceptance


@pytest.mark.peer("oidc-provider")
def test_a_code_gives_tokens_and_tokens_give_claims(oidc_server: OIDCServer) -> None:
    client = oidc_server.add_client("code", public=True)
    oidc_server.add_user("4711@astro.example", name="Ada Lovelace", wlcg_groups=["/astro"])
    tokens = oidc_server.sign_in(client, "4711@astro.example", "openid profile wlcg.groups")
    with oidc_server.http() as http:
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        claims = http.get("/me", headers=bearer).json()
    assert claims == {"sub": "4711@astro.example", "name": "Ada Lovelace", "wlcg.groups": ["/astro"]}


@pytest.mark.peer("oidc-provider")
def test_two_providers_with_keys_of_their_own(oidc_server: OIDCServer, second_oidc_server: OIDCServer) -> None:
    client = second_oidc_server.add_client("jwt", public=True)
    second_oidc_server.add_user("bea", access_token_claims={"wlcg.ver": "1.0"})
    tokens = second_oidc_server.sign_in(client, "bea", "openid offline_access")
    assert tokens["access_token"].count(".") == 2
    assert second_oidc_server.issuer != oidc_server.issuer
    before = second_oidc_server.key_ids
    second_oidc_server.rotate_keys(keep_old=False)
    with second_oidc_server.http() as http:
        published = [key["kid"] for key in http.get("/jwks").json()["keys"]]
    assert published == second_oidc_server.key_ids
    assert not set(published) & set(before)
    # What was issued before the rotation can be refreshed after it.
    again = second_oidc_server.token(client, grant_type="refresh_token", refresh_token=tokens["refresh_token"])
    assert again["access_token"] != tokens["access_token"]


@pytest.mark.peer("oidc-provider")
@pytest.mark.peer("chromium")
async def test_a_browser_signs_in_and_trusts_the_authority(oidc_server: OIDCServer, page: "Page") -> None:
    client = oidc_server.add_client("browser", public=True)
    oidc_server.add_user("alan")
    asked = {
        "client_id": client.client_id, "response_type": "code", "redirect_uri": NOWHERE, "scope": "openid",
        "code_challenge": challenge(secrets.token_urlsafe(48)), "code_challenge_method": "S256", "state": "s",
    }  # fmt: skip
    await page.goto(f"{oidc_server.issuer}/auth?{urlencode(asked)}")
    assert (await screenshot(page, "oidc-provider")).stat().st_size > 1000
    async with page.expect_request(lambda request: request.url.startswith(NOWHERE)) as called:
        await sign_in(page, "alan")
    answer = parse_qs(urlsplit((await called.value).url).query)
    assert answer["state"] == ["s"]
    assert answer["code"]


@pytest.mark.peer("oidc-provider")
@pytest.mark.peer("chromium")
async def test_a_device_is_admitted_in_a_browser(oidc_server: OIDCServer, page: "Page") -> None:
    client = oidc_server.add_client("device", public=True)
    oidc_server.add_user("augusta")
    with oidc_server.http() as http:
        device = http.post("/device/auth", data={"client_id": "device", "scope": "openid"}).json()
    await page.goto(device["verification_uri_complete"])
    await page.click("button[type=submit]")
    await sign_in(page, "augusta")
    await page.wait_for_selector("text=Sign-in Success")
    asked = {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": device["device_code"]}
    assert oidc_server.token(client, **asked)["id_token"]
