"""Signing in at a real, certified provider: who comes in, and what does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.identity.federation.workbench import MEMBER, asked

if TYPE_CHECKING:
    from tests.identity.federation.workbench import Spinor
    from tests.servers.oidc import OIDCServer

pytestmark = [pytest.mark.acceptance, pytest.mark.peer("oidc-provider")]


async def offered(spinor: Spinor, server: OIDCServer, name: str = "one", *, public: bool = False, **more: str) -> None:
    client = server.add_client(f"{name}-{spinor.url[-5:]}", [spinor.callback(name)], public=public)
    await spinor.provide(name, server.issuer, client, **more)


@pytest.mark.parametrize("public", [False, True])
async def test_a_member_of_a_group_comes_in_at_once(
    spinor: Spinor, oidc_server: OIDCServer, sub: str, public: bool
) -> None:
    await offered(spinor, oidc_server, public=public)
    oidc_server.add_user(
        sub, name="Grace Hopper", preferred_username="Grace", email="g@x.org", eduperson_entitlement=[MEMBER]
    )
    async with spinor.person() as grace:
        answer = await grace.sign_in(oidc_server, sub, "one")
        assert (answer.status_code, answer.headers["location"]) == (303, "/account"), answer.text
        assert answer.headers["referrer-policy"] == "no-referrer"
        cookies = [header for name, header in answer.headers.multi_items() if name == "set-cookie"]
        session = next(cookie for cookie in cookies if cookie.startswith("__Host-spinor="))
        assert all(
            word in session.lower() for word in ("secure", "httponly", "samesite=lax", "path=/", "max-age=3600;")
        )
        assert await grace.user() == "grace"
    assert await spinor.memberships("grace") == {"astro_users": ["provider:one"]}
    ((user, email, origin, issuer, subject),) = await spinor.rows(
        """SELECT u.name, u.email, u.origin::text, l.issuer, l.subject FROM identity.linked_identity l
             JOIN identity.user_account u USING (user_id)"""
    )
    assert (user, email, origin, issuer, subject) == ("grace", "g@x.org", "registration", oidc_server.issuer, sub)


async def test_a_second_sign_in_is_the_same_person(spinor: Spinor, oidc_server: OIDCServer, sub: str) -> None:
    await offered(spinor, oidc_server)
    oidc_server.add_user(sub, preferred_username="grace", eduperson_entitlement=[MEMBER])
    async with spinor.person() as grace:
        await grace.sign_in(oidc_server, sub, "one")
    oidc_server.add_user(sub, preferred_username="root", name="Grace B. Hopper", eduperson_entitlement=[MEMBER])
    async with spinor.person() as again:
        await again.sign_in(oidc_server, sub, "one")
        assert await again.user() == "grace"
    assert await spinor.rows("SELECT name, full_name FROM identity.user_account WHERE origin = 'registration'") == [
        ("grace", "Grace B. Hopper")
    ]


async def test_an_account_of_the_operations_data_is_known_by_its_identity(
    spinor: Spinor, oidc_server: OIDCServer, sub: str
) -> None:
    await offered(spinor, oidc_server, registration="closed")
    linked = f"ada: {{full_name: Ada Lovelace, identities: [{{issuer: '{oidc_server.issuer}', subject: '{sub}'}}]}}"
    await spinor.apply(("ada: {full_name: Ada Lovelace}", linked))
    oidc_server.add_user(sub, preferred_username="somebody")
    async with spinor.person() as ada:
        await ada.sign_in(oidc_server, sub, "one")
        assert await ada.user() == "ada"


async def test_who_has_only_the_same_name_or_address_is_somebody_else(
    spinor: Spinor, oidc_server: OIDCServer, sub: str
) -> None:
    """Identity by a claim that people choose themselves is what oauthenticator's CVEs are about."""
    await offered(spinor, oidc_server)
    await spinor.apply(("full_name: Ada Lovelace", "full_name: Ada Lovelace, email: ada@astro.example.org"))
    oidc_server.add_user(
        sub, preferred_username="ada", name="Ada Lovelace", email="ada@astro.example.org", email_verified=False,
        eduperson_entitlement=[MEMBER],
    )  # fmt: skip
    async with spinor.person() as mallory:
        await mallory.sign_in(oidc_server, sub, "one")
        assert await mallory.user() == "ada2"
    assert await spinor.memberships("ada2") == {"astro_users": ["provider:one"]}
    assert await spinor.rows("SELECT email FROM identity.user_account WHERE name = 'ada2'") == [("",)]


async def test_who_is_in_no_group_is_told_whom_to_ask(spinor: Spinor, oidc_server: OIDCServer, sub: str) -> None:
    await offered(spinor, oidc_server)
    oidc_server.add_user(sub, eduperson_entitlement=["urn:mace:egi.eu:group:other:role=member#aai.egi.eu", "junk"])
    async with spinor.person() as stranger:
        answer = await stranger.sign_in(oidc_server, sub, "one")
        assert answer.status_code == 403
        assert "administrators of your VO" in answer.text
        assert await stranger.user() == ""
    assert await spinor.rows("SELECT 1 FROM identity.linked_identity") == []


async def test_who_leaves_a_group_is_a_member_no_longer(spinor: Spinor, oidc_server: OIDCServer, sub: str) -> None:
    await offered(spinor, oidc_server)
    groups = ["/astro/production"]
    oidc_server.add_user(sub, preferred_username="grace", eduperson_entitlement=[MEMBER], wlcg_groups=groups)
    async with spinor.person() as grace:
        await grace.sign_in(oidc_server, sub, "one")
        assert set(await spinor.memberships("grace")) == {"astro_users", "astro_production"}
        oidc_server.add_user(sub, preferred_username="grace", eduperson_entitlement=[], wlcg_groups=groups)
        await grace.sign_in(oidc_server, sub, "one")
    assert set(await spinor.memberships("grace")) == {"astro_production"}


async def test_a_rule_that_changes_is_felt_at_once(spinor: Spinor, oidc_server: OIDCServer, sub: str) -> None:
    """A group that is renamed there, or given other rights here, needs no new sign-in."""
    await offered(spinor, oidc_server)
    oidc_server.add_user(
        sub, preferred_username="grace", eduperson_entitlement=[MEMBER], wlcg_groups=["/astro/renamed"]
    )
    async with spinor.person() as grace:
        await grace.sign_in(oidc_server, sub, "one")
    await offered(spinor, oidc_server, memberships="{wlcg_group: /astro/renamed, vo: astro, group: astro_production}")
    assert await spinor.memberships("grace") == {"astro_production": ["provider:one"]}
    spinor.providers.clear()
    await spinor.apply()
    assert await spinor.memberships("grace") == {}


async def test_another_source_keeps_a_member(spinor: Spinor, oidc_server: OIDCServer, sub: str) -> None:
    await offered(spinor, oidc_server)
    linked = f"alan: {{full_name: Alan Turing, identities: [{{issuer: '{oidc_server.issuer}', subject: '{sub}'}}]}}"
    await spinor.apply(("alan: {full_name: Alan Turing}", linked))
    oidc_server.add_user(sub, eduperson_entitlement=[MEMBER])
    async with spinor.person() as alan:
        await alan.sign_in(oidc_server, sub, "one")
        assert sorted((await spinor.memberships("alan"))["astro_users"]) == ["configuration", "provider:one"]
        oidc_server.add_user(sub)
        await alan.sign_in(oidc_server, sub, "one")
    assert (await spinor.memberships("alan"))["astro_users"] == ["configuration"]


async def test_who_is_assured_too_little_is_refused(spinor: Spinor, oidc_server: OIDCServer, sub: str) -> None:
    await offered(spinor, oidc_server, assurance='["https://aai.egi.eu/LoA#Substantial"]')
    low, enough = ["https://aai.egi.eu/LoA#Low"], ["https://aai.egi.eu/LoA#Substantial"]
    oidc_server.add_user(sub, preferred_username="grace", eduperson_entitlement=[MEMBER], eduperson_assurance=low)
    async with spinor.person() as grace:
        assert (await grace.sign_in(oidc_server, sub, "one")).status_code == 403
        oidc_server.add_user(
            sub, preferred_username="grace", eduperson_entitlement=[MEMBER], eduperson_assurance=enough
        )
        assert (await grace.sign_in(oidc_server, sub, "one")).status_code == 303
        assert await spinor.memberships("grace") == {"astro_users": ["provider:one"]}
        oidc_server.add_user(sub, preferred_username="grace", eduperson_entitlement=[MEMBER], eduperson_assurance=low)
        assert (await grace.sign_in(oidc_server, sub, "one")).status_code == 403
    assert await spinor.memberships("grace") == {}


async def test_nobody_is_sent_elsewhere_after_signing_in(spinor: Spinor, oidc_server: OIDCServer, sub: str) -> None:
    await offered(spinor, oidc_server)
    oidc_server.add_user(sub, eduperson_entitlement=[MEMBER])
    async with spinor.person() as person:
        answer = await person.sign_in(oidc_server, sub, "one", "https://evil.example.org/")
        assert answer.headers["location"] == "/login"
    async with spinor.person() as person:
        answer = await person.sign_in(oidc_server, sub, "one", "/device?user_code=AB-CD")
        assert answer.headers["location"] == "/device?user_code=AB-CD"


async def test_an_answer_counts_once_and_only_in_the_browser_that_asked(
    spinor: Spinor, oidc_server: OIDCServer, sub: str
) -> None:
    await offered(spinor, oidc_server)
    oidc_server.add_user(sub, eduperson_entitlement=[MEMBER])
    async with spinor.person() as person, spinor.person() as victim:
        back = await person.come_back(oidc_server, await person.begin("one"), sub, "one")
        # Whoever is sent a link that signs them in as somebody else stays who they are.
        assert (await victim.http.get(back)).status_code == 403
        kept = dict(person.http.cookies)
        assert (await person.http.get(back)).status_code == 303
        for name, value in kept.items():
            person.http.cookies.set(name, value, domain="localhost.local", path="/")
        replayed = await person.http.get(back, headers={"cookie": "; ".join(f"{n}={v}" for n, v in kept.items())})
        assert replayed.status_code == 403
        assert "has had its answer already" in replayed.text


async def test_a_state_that_was_changed_is_refused(spinor: Spinor, oidc_server: OIDCServer, sub: str) -> None:
    await offered(spinor, oidc_server)
    oidc_server.add_user(sub, eduperson_entitlement=[MEMBER])
    async with spinor.person() as person:
        back = await person.come_back(oidc_server, await person.begin("one"), sub, "one")
        state = asked(back)["state"]
        for wrong in (state[:-1] + ("A" if state[-1] != "A" else "B"), "", "x" * 10_000):
            answer = await person.http.get(back.replace(state, wrong))
            assert answer.status_code in (400, 403), answer.text
        twice = await person.http.get(f"{back}&state={state}")
        assert twice.status_code == 422
        assert await person.user() == ""
        # A cookie that was changed does not open either.
        name = next(name for name in person.http.cookies if name.startswith("__Host-spinor-at-"))
        sealed = person.http.cookies[name]
        broken = sealed[:-4] + ("AAAA" if sealed[-4:] != "AAAA" else "BBBB")
        async with spinor.person() as other:
            assert (await other.http.get(back, headers={"cookie": f"{name}={broken}"})).status_code == 403


async def test_a_token_with_another_nonce_is_refused(spinor: Spinor, oidc_server: OIDCServer, sub: str) -> None:
    await offered(spinor, oidc_server)
    oidc_server.add_user(sub, eduperson_entitlement=[MEMBER])
    async with spinor.person() as person:
        address = await person.begin("one")
        back = await person.come_back(oidc_server, address.replace(asked(address)["nonce"], "another"), sub, "one")
        answer = await person.http.get(back)
        assert answer.status_code == 403
        assert "not the answer to this sign-in" in answer.text


async def test_a_code_of_another_challenge_is_refused(spinor: Spinor, oidc_server: OIDCServer, sub: str) -> None:
    """A stolen code is worth nothing in another sign-in, since its verifier does not fit."""
    await offered(spinor, oidc_server)
    oidc_server.add_user(sub, eduperson_entitlement=[MEMBER])
    async with spinor.person() as victim, spinor.person() as thief:
        stolen = asked(await victim.come_back(oidc_server, await victim.begin("one"), sub, "one"))["code"]
        back = await thief.come_back(oidc_server, await thief.begin("one"), sub, "one")
        assert (await thief.http.get(back.replace(asked(back)["code"], stolen))).status_code == 403


async def test_an_id_token_that_has_expired_is_refused(spinor: Spinor, oidc_server: OIDCServer, sub: str) -> None:
    await offered(spinor, oidc_server)
    oidc_server.add_user(sub, eduperson_entitlement=[MEMBER])
    spinor.clock.ahead_s = 3600 + 70
    async with spinor.person() as person:
        answer = await person.sign_in(oidc_server, sub, "one")
        assert answer.status_code == 403
        assert "has expired" in answer.text
    spinor.clock.ahead_s = -70
    async with spinor.person() as person:
        answer = await person.sign_in(oidc_server, sub, "one")
        assert "from the future" in answer.text
    spinor.clock.ahead_s = -50
    async with spinor.person() as person:
        assert (await person.sign_in(oidc_server, sub, "one")).status_code == 303


async def test_a_sign_in_ends_after_ten_minutes(spinor: Spinor, oidc_server: OIDCServer, sub: str) -> None:
    await offered(spinor, oidc_server)
    oidc_server.add_user(sub, eduperson_entitlement=[MEMBER])
    async with spinor.person() as person:
        back = await person.come_back(oidc_server, await person.begin("one"), sub, "one")
        spinor.clock.ahead_s = 601
        answer = await person.http.get(back)
        assert "more than ten minutes ago" in answer.text


async def test_keys_that_change_are_found(spinor: Spinor, oidc_server: OIDCServer, sub: str) -> None:
    await offered(spinor, oidc_server)
    oidc_server.add_user(sub, eduperson_entitlement=[MEMBER])
    async with spinor.person() as person:
        assert (await person.sign_in(oidc_server, sub, "one")).status_code == 303
        oidc_server.rotate_keys(keep_old=False)
        # New keys are looked for at most every half minute, so that nobody can make us ask for each forged token.
        assert (await person.sign_in(oidc_server, sub, "one")).status_code == 403
        spinor.clock.ahead_s = 31
        assert (await person.sign_in(oidc_server, sub, "one")).status_code == 303


async def test_a_person_who_does_not_agree_is_not_signed_in(spinor: Spinor, oidc_server: OIDCServer) -> None:
    await offered(spinor, oidc_server)
    async with spinor.person() as person:
        state = asked(await person.begin("one"))["state"]
        back = f"{spinor.callback('one')}?error=access_denied&state={state}&iss={oidc_server.issuer}"
        answer = await person.http.get(back)
        assert (answer.status_code, "access_denied" in answer.text) == (403, True)
        begun = asked(await person.begin("one"))["state"]
        injected = f"{spinor.callback('one')}?error=%3Cscript%3Ealert(1)%3C/script%3E&state={begun}"
        assert "<script>" not in (await person.http.get(f"{injected}&iss={oidc_server.issuer}")).text


async def test_two_providers_at_once_and_none_passes_for_the_other(
    spinor: Spinor, oidc_server: OIDCServer, another_server: OIDCServer, sub: str
) -> None:
    await offered(spinor, oidc_server, "one")
    await offered(spinor, another_server, "two")
    for server in (oidc_server, another_server):
        server.add_user(sub, preferred_username="grace", eduperson_entitlement=[MEMBER])
    async with spinor.person() as first, spinor.person() as second, spinor.person() as victim:
        page = await first.http.get("/login")
        assert "Login one" in page.text
        assert "Login two" in page.text
        await first.sign_in(oidc_server, sub, "one")
        await second.sign_in(another_server, sub, "two")
        # The same subject at two issuers is two people.
        assert (await first.user(), await second.user()) == ("grace", "grace2")
        # Mix-up: the answer of one provider is carried to the other's address, or made to look as if it were its own.
        back = await victim.come_back(another_server, await victim.begin("two"), sub, "two")
        assert (await victim.http.get(back.replace("/login/two/", "/login/one/"))).status_code == 403
        state, code = asked(await victim.begin("one"))["state"], asked(back)["code"]
        mixed = f"{spinor.callback('one')}?code={code}&state={state}"
        assert (await victim.http.get(f"{mixed}&iss={another_server.issuer}")).status_code == 403
        state = asked(await victim.begin("one"))["state"]
        bare = await victim.http.get(f"{spinor.callback('one')}?code={code}&state={state}")
        assert "another provider" in bare.text
        assert await victim.user() == ""


async def test_signing_out_ends_the_session_and_not_only_the_cookie(
    spinor: Spinor, oidc_server: OIDCServer, sub: str
) -> None:
    await offered(spinor, oidc_server)
    oidc_server.add_user(sub, eduperson_entitlement=[MEMBER])
    async with spinor.person() as person:
        await person.sign_in(oidc_server, sub, "one")
        cookie = person.http.cookies["__Host-spinor"]
        assert (await person.http.post("/logout", data={"form_token": "x"})).status_code == 403
        assert (await person.form("/logout")).status_code == 303
        again = await person.http.get("/account", headers={"cookie": f"__Host-spinor={cookie}"})
        assert again.status_code == 303


async def test_who_is_banned_does_not_come_in(spinor: Spinor, oidc_server: OIDCServer, sub: str) -> None:
    await offered(spinor, oidc_server)
    oidc_server.add_user(sub, preferred_username="grace", eduperson_entitlement=[MEMBER])
    async with spinor.person() as grace:
        await grace.sign_in(oidc_server, sub, "one")
        async with spinor.db.transaction() as tx:
            await tx.execute(
                """INSERT INTO identity.suspension (user_id, reason, suspended_by)
                   SELECT user_id, 'x', 'x' FROM identity.user_account WHERE name = 'grace'"""
            )
        answer = await grace.sign_in(oidc_server, sub, "one")
        assert (answer.status_code, "is suspended" in answer.text) == (403, True)


async def test_a_provider_may_be_called_something_else(spinor: Spinor, oidc_server: OIDCServer, sub: str) -> None:
    await offered(spinor, oidc_server)
    oidc_server.add_user(sub, preferred_username="grace", eduperson_entitlement=[MEMBER])
    async with spinor.person() as grace:
        await grace.sign_in(oidc_server, sub, "one")
    text = spinor.providers.pop("one")
    spinor.providers["renamed"] = text.replace("  one:", "  renamed:")
    await spinor.apply()
    assert await spinor.memberships("grace") == {"astro_users": ["provider:renamed"]}
