"""Each server really runs and answers. What Spinor does with them is tested where Spinor does it."""

import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from tests.servers import keycloak as keycloak_pages
from tests.servers.authority import Authority
from tests.servers.chromium import screenshot
from tests.servers.jupyterhub import JupyterHub, open_lab, run_all_cells
from tests.servers.keycloak import KeycloakServer
from tests.servers.oidc import NOWHERE, Client, OIDCServer, challenge, oidc_server, sign_in
from tests.servers.process import ServerFailed
from tests.servers.voms import VOMSServer
from tests.servers.xrootd import Admission, XRootDServer, xrootd_server

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


@pytest.mark.peer("keycloak")
@pytest.mark.peer("chromium")
async def test_keycloak_tells_entitlements_to_a_device(keycloak: KeycloakServer, page: "Page") -> None:
    entitlement = "urn:mace:egi.eu:group:vo.astro.example:survey:role=member#aai.egi.eu"
    keycloak.add_group("survey", eduperson_entitlement=[entitlement])
    subject = keycloak.add_user("cecilia", name="Cecilia Payne", groups=["survey"])
    keycloak.add_client("device", public=True)
    verifier = secrets.token_urlsafe(48)
    # The client demands PKCE in this flow, too.
    asked = {"client_id": "device", "scope": "openid eduperson_entitlement", "code_challenge": challenge(verifier)}
    endpoint = f"{keycloak.issuer}/protocol/openid-connect"
    with keycloak.http() as http:
        device = http.post(f"{endpoint}/auth/device", data=asked | {"code_challenge_method": "S256"}).json()
        await page.goto(device["verification_uri_complete"])
        await keycloak_pages.sign_in(page, "cecilia")
        assert (await screenshot(page, "keycloak")).stat().st_size > 1000
        await keycloak_pages.agree(page)
        await page.wait_for_selector("text=Device Login Successful")
        grant = {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": device["device_code"]}
        tokens = keycloak.token(Client("device", None), **grant, code_verifier=verifier)
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        claims = http.get(f"{endpoint}/userinfo", headers=bearer).json()
    assert claims["sub"] == subject
    assert claims["eduperson_entitlement"] == [entitlement]


@pytest.mark.peer("keycloak")
def test_keycloak_exchanges_tokens_for_a_client_they_are_for(keycloak: KeycloakServer) -> None:
    keycloak.add_user("edwin")
    notebook, gateway = keycloak.add_client("notebook", public=True), keycloak.add_client("gateway")
    exchange = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
    }
    with pytest.raises(ServerFailed, match="audience"):
        keycloak.token(gateway, **exchange, subject_token=keycloak.sign_in(notebook, "edwin")["access_token"])
    keycloak.add_audience(notebook, "gateway")
    keycloak.rotate_keys()
    assert keycloak.token(gateway, **exchange, subject_token=keycloak.sign_in(notebook, "edwin")["access_token"])


@pytest.mark.peer("oidc-provider")
@pytest.mark.peer("jupyterhub")
async def test_a_notebook_has_the_token_of_its_user(jupyterhub: JupyterHub, oidc_server: OIDCServer) -> None:
    user = "henrietta@astro.example"
    oidc_server.add_user(user)
    jupyterhub.sign_in(user)
    jupyterhub.start(user)
    async with jupyterhub.kernel(user) as kernel:
        read = "print(open(os.environ['SECRETS_MOUNT_PATH'] + '/access_token').read())"
        first = (await kernel.text(f"import os, sys\n{read}")).strip()
        assert first == jupyterhub.auth_state(user)["access_token"]
        assert (await kernel.text("print(sys.executable)")).strip() == sys.executable
        oidc_server.end_token(first)
        jupyterhub.visit(user)
        second = (await kernel.text(read)).strip()
        assert second == jupyterhub.auth_state(user)["access_token"]
        assert second != first
        assert (await kernel.execute("1 / 0"))[-1].kind == "error"
    assert str(Path(sys.executable).with_name("spinor")) in await jupyterhub.terminal(user, "which spinor")
    jupyterhub.stop(user)


@pytest.mark.peer("oidc-provider")
@pytest.mark.peer("jupyterhub")
@pytest.mark.peer("chromium")
async def test_a_notebook_runs_in_the_browser(jupyterhub: JupyterHub, oidc_server: OIDCServer, page: "Page") -> None:
    oidc_server.add_user("annie")
    jupyterhub.write_notebook("annie", "stars.ipynb", "6 * 7")
    await open_lab(page, jupyterhub, "annie", "stars.ipynb")
    await run_all_cells(page)
    await page.wait_for_selector(".jp-OutputArea-output:has-text('42')")
    assert (await screenshot(page, "jupyterlab")).stat().st_size > 1000
    jupyterhub.stop("annie")


@pytest.mark.peer("voms")
def test_voms_signs_groups_and_roles(authority: Authority, voms_server: VOMSServer) -> None:
    person = authority.user("Grace Hopper")
    with pytest.raises(ServerFailed):
        voms_server.proxy(person)
    voms_server.add_member(person, "/astro/survey", "/astro/survey/Role=pilot")
    said = voms_server.describe(voms_server.proxy(person, voms="astro:/astro/survey/Role=pilot"))
    attributes = [line.partition(" : ")[2] for line in said.splitlines() if line.startswith("attribute")]
    # What was asked for comes first, and the rest in no order.
    assert attributes[0] == "/astro/survey/Role=pilot/Capability=NULL"
    assert set(attributes[1:]) == {"/astro/Role=NULL/Capability=NULL", "/astro/survey/Role=NULL/Capability=NULL"}
    voms_server.remove_member(person)
    with pytest.raises(ServerFailed):
        voms_server.proxy(person)


@pytest.mark.peer("voms")
@pytest.mark.peer("xrootd")
def test_a_storage_admits_members_of_the_vo(
    authority: Authority, voms_server: VOMSServer, xrootd_server: XRootDServer, tmp_path: Path
) -> None:
    person = authority.user("Vera Rubin")
    voms_server.add_member(person)
    proxy = voms_server.proxy(person)
    file = tmp_path / "galaxy"
    file.write_text("rotates")
    xrootd_server.client("xrdcp", "--silent", str(file), f"{xrootd_server.root}//store/astro/galaxy", proxy=proxy)
    assert (xrootd_server.store / "astro" / "galaxy").read_text() == "rotates"
    with xrootd_server.http(proxy=proxy) as http:
        assert http.get("/store/astro/galaxy").text == "rotates"
        assert http.put("/store/other", content=b"x").status_code == 403
    with xrootd_server.http() as http:
        assert http.get("/store/astro/galaxy").status_code == 403


@pytest.fixture(scope="module")
def issuer(authority: Authority) -> Iterator[OIDCServer]:
    scopes = ["storage.read:/", "storage.create:/survey"]
    with oidc_server(authority, audience="https://storage.example", scopes=scopes) as it:
        yield it


@pytest.mark.peer("oidc-provider")
@pytest.mark.peer("xrootd")
def test_a_storage_admits_the_tokens_of_an_issuer(authority: Authority, issuer: OIDCServer) -> None:
    client = issuer.add_client("data", public=True)
    issuer.add_user("ada", access_token_claims={"wlcg.ver": "1.0"})
    reading = issuer.sign_in(client, "ada", "openid storage.read:/")["access_token"]
    writing = issuer.sign_in(client, "ada", "openid storage.create:/survey")["access_token"]
    admission = Admission({issuer.issuer: "/store/astro"}, ["https://storage.example"])
    with xrootd_server(authority, admission) as storage:
        with storage.http(writing) as http:
            assert http.put("/store/astro/survey/f", content=b"stars").status_code == 200
            assert http.put("/store/astro/other/f", content=b"stars").status_code == 403
        with storage.http(reading) as http:
            assert http.get("/store/astro/survey/f").text == "stars"
            assert http.put("/store/astro/survey/g", content=b"stars").status_code == 403
        listed = storage.client("xrdfs", storage.root, "stat", "/store/astro/survey/f", token=reading)
        assert "Size:   5" in listed
