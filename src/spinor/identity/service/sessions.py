"""Sign-ins: a session, the tokens that it gives, and its end."""

import hashlib
import secrets
import time
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from spinor.access import Caller, scopes_of
from spinor.db import Tx
from spinor.errors import SpinorError
from spinor.identity import rules, store, tokens
from spinor.identity.keys import KeyRing
from spinor.identity.models import (
    ACCESS_TOKEN_LIFETIME_S,
    REFRESH_GRACE_S,
    REFRESH_TOKEN_LIFETIME_S,
    Issued,
    IssuedKind,
    Member,
    Origin,
    Proven,
    RefreshState,
    Session,
    Tokens,
    Wish,
)
from spinor.identity.oauth.flows import store as flows
from spinor.identity.service.members import member_of
from spinor.signals import notify

REFRESH_PREFIX = "spinor_rt_"
CLI_CLIENT = "spinor-cli"


class GrantRefused(SpinorError):
    """The refresh token is not valid any more; run `spinor login`."""

    status, code = 400, "grant-refused"
    oauth_error = "invalid_grant"


class ScopeRefused(GrantRefused):
    """The scope asks for more than the group gives."""

    code = "scope-refused"
    oauth_error = "invalid_scope"


async def sign_in(
    tx: Tx,
    keys: KeyRing,
    issuer: str,
    proven: Proven,
    wish: Wish | None = None,
    *,
    client_id: str = CLI_CLIENT,
    origin: Origin | None = None,
    session_id: UUID | None = None,
) -> Tokens:
    """A new session with its first tokens, for a user whose identity is proven."""
    wish = wish or Wish()
    member = rules.chosen_role(await store.list_members_of_user(tx, proven.user), wish.vo, wish.group)
    scopes = _granted(member, wish.scope, proven.at_most)
    session = Session(
        member=member,
        client_id=client_id,
        session_id=session_id or uuid4(),
        signed_in_by=proven.signed_in_by,
        origin=origin or Origin(),
        scopes=scopes if wish.scope or proven.at_most is not None else None,
        auth_time=time.time(),
        ends_by=proven.ends_by,
    )
    await open_session(tx, session)
    refresh = REFRESH_PREFIX + secrets.token_urlsafe(32)
    await store.insert_refresh_token(tx, _hash(refresh), session.session_id, REFRESH_TOKEN_LIFETIME_S)
    return await tokens_for(tx, keys, issuer, session, scopes, refresh)


async def open_session(tx: Tx, session: Session) -> None:
    """A session without a token yet. A refresh token that it is given makes it live as long as that one."""
    await store.insert_session(tx, session, ACCESS_TOKEN_LIFETIME_S)


async def tokens_for(
    tx: Tx, keys: KeyRing, issuer: str, session: Session, scopes: frozenset[str], refresh: str = ""
) -> Tokens:
    """The answer of the token endpoint for a session, and its line in the audit log."""
    access, jti = mint_access_token(keys, issuer, session, scopes)
    await store.insert_issued(
        tx,
        Issued(
            kind=IssuedKind.ACCESS_TOKEN,
            vo_id=session.member.vo_id,
            user_id=session.member.user_id,
            session_id=session.session_id,
            client_id=session.client_id,
            name=jti,
            audience=[issuer],
            scopes=sorted(scopes),
            expires_at=datetime.now(UTC) + timedelta(seconds=ACCESS_TOKEN_LIFETIME_S),
            address=session.origin.address,
        ),
    )
    return Tokens(
        access_token=access,
        token_type="Bearer",  # noqa: S106  The name of a kind, not a secret.
        expires_in=ACCESS_TOKEN_LIFETIME_S,
        scope=" ".join(sorted(scopes)),
        refresh_token=refresh,
    )


async def refresh(
    tx: Tx,
    keys: KeyRing,
    issuer: str,
    token: str,
    *,
    client_id: str = "",
    scope: str = "",
    origin: Origin | None = None,
) -> Tokens | None:
    """New tokens for a refresh token, which is spent by this; within 30 seconds it gives the same successor again.

    None when it was spent before: its session has ended then, and the caller has to commit that although it refuses.
    """
    successor = _successor(keys, token)
    await store.lock_session_of_token(tx, _hash(token))
    row = await store.find_refresh_token(tx, _hash(token), _hash(successor), REFRESH_GRACE_S)
    if row is None or row.state is RefreshState.REVOKED or (client_id and client_id != row.client_id):
        raise GrantRefused
    if row.state is RefreshState.EXPIRED:
        raise GrantRefused("The refresh token has expired; run `spinor login`.")
    if row.state is RefreshState.SPENT:
        await end_session(tx, row.session_id, "reuse")
        return None
    member = await store.find_member_by_ids(tx, row.vo_id, row.user_id, row.group_id)
    if member is None:
        raise GrantRefused(rules.MembershipEnded().message)
    if member.suspended:
        raise GrantRefused(rules.Suspended().message)
    # What the sign-in was narrowed to stays the most that it gives, also when the group has got more since.
    scopes = _granted(member, scope, None if row.scopes is None else frozenset(row.scopes))
    if row.state is RefreshState.FRESH:
        await store.mark_refresh_token_used(tx, _hash(token))
        await store.insert_refresh_token(tx, _hash(successor), row.session_id, REFRESH_TOKEN_LIFETIME_S)
    session = Session(
        member=member,
        client_id=row.client_id,
        session_id=row.session_id,
        origin=origin or Origin(),
        auth_time=row.opened_at,
    )
    return await tokens_for(tx, keys, issuer, session, scopes, successor)


async def revoke(tx: Tx, token: str, *, client_id: str = "") -> bool:
    """End the session of a refresh token (RFC 7009); whether there was one. An unknown token is no error."""
    await store.lock_session_of_token(tx, _hash(token))
    found = await store.session_of_token(tx, _hash(token))
    if found is None or (client_id and client_id != found.client_id):
        return False
    return await end_session(tx, found.session_id, "user")


async def end_session(tx: Tx, session_id: UUID, ended_by: str) -> bool:
    """Take the session's tokens out of force, everywhere; whether it was open."""
    ended = await store.end_session(tx, session_id, ended_by)
    if ended:
        await notify(tx, tokens.CHANGED)
    return ended


async def note_issued(tx: Tx, *issued: Issued) -> None:
    """Write lines into the audit log, in the transaction in which the things are made."""
    await store.insert_issued(tx, *issued)


async def spend(tx: Tx, what: bytes, expires_at: datetime) -> bool:
    """Note that something that is good for one use was used; False when it was before. `what` is only hashed."""
    return await store.spend(tx, hashlib.sha256(what).digest(), expires_at)


async def holds(tx: Tx, keys: KeyRing, token: str) -> bool:
    """Whether a refresh token could be used now."""
    row = await store.find_refresh_token(tx, _hash(token), _hash(_successor(keys, token)), REFRESH_GRACE_S)
    return row is not None and row.state in (RefreshState.FRESH, RefreshState.IN_GRACE)


async def delete_expired(tx: Tx) -> int:
    """Delete what has expired and serves nobody; how many rows that were."""
    return await store.delete_expired(tx) + await flows.delete_expired(tx)


async def access_token_for(tx: Tx, keys: KeyRing, issuer: str, caller: Caller) -> str:
    """An access token with exactly this caller's role and scopes, in a session of its own."""
    member = await member_of(tx, caller.vo_id, caller.user_id, caller.group_id)
    session = Session(member=member, client_id=CLI_CLIENT, signed_in_by="service", scopes=caller.scopes)
    await open_session(tx, session)
    return (await tokens_for(tx, keys, issuer, session, caller.scopes)).access_token


def mint_access_token(keys: KeyRing, issuer: str, session: Session, scopes: frozenset[str]) -> tuple[str, str]:
    """An access token of 20 minutes for one role of a user, and its `jti`."""
    jti = secrets.token_urlsafe(16)
    claims: dict[str, Any] = {
        "jti": jti,
        "sub": str(session.member.subject),
        "sid": str(session.session_id),
        "client_id": session.client_id,
        "vo": session.member.vo,
        "group": session.member.group,
        "scope": " ".join(sorted(scopes)),
    }
    if session.auth_time:
        claims["auth_time"] = int(session.auth_time)
    return tokens.mint(keys, issuer, claims), jti


def _granted(member: Member, asked: str, most: frozenset[str] | None = None) -> frozenset[str]:
    """The scopes of a token, by what is asked, what the group gives, and what the sign-in was narrowed to."""
    allowed = frozenset(scope.value for scope in scopes_of(member.properties))
    allowed = allowed if most is None else allowed & most
    scopes = rules.narrowed_scopes(asked, allowed)
    if scopes is None:
        raise ScopeRefused(
            f"Group {member.group!r} gives {' '.join(sorted(allowed))}; no other scope can be asked for."
        )
    return scopes


def _successor(keys: KeyRing, token: str) -> str:
    return REFRESH_PREFIX + urlsafe_b64encode(keys.refresh_successor(token)).rstrip(b"=").decode()


def _hash(token: str) -> bytes:
    """A plain hash is enough for 256 random bits, which no dictionary holds."""
    return hashlib.sha256(token.encode()).digest()
