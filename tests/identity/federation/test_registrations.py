"""People who ask to be let in, and the administrators who decide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.identity.federation.workbench import MEMBER

if TYPE_CHECKING:
    from tests.identity.federation.workbench import Person, Spinor
    from tests.servers.oidc import OIDCServer

pytestmark = [pytest.mark.acceptance, pytest.mark.peer("oidc-provider")]


async def asking(spinor: Spinor, server: OIDCServer, person: Person, sub: str, **claims: Any) -> None:
    """Somebody in no group, at a provider that lets people ask; they stand before the form."""
    if "one" not in spinor.providers:
        client = server.add_client(f"asking-{spinor.url[-5:]}", [spinor.callback("one")])
        await spinor.provide("one", server.issuer, client, registration="approval")
    server.add_user(sub, **{"preferred_username": "grace", "name": "Grace Hopper", **claims})
    answer = await person.sign_in(server, sub, "one")
    assert answer.headers["location"] == "/register", answer.text


async def waiting(spinor: Spinor, user: str, vo: str, group: str) -> list[dict[str, Any]]:
    answer = await spinor.api(
        await spinor.caller(user, vo, group), "POST", "/api/registrations/search", {"state": "waiting"}
    )
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


async def decide(spinor: Spinor, who: tuple[str, str, str], verb: str, **body: Any) -> tuple[int, Any]:
    answer = await spinor.api(await spinor.caller(*who), "POST", f"/api/registrations/{verb}", body)
    return answer.status_code, answer.json()


ALAN, BEA, ADA = ("alan", "astro", "astro_managers"), ("bea", "bio", "bio_managers"), ("ada", "astro", "astro_users")


async def test_somebody_asks_and_is_let_in(spinor: Spinor, oidc_server: OIDCServer, sub: str) -> None:
    async with spinor.person() as grace:
        await asking(spinor, oidc_server, grace, sub, email="grace@x.org")
        page = await grace.http.get("/register")
        assert all(text in page.text for text in ("Grace Hopper", "grace@x.org", sub, "astro", "bio"))
        assert (await grace.form("/register", vo="astro", message="I am new <b>here</b>.")).status_code == 303
        page = await grace.http.get("/register")
        assert "waiting for the administrators" in page.text
        assert await grace.user() == ""
        # A new sign-in shows the same: nothing is lost, and nothing is let in.
        assert (await grace.sign_in(oidc_server, sub, "one")).headers["location"] == "/register"
        (found,) = await waiting(spinor, *ALAN)
        assert (found["full_name"], found["email"], found["message"]) == (
            "Grace Hopper", "grace@x.org", "I am new <b>here</b>.",
        )  # fmt: skip
        number = found["registration_id"]
        status, (approved,) = await decide(spinor, ALAN, "approve", ids=[number])
        assert (status, approved["state"], approved["user"], approved["decided_by"]) == (
            200,
            "approved",
            "grace",
            "alan",
        )
        assert (await grace.sign_in(oidc_server, sub, "one")).headers["location"] == "/account"
        assert await grace.user() == "grace"
    assert await spinor.memberships("grace") == {"astro_users": ["approval"]}
    events = await spinor.rows("SELECT event, actor FROM identity.happening ORDER BY happening_id")
    assert ("registration-asked", "provider:one") in events
    assert ("registration-approved", "alan") in events
    assert ("account-made", "alan") in events
    assert (await decide(spinor, ALAN, "approve", ids=[number]))[0] == 404


async def test_somebody_is_refused_and_told_why(spinor: Spinor, oidc_server: OIDCServer, sub: str) -> None:
    async with spinor.person() as grace:
        await asking(spinor, oidc_server, grace, sub)
        await grace.form("/register", vo="astro", message="")
        (found,) = await waiting(spinor, *ALAN)
        reason = "Ask <i>your</i> institute first."
        assert (await decide(spinor, ALAN, "refuse", ids=[found["registration_id"]], reason=reason))[0] == 200
        page = await grace.http.get("/register")
        assert "you were not let in" in page.text
        assert "&lt;i&gt;your" in page.text
    assert await spinor.rows("SELECT 1 FROM identity.user_account WHERE origin = 'registration'") == []


async def test_only_the_administrators_of_the_vo_decide(spinor: Spinor, oidc_server: OIDCServer, sub: str) -> None:
    async with spinor.person() as grace:
        await asking(spinor, oidc_server, grace, sub)
        await grace.form("/register", vo="astro", message="x")
    (found,) = await waiting(spinor, *ALAN)
    assert await waiting(spinor, *BEA) == []
    for verb in ("approve", "refuse"):
        # Of another VO it is as if it were not there.
        theirs = await decide(spinor, BEA, verb, ids=[found["registration_id"]])
        nobodys = await decide(spinor, BEA, verb, ids=[999_999])
        assert theirs[0] == nobodys[0] == 404
        assert theirs[1]["code"] == nobodys[1]["code"]
        assert (await decide(spinor, ADA, verb, ids=[found["registration_id"]]))[0] == 403
    assert (await decide(spinor, BEA, "search", ids=[found["registration_id"]]))[0] == 404
    # All of them, or none.
    assert (await decide(spinor, ALAN, "approve", ids=[found["registration_id"], 999_999]))[0] == 404
    assert [each["state"] for each in await waiting(spinor, *ALAN)] == ["waiting"]


async def test_nobody_is_let_into_a_group_beyond_the_administrators_own_rights(
    spinor: Spinor, oidc_server: OIDCServer, sub: str
) -> None:
    async with spinor.person() as grace:
        await asking(spinor, oidc_server, grace, sub)
        await grace.form("/register", vo="astro", message="x")
    (found,) = await waiting(spinor, *ALAN)
    for group, status in (("astro_admins", 403), ("bio_users", 409), ("astro_production", 200)):
        assert (await decide(spinor, ALAN, "approve", ids=[found["registration_id"]], group=group))[0] == status
    assert await spinor.memberships("grace") == {"astro_production": ["approval"]}


async def test_what_the_form_is_given_is_looked_at(spinor: Spinor, oidc_server: OIDCServer, sub: str) -> None:
    async with spinor.person() as grace, spinor.person() as nobody:
        assert (await nobody.http.get("/register")).headers["location"] == "/login?next=/register"
        assert (await nobody.http.post("/register", data={"vo": "astro"})).status_code == 401
        await asking(spinor, oidc_server, grace, sub)
        assert (await grace.form("/register", vo="nothing", message="x")).status_code == 422
        assert (await grace.form("/register", vo="astro", message="x" * 2001)).status_code == 422
        assert (await grace.form("/register", vo="astro", form_token="wrong")).status_code == 403
        await grace.form("/register", vo="astro", message="first")
        await grace.form("/register", vo="astro", message="second")
    assert [each["message"] for each in await waiting(spinor, *ALAN)] == ["second"]


async def test_who_asks_too_often_has_to_wait(spinor: Spinor, oidc_server: OIDCServer, sub: str) -> None:
    async with spinor.person() as grace:
        await asking(spinor, oidc_server, grace, sub)
        for number in range(10):
            assert (await grace.form("/register", vo="astro", message=str(number))).status_code == 303
            (found,) = await waiting(spinor, *ALAN)
            await decide(spinor, ALAN, "refuse", ids=[found["registration_id"]])
        assert (await grace.form("/register", vo="astro", message="again")).status_code == 429


async def test_a_vo_that_does_not_take_people_of_this_provider_is_not_offered(
    spinor: Spinor, oidc_server: OIDCServer, sub: str
) -> None:
    client = oidc_server.add_client(f"asking-{spinor.url[-5:]}", [spinor.callback("one")])
    await spinor.provide("one", oidc_server.issuer, client, registration="approval", registration_vos="[bio]")
    async with spinor.person() as grace:
        await asking(spinor, oidc_server, grace, sub)
        page = await grace.http.get("/register")
        assert 'value="bio"' in page.text
        assert 'value="astro"' not in page.text
        assert (await grace.form("/register", vo="astro", message="x")).status_code == 422


async def test_a_member_of_one_vo_asks_for_another(spinor: Spinor, oidc_server: OIDCServer, sub: str) -> None:
    client = oidc_server.add_client(f"asking-{spinor.url[-5:]}", [spinor.callback("one")])
    await spinor.provide("one", oidc_server.issuer, client, registration="approval")
    oidc_server.add_user(sub, preferred_username="grace", name="Grace Hopper", eduperson_entitlement=[MEMBER])
    async with spinor.person() as grace:
        assert (await grace.sign_in(oidc_server, sub, "one", "/register")).headers["location"] == "/register"
        assert (await grace.form("/register", vo="bio", message="both")).status_code == 303
    (found,) = await waiting(spinor, *BEA)
    status, (approved,) = await decide(spinor, BEA, "approve", ids=[found["registration_id"]])
    assert (status, approved["user"]) == (200, "grace")
    assert await spinor.memberships("grace") == {"astro_users": ["provider:one"], "bio_users": ["approval"]}


async def test_an_account_is_not_taken_over_by_a_name_of_the_operations_data(
    spinor: Spinor, oidc_server: OIDCServer, sub: str
) -> None:
    from spinor.identity.federation.service.providers import NamesTaken

    client = oidc_server.add_client(f"asking-{spinor.url[-5:]}", [spinor.callback("one")])
    await spinor.provide("one", oidc_server.issuer, client)
    oidc_server.add_user(sub, preferred_username="grace", eduperson_entitlement=[MEMBER])
    async with spinor.person() as grace:
        await grace.sign_in(oidc_server, sub, "one")
    with pytest.raises(NamesTaken, match="grace"):
        await spinor.apply(("  bea: {full_name", "  grace: {}\n  bea: {full_name"))
    identity = f"{{issuer: '{oidc_server.issuer}', subject: '{sub}'}}"
    await spinor.apply(("  bea: {full_name", f"  grace: {{identities: [{identity}]}}\n  bea: {{full_name"))
    assert await spinor.rows("SELECT origin::text FROM identity.user_account WHERE name = 'grace'") == [
        ("configuration",)
    ]
