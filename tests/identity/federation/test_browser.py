"""The whole way in a real browser, at two kinds of certified provider at once: code flow, device flow, registration."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import httpx
import pytest

from tests.identity.federation.workbench import MEMBER, asked
from tests.servers import keycloak as keycloak_pages
from tests.servers import oidc as oidc_pages
from tests.servers.chromium import screenshot
from tests.servers.oidc import challenge

if TYPE_CHECKING:
    from playwright.async_api import Page

    from tests.identity.federation.workbench import Spinor
    from tests.servers.keycloak import KeycloakServer
    from tests.servers.oidc import OIDCServer

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.peer("oidc-provider"),
    pytest.mark.peer("keycloak"),
    pytest.mark.peer("chromium"),
]
PROGRAM = "http://127.0.0.1:1/callback"  # Nobody listens there; the browser's way to it is what is looked at.


@pytest.fixture
async def both(spinor: Spinor, oidc_server: OIDCServer, keycloak: KeycloakServer) -> None:
    tail = spinor.url[-5:]
    one = oidc_server.add_client(f"browser-{tail}", [spinor.callback("one")])
    await spinor.provide("one", oidc_server.issuer, one, registration="approval")
    two = keycloak.add_client(f"browser-{tail}", [spinor.callback("keycloak")])
    scopes = "[openid, profile, email, eduperson_entitlement]"
    await spinor.provide("keycloak", keycloak.issuer, two)
    text = spinor.providers["keycloak"]
    start = text.index("scopes:")
    spinor.providers["keycloak"] = text.replace(text[start : text.index("\n", start)], f"scopes: {scopes}")
    await spinor.apply()


async def token(spinor: Spinor, **form: str) -> httpx.Response:
    async with httpx.AsyncClient(
        base_url=spinor.url, verify=spinor.authority.context(), trust_env=False, timeout=60
    ) as http:
        return await http.post("/api/auth/token", data={"client_id": "spinor-cli", **form})


async def who(spinor: Spinor, access_token: str) -> dict[str, Any]:
    async with httpx.AsyncClient(
        base_url=spinor.url, verify=spinor.authority.context(), trust_env=False, timeout=60
    ) as http:
        answer = await http.get("/api/auth/whoami", headers={"authorization": f"Bearer {access_token}"})
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.usefixtures("both")
async def test_a_program_gets_tokens_by_a_code_after_a_login_at_keycloak(
    spinor: Spinor, keycloak: KeycloakServer, page: Page, sub: str
) -> None:
    login = f"grace-{spinor.url[-5:]}"
    keycloak.add_user(login, name="Grace Hopper", email=f"{login}@x.org", eduperson_entitlement=[MEMBER])
    verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(16)
    wanted = {
        "response_type": "code", "client_id": "spinor-cli", "redirect_uri": PROGRAM, "state": state,
        "code_challenge": challenge(verifier), "code_challenge_method": "S256",
    }  # fmt: skip
    await page.goto(f"{spinor.url}/api/auth/authorize?{urlencode(wanted)}")
    await page.wait_for_selector("text=Use the login of your community")
    await screenshot(page, "federation-login")
    await page.click("text=Login keycloak")
    await keycloak_pages.sign_in(page, login)
    await page.wait_for_selector("text=Let Spinor command line act for you?")
    async with page.expect_request(lambda request: request.url.startswith(PROGRAM)) as called:
        await page.click("button[value=allow]")
    back = asked((await called.value).url)
    assert (back["state"], back["iss"]) == (state, spinor.url)
    given = await token(
        spinor, grant_type="authorization_code", code=back["code"], redirect_uri=PROGRAM, code_verifier=verifier
    )
    assert given.status_code == 200, given.text
    found = await who(spinor, given.json()["access_token"])
    assert (found["user"], found["full_name"], found["group"]) == (login, "Grace Hopper", "astro_users")
    assert await spinor.rows("SELECT signed_in_by FROM identity.session") == [("provider:keycloak",)]


@pytest.mark.usefixtures("both")
async def test_a_program_on_another_machine_is_let_in_after_a_login(
    spinor: Spinor, oidc_server: OIDCServer, page: Page, sub: str
) -> None:
    oidc_server.add_user(sub, preferred_username="grace", name="Grace Hopper", eduperson_entitlement=[MEMBER])
    async with httpx.AsyncClient(
        base_url=spinor.url, verify=spinor.authority.context(), trust_env=False, timeout=60
    ) as http:
        device = (await http.post("/api/auth/device_authorization", data={"client_id": "spinor-cli"})).json()
    await page.goto(device["verification_uri_complete"])
    await page.click("text=Login one")
    await oidc_pages.sign_in(page, sub)
    await page.click("main form button.main, main form button[type=submit]")
    await page.wait_for_selector("text=Only go on if you started this yourself")
    await page.click("button[value=allow]")
    await page.wait_for_selector("text=is signed in")
    await asyncio.sleep(device["interval"])
    given = await token(
        spinor, grant_type="urn:ietf:params:oauth:grant-type:device_code", device_code=device["device_code"]
    )
    assert given.status_code == 200, given.text
    assert (await who(spinor, given.json()["access_token"]))["user"] == "grace"


@pytest.mark.usefixtures("both")
async def test_somebody_registers_is_let_in_and_links_another_login(
    spinor: Spinor, oidc_server: OIDCServer, keycloak: KeycloakServer, page: Page, sub: str
) -> None:
    oidc_server.add_user(sub, preferred_username="lise", name="Lise <b>Meitner</b>")
    await page.goto(f"{spinor.url}/login?next=/account")
    await page.click("text=Login one")
    await oidc_pages.sign_in(page, sub)
    await page.wait_for_selector("text=Ask to be let in")
    assert await page.locator("dd b").count() == 0, "what a provider says is text, never markup"
    await page.check("input[value=astro]")
    await page.fill("textarea", "I work on <script>alert(1)</script> fission.")
    await screenshot(page, "federation-register")
    await page.click("button[type=submit]")
    await page.wait_for_selector("[data-state=waiting]")
    alan = await spinor.caller("alan", "astro", "astro_managers")
    (found,) = (await spinor.api(alan, "POST", "/api/registrations/search", {"state": "waiting"})).json()
    approved = await spinor.api(alan, "POST", "/api/registrations/approve", {"ids": [found["registration_id"]]})
    assert approved.status_code == 200
    await page.reload()
    await page.click("text=Sign in again")
    await page.click("text=Login one")
    await page.wait_for_selector("text=Sign in to")  # Without `next` one is back at the page of logins.
    await page.click("text=Your logins")
    await page.wait_for_selector("text=You may sign in as")
    login = f"lise-{spinor.url[-5:]}"
    keycloak.add_user(login, name="Lise Meitner", eduperson_entitlement=[MEMBER])
    await page.click("text=Login keycloak")
    await page.wait_for_selector("text=Add your login at Login keycloak")
    await screenshot(page, "federation-link")
    await page.click("button[type=submit]")
    await keycloak_pages.sign_in(page, login)
    await page.wait_for_selector("li:has-text('Login keycloak')")
    await screenshot(page, "federation-account")
    assert sorted((await spinor.memberships("lise"))["astro_users"]) == ["approval", "provider:keycloak"]
    await page.click("text=Sign out")
    await page.click("button[type=submit]")
    await page.wait_for_selector("text=Use the login of your community")


async def test_groups_of_keycloak_and_a_key_that_changes(
    spinor: Spinor, keycloak: KeycloakServer, page: Page, sub: str
) -> None:
    """A group whose members have an entitlement by it; and a rotation of the realm's keys."""
    tail = spinor.url[-5:]
    keycloak.add_group(f"astro-{tail}", eduperson_entitlement=[MEMBER])
    client = keycloak.add_client(f"groups-{tail}", [spinor.callback("keycloak")], public=True)
    await spinor.provide("keycloak", keycloak.issuer, client)
    spinor.providers["keycloak"] = spinor.providers["keycloak"].replace(
        "wlcg.groups, eduperson_assurance, cert_entitlement]", "wlcg.groups]"
    )
    await spinor.apply()
    login = f"emmy-{tail}"
    keycloak.add_user(login, name="Emmy Noether", groups=[f"astro-{tail}"])
    await page.goto(f"{spinor.url}/login/keycloak?next=/account")
    await keycloak_pages.sign_in(page, login)
    await page.wait_for_selector("text=You may sign in as")
    assert set(await spinor.memberships(login)) == {"astro_users"}
    keycloak.rotate_keys()
    spinor.clock.ahead_s = 31
    await page.goto(f"{spinor.url}/login/keycloak?next=/account")
    await page.wait_for_selector("text=You may sign in as")


async def test_tokens_of_a_notebook_at_keycloak_are_exchanged(
    spinor: Spinor, keycloak: KeycloakServer, sub: str
) -> None:
    from spinor.http import State
    from spinor.identity.federation import service
    from spinor.identity.federation.provider import Upstreams

    tail = spinor.url[-5:]
    client = keycloak.add_client(f"spinor-{tail}", [spinor.callback("keycloak")])
    notebook, stranger = keycloak.add_client(f"notebook-{tail}"), keycloak.add_client(f"stranger-{tail}")
    await spinor.provide("keycloak", keycloak.issuer, client, exchange_clients=f"[notebook-{tail}]")
    login = f"rosalind-{tail}"
    keycloak.add_user(login, name="Rosalind Franklin", eduperson_entitlement=[MEMBER])
    state = State(spinor.settings, spinor.keys, Upstreams(spinor.settings.data_dir / "secrets" / "providers"))
    tokens = await asyncio.to_thread(keycloak.sign_in, notebook, login, "openid eduperson_entitlement")
    proven = await service.proven_by_token(spinor.db, state, keycloak.issuer, tokens["access_token"])
    assert proven.user == login
    assert await spinor.memberships(login) == {"astro_users": ["provider:keycloak"]}
    others = await asyncio.to_thread(keycloak.sign_in, stranger, login, "openid eduperson_entitlement")
    for wrong in (tokens["id_token"], tokens["refresh_token"], others["access_token"]):
        with pytest.raises(service.ExchangeRefused):
            await service.proven_by_token(spinor.db, state, keycloak.issuer, wrong)
