"""Providers' access tokens for ours, and asking a provider again while a session lives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from spinor.http import State
from spinor.identity import service as identity
from spinor.identity.federation import service
from spinor.identity.federation.provider import ProviderUnavailable, Upstreams
from spinor.identity.models import Proven, Tokens
from tests.identity.federation.hostile import ACCESS_TOKEN, KEY, Hostile, hostile_provider, signed, usual
from tests.identity.federation.workbench import MEMBER
from tests.servers.oidc import Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.identity.federation.workbench import Spinor
    from tests.servers.authority import Authority
    from tests.servers.oidc import OIDCServer


@pytest.fixture
def state(spinor: Spinor) -> State:
    upstreams = Upstreams(spinor.settings.data_dir / "secrets" / "providers", spinor.clock)
    return State(spinor.settings, spinor.keys, upstreams)


@pytest.fixture
async def hostile(authority: Authority) -> AsyncIterator[Hostile]:
    async with hostile_provider(authority) as it:
        yield it


async def proven(spinor: Spinor, state: State, issuer: str, token: str) -> Proven:
    return await service.proven_by_token(spinor.db, state, issuer, token)


async def exchanged(spinor: Spinor, issuer: str, token: str) -> httpx.Response:
    """What the token endpoint says to a notebook that has this token."""
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", "client_id": "spinor-notebook",
        "subject_token": token, "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "subject_issuer": issuer,
    }  # fmt: skip
    async with httpx.AsyncClient(base_url=spinor.url, verify=spinor.authority.context(), timeout=60) as http:
        return await http.post("/api/auth/token", data=form)


@pytest.mark.acceptance
@pytest.mark.peer("oidc-provider")
async def test_an_opaque_token_of_an_allowed_client_is_its_person(
    spinor: Spinor, oidc_server: OIDCServer, state: State, sub: str
) -> None:
    tail = spinor.url[-5:]
    ours = oidc_server.add_client(f"spinor-{tail}", [spinor.callback("one")])
    notebook, stranger = oidc_server.add_client(f"notebook-{tail}"), oidc_server.add_client(f"stranger-{tail}")
    await spinor.provide("one", oidc_server.issuer, ours, exchange_clients=f"[notebook-{tail}]")
    oidc_server.add_user(sub, preferred_username="grace", eduperson_entitlement=[MEMBER])
    scope = "openid profile eduperson_entitlement"
    token = oidc_server.sign_in(notebook, sub, scope)["access_token"]
    assert await proven(spinor, state, oidc_server.issuer, token) == Proven(
        user="grace", signed_in_by=f"exchange:{oidc_server.issuer}"
    )
    assert await spinor.memberships("grace") == {"astro_users": ["provider:one"]}
    given = await exchanged(spinor, oidc_server.issuer, token)
    assert (given.status_code, "refresh_token" in given.json()) == (200, False), given.text
    wrong = [
        oidc_server.sign_in(stranger, sub, scope)["access_token"],
        oidc_server.sign_in(notebook, sub, scope)["id_token"],
        token + "x", "", "x" * 5000, "x\n",
    ]  # fmt: skip
    for each in wrong:
        with pytest.raises(service.ExchangeRefused):
            await proven(spinor, state, oidc_server.issuer, each)
    refused = await exchanged(spinor, oidc_server.issuer, wrong[0])
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    with pytest.raises(service.ExchangeRefused):
        await proven(spinor, state, "https://other.example.org", token)
    # Remembered for ten minutes at most; then the provider is asked again, and the membership ends that ended there.
    oidc_server.add_user(sub, preferred_username="grace")
    await proven(spinor, state, oidc_server.issuer, token)
    assert await spinor.memberships("grace") == {"astro_users": ["provider:one"]}
    spinor.clock.ahead_s = 601
    await proven(spinor, state, oidc_server.issuer, token)
    assert await spinor.memberships("grace") == {}


async def test_jwts_are_taken_only_when_they_are_access_tokens_for_here(
    spinor: Spinor, hostile: Hostile, state: State
) -> None:
    await spinor.provide(
        "jwt", hostile.issuer, Client("spinor", None), exchange_clients="[notebook]", exchange_audiences="[extra]"
    )
    hostile.answers["/me"] = {"sub": "mallory", "preferred_username": "mallory", "eduperson_entitlement": [MEMBER]}

    def access_token(**more: Any) -> str:
        claims = {"aud": None, "azp": "notebook", "scope": "openid profile", "exp": 2**33, **more}
        return signed(usual(hostile.issuer, **claims), KEY, typ=more.get("head", "at+jwt"), **more.get("header", {}))

    good: list[dict[str, Any]] = [
        {}, {"aud": "spinor"}, {"aud": ["x", spinor.url]}, {"aud": "extra"}, {"aud": "account"}, {"typ": "Bearer"},
        {"azp": None, "client_id": "notebook"}, {"client_id": "notebook"}, {"head": "JWT"},
    ]  # fmt: skip
    for each in good:
        assert (await proven(spinor, state, hostile.issuer, access_token(**each))).user == "mallory"
    wrong: list[dict[str, Any]] = [
        {"azp": "stranger"}, {"azp": None}, {"client_id": "stranger"}, {"azp": ["notebook"]}, {"aud": "https://storage"},
        {"aud": ["https://storage", 5]}, {"exp": 1}, {"exp": None}, {"iss": "https://other"}, {"sub": "ada"},
        {"nonce": "n"}, {"at_hash": "x"}, {"typ": "ID"}, {"typ": "Refresh"}, {"head": "id+jwt"}, {"head": "logout+jwt"},
        {"scope": None}, {"nbf": 2**32}, {"header": {"kid": "unknown"}},
    ]  # fmt: skip
    for each in wrong:
        with pytest.raises(service.ExchangeRefused):
            await proven(spinor, state, hostile.issuer, access_token(**each))


async def test_who_ended_a_token_there_has_ended_it_here(spinor: Spinor, hostile: Hostile, state: State) -> None:
    from starlette.responses import Response

    await spinor.provide("jwt", hostile.issuer, Client("spinor", None), exchange_clients="[notebook]")
    hostile.answers["/me"] = Response(b'{"error": "invalid_token"}', 401)
    token = signed(usual(hostile.issuer, azp="notebook", aud=None, scope="openid"), KEY, typ="at+jwt")
    with pytest.raises(service.ExchangeRefused, match="invalid_token"):
        await proven(spinor, state, hostile.issuer, token)
    hostile.answers["/me"] = Response(b"", 503)
    with pytest.raises(ProviderUnavailable):
        await proven(spinor, state, hostile.issuer, token)


async def test_a_stranger_has_to_be_let_in_first(spinor: Spinor, hostile: Hostile, state: State) -> None:
    await spinor.provide(
        "jwt", hostile.issuer, Client("spinor", None), exchange_clients="[notebook]", registration="approval"
    )
    token = signed(usual(hostile.issuer, azp="notebook", aud=None, scope="openid"), KEY, typ="at+jwt")
    with pytest.raises(service.ExchangeRefused, match=f"{spinor.url}/login"):
        await proven(spinor, state, hostile.issuer, token)


async def session_of(spinor: Spinor, user: str, signed_in_by: str) -> Tokens:
    async with spinor.db.transaction() as tx:
        proven_person = Proven(user=user, signed_in_by=signed_in_by)
        return await identity.sign_in(tx, spinor.keys, spinor.url, proven_person)


async def refreshed(spinor: Spinor, token: str) -> httpx.Response:
    async with httpx.AsyncClient(
        base_url=spinor.url, verify=spinor.authority.context(), trust_env=False, timeout=60
    ) as http:
        return await http.post(
            "/api/auth/token", data={"grant_type": "refresh_token", "refresh_token": token, "client_id": "spinor-cli"}
        )


@pytest.mark.acceptance
@pytest.mark.peer("oidc-provider")
async def test_without_a_refresh_token_of_the_provider_one_signs_in_again(
    spinor: Spinor, oidc_server: OIDCServer, sub: str
) -> None:
    client = oidc_server.add_client(f"recheck-{spinor.url[-5:]}", [spinor.callback("one")])
    await spinor.provide("one", oidc_server.issuer, client)
    oidc_server.add_user(sub, preferred_username="grace", eduperson_entitlement=[MEMBER])
    async with spinor.person() as grace:
        await grace.sign_in(oidc_server, sub, "one")
        first = await session_of(spinor, "grace", "provider:one")
        second = await refreshed(spinor, first.refresh_token)
        assert second.status_code == 200
        spinor.clock.ahead_s = 3601
        late = await refreshed(spinor, second.json()["refresh_token"])
        assert (late.status_code, late.json()["error"]) == (400, "invalid_grant")
        assert "spinor login" in late.json()["error_description"]
        # Sessions that rest on something else go on.
        assert (
            await refreshed(spinor, (await session_of(spinor, "grace", "certificate")).refresh_token)
        ).status_code == 200
        spinor.providers.clear()
        await spinor.apply()
        gone = await refreshed(spinor, first.refresh_token)
        assert gone.status_code == 400


@pytest.mark.acceptance
@pytest.mark.peer("oidc-provider")
async def test_with_one_the_provider_is_asked_and_who_was_removed_is_out(
    spinor: Spinor, oidc_server: OIDCServer, sub: str
) -> None:
    client = oidc_server.add_client(f"recheck-{spinor.url[-5:]}", [spinor.callback("one")])
    await spinor.provide("one", oidc_server.issuer, client)
    spinor.providers["one"] = spinor.providers["one"].replace("[openid,", "[openid, offline_access,")
    await spinor.apply()
    groups = ["/astro/production"]
    oidc_server.add_user(sub, preferred_username="grace", eduperson_entitlement=[MEMBER], wlcg_groups=groups)
    async with spinor.person() as grace:
        assert (await grace.sign_in(oidc_server, sub, "one")).status_code == 303
    ((sealed,),) = await spinor.rows("SELECT refresh_sealed FROM identity.provider_account")
    assert sealed is not None
    token = (await session_of(spinor, "grace", "provider:one")).refresh_token
    oidc_server.add_user(sub, preferred_username="grace", wlcg_groups=groups)
    assert (await refreshed(spinor, token)).status_code == 200
    assert set(await spinor.memberships("grace")) == {"astro_users", "astro_production"}
    token = (await session_of(spinor, "grace", "provider:one")).refresh_token
    spinor.clock.ahead_s = 3601
    # The session is in the group that was lost.
    async with spinor.db.transaction() as tx:
        await tx.execute("UPDATE identity.provider_account SET checked_at = checked_at - interval '1 hour'")
    answer = await refreshed(spinor, token)
    assert set(await spinor.memberships("grace")) == {"astro_production"}, answer.text
    ((again,),) = await spinor.rows("SELECT refresh_sealed FROM identity.provider_account")
    assert again not in (None, sealed)
    oidc_server.remove_user(sub)
    token = (await session_of(spinor, "grace", "provider:one")).refresh_token
    spinor.clock.ahead_s = 7300
    removed = await refreshed(spinor, token)
    assert (removed.status_code, removed.json()["error"]) == (400, "invalid_grant")
    assert await spinor.memberships("grace") == {}


async def test_a_provider_that_is_away_does_not_end_sessions_at_once(
    spinor: Spinor, hostile: Hostile, state: State
) -> None:
    from starlette.responses import Response

    await spinor.provide("jwt", hostile.issuer, Client("spinor", None), exchange_clients="[notebook]")
    hostile.answers["/me"] = {"sub": "mallory", "preferred_username": "mallory", "eduperson_entitlement": [MEMBER]}
    token = signed(usual(hostile.issuer, azp="notebook", aud=None, scope="openid"), KEY, typ="at+jwt")
    await proven(spinor, state, hostile.issuer, token)
    sealed = spinor.keys.seal.close(b"upstream-refresh", f"refresh token of mallory at {hostile.issuer}")
    async with spinor.db.transaction() as tx:
        await tx.execute("UPDATE identity.provider_account SET refresh_sealed = %s", [sealed])
    ours = (await session_of(spinor, "mallory", f"exchange:{hostile.issuer}")).refresh_token
    hostile.answers["/token"] = Response(status_code=503)
    spinor.clock.ahead_s = 3700
    second = await refreshed(spinor, ours)
    assert second.status_code == 200
    spinor.clock.ahead_s = 7300
    assert (await refreshed(spinor, second.json()["refresh_token"])).status_code == 503
    hostile.answers["/token"] = {"access_token": ACCESS_TOKEN, "token_type": "Bearer"}
    spinor.clock.ahead_s = 7310
    assert (await refreshed(spinor, second.json()["refresh_token"])).status_code == 200
    assert b"refresh_token=upstream-refresh" in hostile.asked[-2][2]


@pytest.mark.acceptance
@pytest.mark.peer("oidc-provider")
async def test_who_was_removed_and_does_not_come_back_is_out_too(
    spinor: Spinor, oidc_server: OIDCServer, state: State, sub: str
) -> None:
    """A session by a certificate, say, asks no provider. The worker does."""
    client = oidc_server.add_client(f"worker-{spinor.url[-5:]}", [spinor.callback("one")])
    await spinor.provide("one", oidc_server.issuer, client)
    spinor.providers["one"] = spinor.providers["one"].replace("[openid,", "[openid, offline_access,")
    await spinor.apply()
    for name in ("grace", "lise"):
        oidc_server.add_user(f"{name}-{sub}", preferred_username=name, eduperson_entitlement=[MEMBER])
        async with spinor.person() as person:
            assert (await person.sign_in(oidc_server, f"{name}-{sub}", "one")).status_code == 303
    assert await service.recheck_everybody(spinor.db, state) == 0
    oidc_server.remove_user(f"grace-{sub}")
    older = "UPDATE identity.provider_account SET checked_at = checked_at - interval '1 hour'"
    async with spinor.db.transaction() as tx:
        await tx.execute(older.encode())
    assert await service.recheck_everybody(spinor.db, state) == 2
    assert await spinor.memberships("grace") == {}
    assert await spinor.memberships("lise") == {"astro_users": ["provider:one"]}
    assert await service.recheck_everybody(spinor.db, state) == 0


async def test_what_nobody_confirms_lapses(spinor: Spinor, hostile: Hostile, state: State) -> None:
    await spinor.provide("jwt", hostile.issuer, Client("spinor", None), exchange_clients="[notebook]", lapse="30d")
    hostile.answers["/me"] = {"sub": "mallory", "preferred_username": "mallory", "eduperson_entitlement": [MEMBER]}
    token = signed(usual(hostile.issuer, azp="notebook", aud=None, scope="openid"), KEY, typ="at+jwt")
    await proven(spinor, state, hostile.issuer, token)
    for age, left in (("29 days", {"astro_users": ["provider:jwt"]}), ("2 days", {})):
        async with spinor.db.transaction() as tx:
            await tx.execute(
                f"UPDATE identity.provider_account SET checked_at = checked_at - interval '{age}'".encode()
            )
        await service.recheck_everybody(spinor.db, state)
        assert await spinor.memberships("mallory") == left
