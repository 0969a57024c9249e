"""One person, several logins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.identity.federation.workbench import MEMBER

if TYPE_CHECKING:
    from tests.identity.federation.workbench import Spinor
    from tests.servers.oidc import OIDCServer

pytestmark = [pytest.mark.acceptance, pytest.mark.peer("oidc-provider")]
OTHER = "{wlcg_group: /astro/production, vo: astro, group: astro_production}"


@pytest.fixture
async def both(spinor: Spinor, oidc_server: OIDCServer, another_server: OIDCServer, sub: str) -> None:
    """A member at the first provider, and at the second one."""
    first = oidc_server.add_client(f"linking-{spinor.url[-5:]}", [spinor.callback("one")])
    await spinor.provide("one", oidc_server.issuer, first)
    second = another_server.add_client(f"linking-{spinor.url[-5:]}", [spinor.callback("two")])
    await spinor.provide("two", another_server.issuer, second, memberships=OTHER)
    oidc_server.add_user(sub, preferred_username="grace", eduperson_entitlement=[MEMBER])
    another_server.add_user(sub, preferred_username="hopper", wlcg_groups=["/astro/production"])


async def identities(spinor: Spinor, user: str, group: str = "astro_users") -> list[dict[str, Any]]:
    answer = await spinor.api(await spinor.caller(user, "astro", group), "GET", "/api/identities")
    found: list[dict[str, Any]] = answer.json()
    return found


async def unlink(spinor: Spinor, user: str, issuer: str, subject: str) -> int:
    caller = await spinor.caller(user, "astro", "astro_users")
    body = {"issuer": issuer, "subject": subject}
    return (await spinor.api(caller, "POST", "/api/identities/unlink", body)).status_code


@pytest.mark.usefixtures("both")
async def test_a_login_is_added_and_given_up(
    spinor: Spinor, oidc_server: OIDCServer, another_server: OIDCServer, sub: str
) -> None:
    async with spinor.person() as grace, spinor.person() as elsewhere:
        await grace.sign_in(oidc_server, sub, "one")
        page = await grace.http.get("/account/link/two?user=grace")
        assert "Add your login at Login two" in page.text
        assert another_server.issuer in page.headers["content-security-policy"]
        begun = await grace.form("/account/link/two?user=grace")
        assert begun.status_code == 303, begun.text
        back = await grace.come_back(another_server, begun.headers["location"], sub, "two")
        assert (await grace.http.get(back)).headers["location"] == "/account"
        assert [each["provider"] for each in await identities(spinor, "grace")] == ["one", "two"]
        await elsewhere.sign_in(another_server, sub, "two")
        assert await elsewhere.user() == "grace"
    assert await spinor.memberships("grace") == {"astro_users": ["provider:one"], "astro_production": ["provider:two"]}
    assert await unlink(spinor, "grace", another_server.issuer, "somebody") == 404
    assert await unlink(spinor, "grace", another_server.issuer, sub) == 200
    assert await spinor.memberships("grace") == {"astro_users": ["provider:one"]}
    assert await unlink(spinor, "grace", oidc_server.issuer, sub) == 409
    events = [event for (event,) in await spinor.rows("SELECT event FROM identity.happening ORDER BY happening_id")]
    assert [event for event in events if event.startswith("identity")] == ["identity-linked", "identity-unlinked"]


@pytest.mark.usefixtures("both")
async def test_a_login_of_somebody_else_is_not_taken(
    spinor: Spinor, oidc_server: OIDCServer, another_server: OIDCServer, sub: str
) -> None:
    async with spinor.person() as grace, spinor.person() as hopper:
        await hopper.sign_in(another_server, sub, "two")
        await grace.sign_in(oidc_server, sub, "one")
        begun = await grace.form("/account/link/two")
        back = await grace.come_back(another_server, begun.headers["location"], sub, "two")
        answer = await grace.http.get(back)
        assert (answer.status_code, "belongs to another account" in answer.text) == (409, True)
        assert await grace.user() == "grace"
        assert await hopper.user() == "hopper"
    assert [each["provider"] for each in await identities(spinor, "grace")] == ["one"]


@pytest.mark.usefixtures("both")
async def test_nobody_links_their_login_to_an_account_that_is_not_theirs(
    spinor: Spinor, oidc_server: OIDCServer, another_server: OIDCServer, sub: str
) -> None:
    """Neither by a link that somebody sends, nor by a form of another page, nor after somebody else has sat down."""
    async with spinor.person() as attacker, spinor.person() as victim:
        await attacker.sign_in(oidc_server, sub, "one")
        sent = (await attacker.form("/account/link/two")).headers["location"]
        # The victim follows it, signs in at the provider, and comes back to a browser that never began this.
        back = await victim.come_back(another_server, sent, sub, "two")
        assert (await victim.http.get(back)).status_code == 403
        begun = await attacker.http.post("/account/link/two", data={"form_token": "guessed"})
        assert begun.status_code == 403
        assert (await attacker.http.get("/account/link/two?user=ada")).status_code == 409
        assert (await victim.http.get("/account/link/two")).headers["location"] == "/login?next=/account/link/two"
        await attacker.form("/logout")
        own = await attacker.come_back(another_server, sent, sub, "two")
        late = await attacker.http.get(own)
        assert (late.status_code, "Somebody else is signed in" in late.text) == (403, True)
    assert await spinor.rows("SELECT count(*) FROM identity.linked_identity") == [(1,)]


async def test_an_identity_of_the_operations_data_is_given_up_there(
    spinor: Spinor, oidc_server: OIDCServer, sub: str
) -> None:
    linked = f"ada: {{full_name: Ada Lovelace, identities: [{{issuer: '{oidc_server.issuer}', subject: '{sub}'}}]}}"
    await spinor.apply(("ada: {full_name: Ada Lovelace}", linked))
    assert await unlink(spinor, "ada", oidc_server.issuer, sub) == 409


async def test_check_in_says_which_certificates_are_a_persons(
    spinor: Spinor, oidc_server: OIDCServer, sub: str
) -> None:
    client = oidc_server.add_client(f"linking-{spinor.url[-5:]}", [spinor.callback("one")])
    await spinor.provide("one", oidc_server.issuer, client, link_certificates="true")
    await spinor.apply(
        ("bea: {full_name: Beatrice Tinsley}",
         "bea: {full_name: Beatrice Tinsley, identities: [{issuer: /DC=org/CN=CA, subject: /DC=org/CN=Bea}]}")
    )  # fmt: skip
    names: list[dict[str, Any]] = [
        {"cert_iss": "/DC=org/CN=CA", "cert_subject_dn": subject, "eduperson_entitlement": []}
        for subject in ("/DC=org/CN=Grace", "/DC=org/CN=Bea")
    ]
    oidc_server.add_user(sub, preferred_username="grace", eduperson_entitlement=[MEMBER], cert_entitlement=names)
    async with spinor.person() as grace:
        await grace.sign_in(oidc_server, sub, "one")
    assert {each["subject"] for each in await identities(spinor, "grace")} == {sub, "/DC=org/CN=Grace"}
