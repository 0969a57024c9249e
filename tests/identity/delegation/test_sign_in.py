"""Signing in by an assertion of a certificate's or proxy's key (RFC 7523)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from spinor.identity.delegation import service
from spinor.x509.assertion import make_assertion
from spinor.x509.proxy import Credential, make_proxy
from spinor.x509.voms import make_attributes, with_attributes
from tests.identity.delegation.conftest import ALAN, CA, DOCUMENT, FORM, TOKEN, Desk
from tests.identity.workbench import ISSUER
from tests.x509.pki import curve_key, forged_proxy, root_authority

if TYPE_CHECKING:
    from tests.x509.pki import Pki

HOUR = timedelta(hours=1)


def proxy(own: Credential, **options: object) -> Credential:
    return make_proxy(own, lifetime=HOUR, now=datetime.now(UTC), **options)  # type: ignore[arg-type]


def with_fqans(
    pki: Pki, own: Credential, *fqans: str, signer: Credential | None = None, vo: str = "testvo"
) -> Credential:
    der = make_attributes(
        vo, fqans, own.leaf, signer or pki.voms_host, uri="voms.test:1", lifetime=HOUR, now=datetime.now(UTC)
    )
    return proxy(own, extensions=[with_attributes(der)])


async def refreshed(desk: Desk, given: dict[str, Any]) -> dict[str, Any]:
    form = {**FORM, "grant_type": "refresh_token", "refresh_token": given["refresh_token"]}
    found: dict[str, Any] = (await desk.http.post(TOKEN, data=form)).json()
    return found


@pytest.mark.parametrize("audience", [ISSUER, f"{ISSUER}{TOKEN}"])
async def test_a_certificate_signs_in(desk: Desk, pki: Pki, audience: str) -> None:
    answer = await desk.sign_in(pki.ada, audience=audience, vo="astro", group="astro_users")
    assert answer.status_code == 200, answer.text
    who = await desk.ask(answer.json()["access_token"], "GET", "/api/auth/whoami")
    assert (who.json()["user"], who.json()["vo"], who.json()["group"]) == ("ada", "astro", "astro_users")
    assert await desk.rows("SELECT signed_in_by FROM identity.session") == [("certificate",)]


async def test_an_assertion_is_good_once(desk: Desk, pki: Pki) -> None:
    assertion = make_assertion(pki.ada, audience=ISSUER, now=datetime.now(UTC))
    form = {**FORM, "assertion": assertion}
    # The first is refused for another reason (several VOs), and is spent all the same.
    assert (await desk.http.post(TOKEN, data=form)).json()["code"] == "role-unclear"
    again = await desk.http.post(TOKEN, data={**form, "vo": "astro"})
    assert (again.status_code, again.json()["error"], again.json()["code"]) == (
        400, "invalid_grant", "assertion-replayed",
    )  # fmt: skip


@pytest.mark.parametrize("audience", ["https://other.example", f"{ISSUER}/", f"{ISSUER}/api/x509/link"])
async def test_an_assertion_for_others_is_refused(desk: Desk, pki: Pki, audience: str) -> None:
    answer = await desk.sign_in(pki.ada, audience=audience)
    assert (answer.status_code, answer.json()["code"]) == (400, "assertion-wrong-audience")


async def test_who_holds_an_unknown_certificate_is_told_what_to_do(desk: Desk, pki: Pki) -> None:
    answer = await desk.sign_in(pki.alan)
    assert (answer.status_code, answer.json()["error"], answer.json()["code"]) == (
        400, "invalid_grant", "unknown-certificate",
    )  # fmt: skip
    assert ALAN in answer.json()["error_description"]
    assert CA in answer.json()["error_description"]
    # Whoever does not hold the key learns nothing of it.
    forged = forged_proxy(pki.ada, signer=curve_key(9))
    refused = await desk.sign_in(forged)
    assert refused.json()["code"] == "chain-signature"
    stranger = root_authority("DC=test,CN=Forger", number=3).user()
    assert (await desk.sign_in(stranger)).json()["code"] == "chain-unknown-ca"


async def test_a_limited_proxy_gives_data_access_only(desk: Desk, pki: Pki) -> None:
    limited = proxy(pki.ada, limited=True)
    given = (await desk.sign_in(limited, vo="astro")).json()
    scopes = set(given["scope"].split())
    assert {"files:read", "files:write", "jobs:read"} <= scopes
    assert not {"jobs:submit", "proxies:use", "tokens:create", "self:write"} & scopes
    again = (
        await desk.http.post(
            TOKEN, data={**FORM, "grant_type": "refresh_token", "refresh_token": given["refresh_token"]}
        )
    ).json()
    assert set(again["scope"].split()) == scopes
    for scope in ("jobs:submit", "proxies:use", "files:read jobs:submit"):
        refused = await desk.sign_in(proxy(pki.ada, limited=True), vo="astro", scope=scope)
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid_scope")
    full = (await desk.sign_in(proxy(pki.ada), vo="astro")).json()
    assert {"jobs:submit", "proxies:use"} <= set(full["scope"].split())


async def test_a_session_ends_with_its_proxy(desk: Desk, pki: Pki) -> None:
    short = make_proxy(pki.ada, lifetime=timedelta(minutes=5), now=datetime.now(UTC))
    given = (await desk.sign_in(short, vo="astro")).json()
    await refreshed(desk, given)
    ends = await desk.rows(
        "SELECT expires_at FROM identity.refresh_token UNION ALL SELECT expires_at FROM identity.session"
    )
    assert len(ends) == 3
    assert {row[0] for row in ends} == {short.not_after}


async def test_attributes_give_groups_and_choose_among_them(desk: Desk, pki: Pki) -> None:
    own = with_fqans(pki, pki.ada, "/testvo/Role=production", "/testvo/Role=full", "/testvo")
    given = (await desk.sign_in(own)).json()
    who = (await desk.ask(given["access_token"], "GET", "/api/auth/whoami")).json()
    assert (who["vo"], who["group"]) == ("astro", "astro_production")
    # A wish goes before, and without the attribute the group stays for some days.
    given = (await desk.sign_in(pki.ada, vo="astro", group="astro_production")).json()
    assert given["access_token"]
    assert await desk.rows("SELECT sources FROM identity.membership JOIN identity.vo_group USING (group_id)"
                           " WHERE name = 'astro_production'") == [(["voms"],)]  # fmt: skip
    # It ends when the operations data no longer let the attribute stand for the group.
    await desk.configure(DOCUMENT.replace("/testvo/Role=production: astro_production, ", ""))
    refused = await desk.sign_in(pki.ada, vo="astro", group="astro_production")
    assert refused.json()["code"] == "no-such-role"
    assert (await desk.sign_in(pki.ada, vo="astro", group="astro_full")).status_code == 200


async def test_forged_attributes_refuse_the_sign_in(desk: Desk, pki: Pki) -> None:
    """DIRAC never verified the signature of attributes."""
    for signer in (pki.alan, pki.host):
        answer = await desk.sign_in(with_fqans(pki, pki.ada, "/testvo/Role=production", signer=signer), vo="astro")
        assert (answer.status_code, answer.json()["code"]) == (400, "voms-issuer")
    assert not await desk.rows("SELECT FROM identity.voms_membership")


async def test_attributes_of_unknown_vos_count_for_nothing(desk: Desk, pki: Pki) -> None:
    own = with_fqans(pki, pki.ada, "/elsewhere/Role=production", vo="elsewhere")
    assert (await desk.sign_in(own, vo="astro")).status_code == 200
    assert not await desk.rows("SELECT FROM identity.voms_membership")


async def test_a_certificate_is_linked_by_its_key_alone(desk: Desk, pki: Pki, alan: str) -> None:
    async def link(token: str, own: Credential, audience: str = f"{ISSUER}/api/x509/link") -> tuple[int, str]:
        assertion = make_assertion(own, audience=audience, now=datetime.now(UTC))
        answer = await desk.ask(token, "POST", "/api/x509/link", {"assertion": assertion})
        found = answer.json()
        return answer.status_code, found.get("rule") or found.get("code") or found.get("subject")

    # An assertion for signing in links nothing: whoever got hold of one could take the certificate over.
    assert await link(alan, pki.alan, ISSUER) == (422, "assertion-wrong-audience")
    # Nor does a proxy: it may be stolen, and the link would outlive it.
    assert await link(alan, proxy(pki.alan)) == (422, "assertion-rejected")
    assert await link(alan, pki.ada) == (409, "certificate-taken")
    assert await link(alan, pki.alan) == (200, ALAN)
    assert await link(alan, pki.alan) == (200, ALAN)
    assert (await desk.sign_in(pki.alan)).status_code == 200
    assert (await desk.sign_in(pki.ada, vo="astro")).status_code == 200


async def test_no_assertion_in_logs(desk: Desk, pki: Pki, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    given = (await desk.sign_in(pki.ada, vo="astro")).json()
    logged = "\n".join(str(vars(record)) for record in caplog.records)
    assert given["access_token"] not in logged
    assert "eyJ" not in logged


async def test_a_group_by_attributes_ends_a_week_after_they_were_shown(desk: Desk, pki: Pki) -> None:
    own = with_fqans(pki, pki.ada, "/testvo/Role=production", "/testvo/Role=full")
    assert (await desk.sign_in(own)).status_code == 200
    ((ends_at,),) = await desk.rows("SELECT DISTINCT ends_at FROM identity.voms_membership")
    assert timedelta(days=6, hours=23) < ends_at - datetime.now(UTC) <= timedelta(days=7)
    await desk.rows("UPDATE identity.voms_membership SET ends_at = now() RETURNING 1")
    async with desk.world.db.transaction() as tx:
        await service.delete_ended(tx)
    groups = await desk.rows(
        "SELECT g.name FROM identity.membership m JOIN identity.vo_group g USING (group_id)"
        " JOIN identity.user_account u USING (user_id) WHERE u.name = 'ada' AND g.name LIKE 'astro_%' ORDER BY 1"
    )
    # She is in astro_full by the operations data as well.
    assert [row[0] for row in groups] == ["astro_admins", "astro_full", "astro_users"]


async def test_a_suspended_person_does_not_sign_in(desk: Desk, pki: Pki) -> None:
    await desk.rows(
        "INSERT INTO identity.suspension (user_id, reason, suspended_by)"
        " SELECT user_id, 'x', 'x' FROM identity.user_account WHERE name = 'ada' RETURNING 1"
    )
    answer = await desk.sign_in(pki.ada, vo="astro")
    assert (answer.status_code, answer.json()["code"]) == (400, "suspended")
