"""From a request to its caller, and how soon a change of the tables is felt."""

import time
from typing import Any

import msgspec
import pytest

from spinor.access import Caller
from spinor.db import execute
from spinor.errors import NotSignedIn
from spinor.identity import service as identity
from spinor.identity.tokens import Verifier, mint
from tests.identity.workbench import ISSUER, Clock, Service, request


@pytest.fixture
def clock() -> Clock:
    return Clock(time.time())


@pytest.fixture
def verifier(service: Service, clock: Clock) -> Verifier:
    return Verifier(service.keys, ISSUER, service.world.db, clock=clock)


async def token_of(service: Service, caller: Caller) -> str:
    async with service.world.db.transaction() as tx:
        return await identity.access_token_for(tx, service.keys, ISSUER, caller)


async def asked(verifier: Verifier, token: str, kind: str = "Bearer") -> Caller:
    return await verifier.caller_of(request("GET", "/", headers={"authorization": f"{kind} {token}"}))


async def test_a_token_is_the_caller_that_it_was_made_for(service: Service, verifier: Verifier) -> None:
    world = service.world
    for caller in (world.ada, world.ada_admin, world.alan, world.bea):
        for kind in ("Bearer", "bEARER"):
            found = await asked(verifier, await token_of(service, caller), kind)
            assert found.session_id is not None
            assert msgspec.structs.replace(found, session_id=None) == caller


async def test_a_pilot_may_only_be_a_pilot(service: Service, verifier: Verifier) -> None:
    caller = await asked(verifier, identity.mint_pilot_token(service.keys, ISSUER, "astro", 17, 3600))
    assert (caller.pilot_id, caller.vo_id, caller.user_id, caller.group_id) == (17, service.world.ada.vo_id, 0, 0)
    assert caller.scopes == {"pilot:act"}


@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": ""}, {"authorization": "Basic eDp5"}, {"authorization": "Bearer"}, {"cookie": "t=x"}],
)
async def test_without_a_token(verifier: Verifier, headers: dict[str, str]) -> None:
    with pytest.raises(NotSignedIn):
        await verifier.caller_of(request("GET", "/", headers=headers))


async def test_a_token_in_the_address_does_not_count(service: Service, verifier: Verifier) -> None:
    token = await token_of(service, service.world.ada)
    with pytest.raises(NotSignedIn):
        await verifier.caller_of(request("GET", f"/?access_token={token}"))


async def test_two_tokens_are_one_too_many(service: Service, verifier: Verifier) -> None:
    good = b"Bearer " + (await token_of(service, service.world.ada)).encode()
    both = request("GET", "/")
    both.scope["headers"] = [(b"authorization", good), (b"authorization", b"Bearer x")]
    with pytest.raises(NotSignedIn, match="two"):
        await verifier.caller_of(both)


async def test_a_token_cannot_say_more_than_its_group_gives(service: Service, verifier: Verifier) -> None:
    """A scope that the group lost, or that no group has, is worth nothing even when it is signed."""
    async with service.world.db.transaction() as tx:
        found = await identity.access_token_for(tx, service.keys, ISSUER, service.world.alan)
    from spinor.identity.tokens import read_token

    claims = read_token(service.keys, ISSUER, found, time.time())
    wide = {"sub": claims.sub, "sid": claims.sid, "vo": "astro", "group": "astro_users", "client_id": "c"}
    token = mint(service.keys, ISSUER, {**wide, "scope": "jobs:read config:write pilot:act"})
    assert (await asked(verifier, token)).scopes == {"jobs:read"}


@pytest.mark.parametrize(
    "change",
    [
        {"group": "astro_admins"},
        {"group": "bio_users"},
        {"vo": "bio"},
        {"vo": "bio", "group": "bio_users"},
        {"vo": "nowhere"},
        {"sub": "7d8f3a1e-0000-4000-8000-000000000001"},
        {"sub": "alan"},
        {"sub": "pilot:0"},
        {"sub": "pilot:1x"},
        {"sub": "pilot:1", "vo": "nowhere"},
    ],
)
async def test_a_role_that_nobody_has(service: Service, verifier: Verifier, change: dict[str, Any]) -> None:
    from spinor.identity.tokens import read_token

    claims = read_token(service.keys, ISSUER, await token_of(service, service.world.alan), time.time())
    said = {"sub": claims.sub, "sid": claims.sid, "vo": "astro", "group": "astro_users", "client_id": "c"}
    with pytest.raises(NotSignedIn):
        await asked(verifier, mint(service.keys, ISSUER, {**said, "scope": "jobs:read", **change}))


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE identity.user_account SET retired_at = now() WHERE name = 'alan'",
        "UPDATE identity.vo_group SET retired_at = now() WHERE name = 'astro_users'",
        "UPDATE identity.vo SET retired_at = now() WHERE name = 'astro'",
        "DELETE FROM identity.membership",
    ],
    ids=["user", "group", "VO", "membership"],
)
async def test_what_is_retired_is_denied_within_half_a_minute(
    service: Service, verifier: Verifier, clock: Clock, change: str
) -> None:
    token = await token_of(service, service.world.alan)
    await asked(verifier, token)
    async with service.world.db.transaction() as tx:
        await execute(tx, change)
    clock.now += 29
    assert await asked(verifier, token), "remembered, which is what makes it cheap"
    clock.now += 2
    with pytest.raises(NotSignedIn, match="no longer"):
        await asked(verifier, token)


async def test_a_remembered_token_still_expires(service: Service, verifier: Verifier, clock: Clock) -> None:
    token = mint(
        service.keys, ISSUER, {"sub": "pilot:1", "vo": "astro", "client_id": "c"}, lifetime_s=20, now=clock.now
    )
    await asked(verifier, token)
    clock.now += 82
    with pytest.raises(NotSignedIn, match="expired"):
        await asked(verifier, token)


async def test_a_refused_token_is_not_remembered(service: Service, verifier: Verifier) -> None:
    for _ in range(2):
        with pytest.raises(NotSignedIn):
            await asked(verifier, "a.b.c")
    assert not verifier._remembered


async def test_the_memory_is_bounded(service: Service, verifier: Verifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spinor.identity.tokens.CACHED_TOKENS", 10)
    for number in range(1, 25):
        await asked(verifier, identity.mint_pilot_token(service.keys, ISSUER, "astro", number, 3600))
        assert len(verifier._remembered) <= 10


async def test_a_known_token_costs_a_few_microseconds(service: Service, verifier: Verifier) -> None:
    headers = {
        "host": "x",
        "user-agent": "y",
        "accept": "z",
        "authorization": f"Bearer {await token_of(service, service.world.ada)}",
    }
    known = request("GET", "/", headers=headers)
    await verifier.caller_of(known)
    best = 1.0
    for _ in range(20):
        started = time.perf_counter()
        for _ in range(200):
            await verifier.caller_of(known)
        best = min(best, (time.perf_counter() - started) / 200)
    assert best < 5e-6
