"""Refresh tokens: rotation, the grace in which a lost answer can be asked for again, and what reuse leads to."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from spinor.db import Database, Tx, execute, fetch_rows
from spinor.errors import SpinorError
from spinor.identity import service
from spinor.identity.keys import KeyRing
from spinor.identity.models import Proven, Tokens
from spinor.identity.service import GrantRefused

if TYPE_CHECKING:
    from tests.conftest import World


ISSUER = "https://spinor.example.org"


@pytest.fixture
def keys(tmp_path: Path) -> KeyRing:
    return KeyRing.create(tmp_path / "keys")


async def sign_in(world: World, keys: KeyRing, user: str = "alan") -> Tokens:
    async with world.db.transaction() as tx:
        return await service.sign_in(tx, keys, ISSUER, Proven(user=user, signed_in_by="development"))


async def refresh(db: Database, keys: KeyRing, token: str, scope: str = "") -> Tokens | None:
    async with db.transaction() as tx:
        return await service.refresh(tx, keys, ISSUER, token, scope=scope)


async def refreshed(db: Database, keys: KeyRing, token: str) -> Tokens:
    tokens = await refresh(db, keys, token)
    assert tokens is not None
    return tokens


async def pass_time(db: Database, seconds: float) -> None:
    """Everything stored happened that much earlier."""
    async with db.transaction() as tx:
        await execute(
            tx,
            "UPDATE identity.session SET opened_at = opened_at - make_interval(secs => %(s)s::double precision), "
            "expires_at = expires_at - make_interval(secs => %(s)s::double precision)",
            {"s": seconds},
        )
        await execute(
            tx,
            "UPDATE identity.refresh_token SET issued_at = issued_at - make_interval(secs => %(s)s::double precision), "
            "expires_at = expires_at - make_interval(secs => %(s)s::double precision), "
            "used_at = used_at - make_interval(secs => %(s)s::double precision)",
            {"s": seconds},
        )


async def rows(tx: Tx) -> list[tuple[bytes, UUID, object, object]]:
    return await fetch_rows(
        tx,
        "SELECT token_hash, session_id, t.used_at, ended_at FROM identity.refresh_token t "
        "JOIN identity.session s USING (session_id) ORDER BY issued_at",
    )


async def test_each_use_gives_a_successor(world: World, keys: KeyRing) -> None:
    seen = {(tokens := await sign_in(world, keys)).refresh_token}
    for _ in range(5):
        await pass_time(world.db, 3600)
        tokens = await refreshed(world.db, keys, tokens.refresh_token)
        seen.add(tokens.refresh_token)
    assert len(seen) == 6
    async with world.db.transaction() as tx:
        found = await rows(tx)
    assert len({session for _, session, _, _ in found}) == 1
    assert [used is not None for _, _, used, _ in found] == [True] * 5 + [False]


async def test_only_hashes_are_stored(world: World, keys: KeyRing) -> None:
    token = (await sign_in(world, keys)).refresh_token
    async with world.db.transaction() as tx:
        (stored, *_), *_ = await rows(tx)
    assert stored == hashlib.sha256(token.encode()).digest()
    assert len(token) - len("spinor_rt_") == 43  # 256 bits in base64.


async def test_a_lost_answer_can_be_asked_for_again(world: World, keys: KeyRing) -> None:
    first = await sign_in(world, keys)
    lost = await refreshed(world.db, keys, first.refresh_token)
    await pass_time(world.db, 25)
    again = await refreshed(world.db, keys, first.refresh_token)
    assert again.refresh_token == lost.refresh_token
    assert again.access_token != lost.access_token


@pytest.mark.parametrize("after_s", [31, 3600])
async def test_reuse_ends_the_session(world: World, keys: KeyRing, after_s: float) -> None:
    first = await sign_in(world, keys)
    other = await sign_in(world, keys)
    second = await refreshed(world.db, keys, first.refresh_token)
    await pass_time(world.db, after_s)
    assert await refresh(world.db, keys, first.refresh_token) is None
    with pytest.raises(GrantRefused):
        await refresh(world.db, keys, second.refresh_token)
    assert await refresh(world.db, keys, other.refresh_token), "another sign-in of the same user goes on"


async def test_the_grace_ends_when_the_successor_is_used(world: World, keys: KeyRing) -> None:
    """Otherwise a thief with the older token would be handed the newer one."""
    first = await sign_in(world, keys)
    second = await refreshed(world.db, keys, first.refresh_token)
    third = await refreshed(world.db, keys, second.refresh_token)
    assert await refresh(world.db, keys, first.refresh_token) is None
    with pytest.raises(GrantRefused):
        await refresh(world.db, keys, third.refresh_token)


async def test_many_uses_at_once_give_one_successor(world: World, keys: KeyRing) -> None:
    """Processes of one user that wake up together share a token and must not be signed out for it."""
    first = await sign_in(world, keys)
    answers = await asyncio.gather(*(refreshed(world.db, keys, first.refresh_token) for _ in range(12)))
    assert len({answer.refresh_token for answer in answers}) == 1
    async with world.db.transaction() as tx:
        assert len(await rows(tx)) == 2
    assert await refresh(world.db, keys, answers[0].refresh_token)


async def test_an_expired_token_is_refused(world: World, keys: KeyRing) -> None:
    token = (await sign_in(world, keys)).refresh_token
    await pass_time(world.db, 30 * 86400 - 60)
    async with world.db.transaction() as tx:
        assert await service.holds(tx, keys, token)
    await pass_time(world.db, 61)
    with pytest.raises(GrantRefused, match="expired"):
        await refresh(world.db, keys, token)
    async with world.db.transaction() as tx:
        assert not await service.holds(tx, keys, token)


async def test_expired_tokens_are_deleted(world: World, keys: KeyRing) -> None:
    await sign_in(world, keys)
    await pass_time(world.db, 32 * 86400)
    kept = await sign_in(world, keys)
    async with world.db.transaction() as tx:
        assert await service.delete_expired(tx) == 1
    assert await refresh(world.db, keys, kept.refresh_token)


@pytest.mark.parametrize("token", ["", "spinor_rt_unknown", "\x00", "é" * 1000])
async def test_an_unknown_token_is_refused(world: World, keys: KeyRing, token: str) -> None:
    with pytest.raises(GrantRefused):
        await refresh(world.db, keys, token)


async def test_an_access_token_does_not_refresh(world: World, keys: KeyRing) -> None:
    with pytest.raises(GrantRefused):
        await refresh(world.db, keys, (await sign_in(world, keys)).access_token)


async def test_a_retired_member_is_refused(world: World, keys: KeyRing) -> None:
    token = (await sign_in(world, keys)).refresh_token
    async with world.db.transaction() as tx:
        await execute(tx, "UPDATE identity.user_account SET retired_at = now() WHERE name = 'alan'")
    with pytest.raises(GrantRefused, match="no longer"):
        await refresh(world.db, keys, token)


async def test_scopes_can_be_fewer_but_not_more(world: World, keys: KeyRing) -> None:
    token = (await sign_in(world, keys)).refresh_token
    fewer = await refresh(world.db, keys, token, "jobs:read")
    assert fewer
    assert fewer.scope == "jobs:read"
    with pytest.raises(SpinorError, match="no other scope"):
        await refresh(world.db, keys, fewer.refresh_token, "jobs:read jobs:manage")
    with pytest.raises(SpinorError, match="no other scope"):
        await refresh(world.db, keys, fewer.refresh_token, "pilot:act")


async def test_without_the_secret_nobody_can_compute_the_successor(world: World, keys: KeyRing, tmp_path: Path) -> None:
    stranger = KeyRing.create(tmp_path / "other")
    token = (await sign_in(world, keys)).refresh_token
    assert stranger.refresh_successor(token) != keys.refresh_successor(token)


async def test_revocation_ends_the_session_and_an_unknown_token_is_no_error(world: World, keys: KeyRing) -> None:
    first = await sign_in(world, keys)
    second = await refreshed(world.db, keys, first.refresh_token)
    async with world.db.transaction() as tx:
        assert not await service.revoke(tx, "unknown")
        assert await service.revoke(tx, first.refresh_token)
    with pytest.raises(GrantRefused):
        await refresh(world.db, keys, second.refresh_token)


async def test_a_revocation_during_refreshes_misses_no_successor(world: World, keys: KeyRing) -> None:
    for _ in range(5):
        first = await sign_in(world, keys)

        async def chain(token: str) -> None:
            with contextlib.suppress(GrantRefused):
                while tokens := await refresh(world.db, keys, token):
                    token = tokens.refresh_token

        async def revocation(token: str) -> None:
            await asyncio.sleep(0.02)
            async with world.db.transaction() as tx:
                await service.revoke(tx, token)

        await asyncio.wait_for(asyncio.gather(chain(first.refresh_token), revocation(first.refresh_token)), 20)
    async with world.db.transaction() as tx:
        assert all(revoked is not None for _, _, _, revoked in await rows(tx))
