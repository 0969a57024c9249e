"""Tokens without a sign-in of a person: a service's own, one for a provider's token, and less of one that is there."""

import secrets
import time
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from spinor.access import Caller, scopes_of
from spinor.db import Tx
from spinor.identity import rules, store, tokens
from spinor.identity.keys import KeyRing
from spinor.identity.models import (
    ACCESS_TOKEN_LIFETIME_S,
    Issued,
    IssuedKind,
    Member,
    Origin,
    Proven,
    Session,
    SessionKind,
    Tokens,
    Wish,
)
from spinor.identity.service.sessions import GrantRefused, ScopeRefused, open_session, tokens_for


async def sign_in_service(
    tx: Tx,
    keys: KeyRing,
    issuer: str,
    role: tuple[str, str, str],
    scopes: tuple[str, Collection[str]],
    *,
    client_id: str,
    origin: Origin,
) -> Tokens:
    """An access token for a client in the role of its robot (user, VO, group), in a session of its own.

    `scopes` are what it asks for, and the most that it may have; none means what the group gives.
    """
    member = await store.find_member_by_names(tx, *role)
    if member is None:
        raise GrantRefused(rules.MembershipEnded().message)
    if member.suspended:
        raise GrantRefused(rules.Suspended().message)
    asked, most = scopes
    granted = _narrowed(member, asked, frozenset(most) or None)
    session = Session(
        member=member,
        client_id=client_id,
        kind=SessionKind.SERVICE,
        signed_in_by=f"client:{client_id}",
        origin=origin,
        scopes=granted,
    )
    await open_session(tx, session)
    return await tokens_for(tx, keys, issuer, session, granted)


async def sign_in_once(
    tx: Tx, keys: KeyRing, issuer: str, proven: Proven, wish: Wish, *, client_id: str, origin: Origin
) -> Tokens:
    """An access token for a proven user, without a refresh token: what proved it can be shown again."""
    member = rules.chosen_role(await store.list_members_of_user(tx, proven.user), wish.vo, wish.group)
    granted = _narrowed(member, wish.scope)
    session = Session(
        member=member, client_id=client_id, signed_in_by=proven.signed_in_by, origin=origin, scopes=granted
    )
    await open_session(tx, session)
    return await tokens_for(tx, keys, issuer, session, granted)


async def narrowed_token(
    tx: Tx,
    keys: KeyRing,
    issuer: str,
    subject: tuple[tokens.Claims, Caller],
    wanted: tuple[str, dict[str, Any] | None],
    *,
    client_id: str,
    origin: Origin,
) -> Tokens:
    """Less of a token, in its session and not for longer. `wanted` are the scopes, and who acts for whom."""
    claims, caller = subject
    if caller.pilot_id is not None:
        raise GrantRefused("A pilot's token cannot be exchanged.")
    asked, act = wanted
    granted = rules.narrowed_scopes(asked, caller.scopes)
    if granted is None:
        raise ScopeRefused(f"The subject token gives {' '.join(sorted(caller.scopes))}; no other scope can be had.")
    now = time.time()
    lifetime_s = int(min(ACCESS_TOKEN_LIFETIME_S, claims.exp - now))
    if lifetime_s <= 0:
        raise GrantRefused("The subject token has expired.")
    jti = secrets.token_urlsafe(16)
    said: dict[str, Any] = {
        "jti": jti,
        "sub": claims.sub,
        "sid": claims.sid,
        "client_id": client_id,
        "vo": claims.vo,
        "group": claims.group,
        "scope": " ".join(sorted(granted)),
    }
    said |= {name: value for name, value in (("auth_time", int(claims.auth_time)), ("act", act)) if value}
    await store.insert_issued(
        tx,
        Issued(
            kind=IssuedKind.ACCESS_TOKEN,
            vo_id=caller.vo_id,
            user_id=caller.user_id,
            session_id=caller.session_id,
            client_id=client_id,
            name=jti,
            audience=[issuer],
            scopes=sorted(granted),
            expires_at=datetime.fromtimestamp(int(now) + lifetime_s, UTC),
            address=origin.address,
            facts={"exchanged": claims.jti, **({"act": act} if act else {})},
        ),
    )
    return Tokens(
        access_token=tokens.mint(keys, issuer, said, lifetime_s=lifetime_s, now=now),
        token_type="Bearer",  # noqa: S106  The name of a kind, not a secret.
        expires_in=lifetime_s,
        scope=said["scope"],
    )


def _narrowed(member: Member, asked: str, most: frozenset[str] | None = None) -> frozenset[str]:
    allowed = frozenset(scope.value for scope in scopes_of(member.properties))
    allowed = allowed if most is None else allowed & most
    scopes = rules.narrowed_scopes(asked, allowed)
    if scopes is None:
        raise ScopeRefused(f"This role gives {' '.join(sorted(allowed))}; no other scope can be asked for.")
    return scopes
