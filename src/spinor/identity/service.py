"""The verbs of identity."""

import hashlib
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from uuid import uuid4

from spinor.access import Caller, Scope, scopes_of
from spinor.db import Tx
from spinor.errors import NotFound, SpinorError
from spinor.identity import rules, store, tokens
from spinor.identity.keys import KeyRing
from spinor.identity.models import (
    ACCESS_TOKEN_LIFETIME_S,
    REFRESH_GRACE_S,
    REFRESH_TOKEN_LIFETIME_S,
    Member,
    Membership,
    RefreshState,
    Tokens,
    WantedGroup,
    WantedUser,
    WhoAmI,
)

_REFRESH_PREFIX = "spinor_rt_"
CLIENT_ID = "spinor-cli"


class UnknownMember(NotFound):
    """There is no such user in that group of that VO."""

    code = "unknown-member"


class GrantRefused(SpinorError):
    """The refresh token is not valid any more; run `spinor login`."""

    status, code = 400, "grant-refused"
    oauth_error = "invalid_grant"


class ScopeRefused(GrantRefused):
    """The scope asks for more than the group gives."""

    code = "scope-refused"
    oauth_error = "invalid_scope"


async def caller_for(tx: Tx, user_name: str, vo: str, group: str) -> Caller:
    """The caller that this user is in this group; UnknownMember when it is not."""
    member = await store.find_member_by_names(tx, user_name, vo, group)
    if member is None:
        raise UnknownMember(f"There is no user {user_name!r} in group {group!r} of VO {vo!r}.")
    return rules.caller_from(member)


async def caller_of_member(tx: Tx, vo_id: int, user_id: int, group_id: int) -> Caller:
    """The caller on whose behalf something is done later, for example registering a job's outputs."""
    return rules.caller_from(await _member(tx, vo_id, user_id, group_id))


async def _member(tx: Tx, vo_id: int, user_id: int, group_id: int) -> Member:
    member = await store.find_member_by_ids(tx, vo_id, user_id, group_id)
    if member is None:
        raise UnknownMember(vo_id=vo_id, user_id=user_id, group_id=group_id)
    return member


async def who_am_i(tx: Tx, caller: Caller) -> WhoAmI:
    """The user behind the caller, and the other roles it could take."""
    members = await store.list_members_of_user(tx, caller.user)
    return WhoAmI(
        user=caller.user,
        full_name=members[0].full_name if members else "",
        vo=caller.vo,
        group=caller.group,
        scopes=sorted(caller.scopes),
        memberships=[Membership(vo=m.vo, group=m.group, properties=m.properties) for m in members],
    )


def mint_pilot_token(keys: KeyRing, issuer: str, vo: str, pilot_id: int, lifetime_s: float) -> str:
    """An access token that can do nothing but what a pilot does, as one pilot of one VO."""
    claims = {"sub": f"pilot:{pilot_id}", "client_id": "spinor-pilot", "vo": vo, "scope": Scope.PILOT_ACT.value}
    return tokens.mint(keys, issuer, claims, lifetime_s=lifetime_s)


def mint_access_token(keys: KeyRing, issuer: str, member: Member, scopes: frozenset[str]) -> str:
    """An access token for one role of a user, of 20 minutes."""
    claims = {
        "sub": str(member.subject),
        "client_id": CLIENT_ID,
        "vo": member.vo,
        "group": member.group,
        "scope": " ".join(sorted(scopes)),
    }
    return tokens.mint(keys, issuer, claims)


async def access_token_for(tx: Tx, keys: KeyRing, issuer: str, caller: Caller) -> str:
    """An access token with exactly this caller's role and scopes."""
    member = await _member(tx, caller.vo_id, caller.user_id, caller.group_id)
    return mint_access_token(keys, issuer, member, caller.scopes)


async def sign_in(tx: Tx, keys: KeyRing, issuer: str, user: str, role: tuple[str, str], scope: str = "") -> Tokens:
    """Tokens for a user whose identity is proven; `role` is (VO, group), each empty when it was not named."""
    member = rules.chosen_role(await store.list_members_of_user(tx, user), *role)
    refresh = _REFRESH_PREFIX + secrets.token_urlsafe(32)
    await store.insert_refresh_token(tx, _hash(refresh), uuid4(), member, REFRESH_TOKEN_LIFETIME_S)
    return _tokens(keys, issuer, member, refresh, scope)


async def refresh(tx: Tx, keys: KeyRing, issuer: str, token: str, scope: str = "") -> Tokens | None:
    """New tokens for a refresh token, which is spent by this; within 30 seconds it gives the same successor again.

    None when it was spent before: its family is revoked then, and the caller has to commit that although it refuses.
    """
    successor = _successor(keys, token)
    await store.lock_refresh_family(tx, _hash(token))
    row = await store.find_refresh_token(tx, _hash(token), _hash(successor), REFRESH_GRACE_S)
    if row is None or row.state is RefreshState.REVOKED:
        raise GrantRefused
    if row.state is RefreshState.EXPIRED:
        raise GrantRefused("The refresh token has expired; run `spinor login`.")
    if row.state is RefreshState.SPENT:
        await store.revoke_refresh_family(tx, row.family_id)
        return None
    member = await store.find_member_by_ids(tx, row.vo_id, row.user_id, row.group_id)
    if member is None:
        raise GrantRefused(rules.MembershipEnded().message)
    answer = _tokens(keys, issuer, member, successor, scope)
    if row.state is RefreshState.FRESH:
        await store.mark_refresh_token_used(tx, _hash(token))
        await store.insert_refresh_token(tx, _hash(successor), row.family_id, member, REFRESH_TOKEN_LIFETIME_S)
    return answer


async def revoke(tx: Tx, token: str) -> int:
    """End a refresh token and all of its family (RFC 7009); how many rows that were. An unknown token is no error."""
    await store.lock_refresh_family(tx, _hash(token))
    return await store.revoke_refresh_family_of_token(tx, _hash(token))


async def holds(tx: Tx, keys: KeyRing, token: str) -> bool:
    """Whether a refresh token could be used now."""
    row = await store.find_refresh_token(tx, _hash(token), _hash(_successor(keys, token)), REFRESH_GRACE_S)
    return row is not None and row.state in (RefreshState.FRESH, RefreshState.IN_GRACE)


async def delete_expired_refresh_tokens(tx: Tx) -> int:
    """Delete what expired more than a day ago; how many rows that were."""
    return await store.delete_expired_refresh_tokens(tx)


async def sync_members(tx: Tx, vos: Sequence[str], users: Sequence[WantedUser], groups: Sequence[WantedGroup]) -> None:
    """Bring VOs, users and groups in line with the operations data. What is no longer there is retired, not deleted."""
    await store.sync_vos(tx, vos)
    await store.sync_users(tx, users)
    await store.sync_groups(tx, groups)


def _tokens(keys: KeyRing, issuer: str, member: Member, refresh: str, asked: str) -> Tokens:
    allowed = frozenset(scope.value for scope in scopes_of(member.properties))
    scopes = rules.narrowed_scopes(asked, allowed)
    if scopes is None:
        raise ScopeRefused(
            f"Group {member.group!r} gives {' '.join(sorted(allowed))}; no other scope can be asked for."
        )
    return Tokens(
        access_token=mint_access_token(keys, issuer, member, scopes),
        token_type="Bearer",  # noqa: S106  The name of a kind, not a secret.
        expires_in=ACCESS_TOKEN_LIFETIME_S,
        refresh_token=refresh,
        scope=" ".join(sorted(scopes)),
    )


def _successor(keys: KeyRing, token: str) -> str:
    return _REFRESH_PREFIX + urlsafe_b64encode(keys.refresh_successor(token)).rstrip(b"=").decode()


def _hash(token: str) -> bytes:
    """A plain hash is enough for 256 random bits, which no dictionary holds."""
    return hashlib.sha256(token.encode()).digest()
