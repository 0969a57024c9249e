"""A token for another one (RFC 8693): our own for less of it, or an allowed provider's for ours.

Never more than the subject token gives, never for longer than one of ours, and whoever acts for somebody else stands in
the new token (`act`).
"""

import time
from typing import Any

from spinor.identity import jose, rules, service, tokens
from spinor.identity.federation import service as federation
from spinor.identity.models import Tokens
from spinor.identity.oauth import capabilities
from spinor.identity.oauth.clients import GrantNotForClient, OAuthClient
from spinor.identity.oauth.endpoint import Asking, BadForm
from spinor.identity.oauth.registry.models import ClientKind

ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105  The name of a kind.
MOST_ACTORS = 4
_ID_TOKEN_CLAIMS = frozenset({"at_hash", "c_hash", "s_hash"})
_NO_ACCESS_TOKENS = ("id", "refresh", "offline", "logout")  # `typ` claims of Keycloak's other tokens.


class SubjectTokenRefused(BadForm):
    """The subject token cannot be exchanged."""

    code = "subject-token-refused"


class TargetRefused(BadForm):
    """The new token cannot be for that service."""

    code = "target-refused"
    oauth_error = "invalid_target"


async def give_tokens(asking: Asking) -> Tokens:
    """An access token, and no refresh token: whoever has the subject token can ask again."""
    token, issuer = _subject_token(asking)
    target = _target(asking)
    if issuer == asking.issuer:
        return await _from_our_own(asking, token, target)
    if target != asking.issuer:
        raise TargetRefused(f"A token of {issuer} gives tokens for {asking.issuer} only; exchange those for others.")
    return await _from_a_provider(asking, token, issuer)


def _subject_token(asking: Asking) -> tuple[str, str]:
    """The subject token, and who is said to have issued it."""
    form = asking.form
    kind, wanted = asking.needed("subject_token_type"), form.get("requested_token_type", ACCESS_TOKEN)
    if kind != ACCESS_TOKEN:
        raise SubjectTokenRefused(f"Only access tokens are exchanged here: subject_token_type must be {ACCESS_TOKEN}.")
    if wanted != ACCESS_TOKEN:
        raise BadForm(f"Only access tokens are given here: requested_token_type must be {ACCESS_TOKEN}, or absent.")
    if "actor_token" in form or "actor_token_type" in form:
        raise BadForm("There are no actor tokens here; the client that asks is the actor.")
    token, said = asking.needed("subject_token"), form.get("subject_issuer", "")
    try:
        claims = jose.claims_of(token)
    except jose.BadJWT:
        if not said or said == asking.issuer:
            raise SubjectTokenRefused("The subject token is no JWT; say whose it is with subject_issuer.") from None
        return token, said
    kind = str(claims.get("typ", "")).lower()
    if not _ID_TOKEN_CLAIMS.isdisjoint(claims) or kind in _NO_ACCESS_TOKENS:
        raise SubjectTokenRefused("The subject token is no access token, whatever its type was said to be.")
    issuer = claims.get("iss")
    if not isinstance(issuer, str) or said not in ("", issuer):
        raise SubjectTokenRefused("The subject token does not name the issuer that it was said to be from.")
    return token, issuer


def _target(asking: Asking) -> str:
    """The service that the new token is for."""
    named = {asking.form[name] for name in ("audience", "resource") if asking.form.get(name)}
    if len(named) > 1:
        raise TargetRefused("The audience and the resource are two services; a token is for one.")
    return named.pop() if named else asking.issuer


async def _from_our_own(asking: Asking, token: str, target: str) -> Tokens:
    try:
        claims = tokens.read_token(asking.keys, asking.issuer, token, time.time())
    except tokens.TokenRefused as error:
        raise SubjectTokenRefused(error.message) from None
    chain = _actors(claims, asking.client, asking.issuer)
    async with asking.db.transaction() as tx:
        try:
            caller = await tokens.caller_of_claims(tx, claims)
        except (tokens.TokenRefused, rules.MembershipEnded, rules.SessionEnded, rules.Suspended) as error:
            raise SubjectTokenRefused(error.message) from None
        if target != asking.issuer:
            given = await capabilities.give(
                tx,
                asking.state,
                caller,
                capabilities.WantedToken(audience=target, scope=asking.wish.scope),
                client_id=asking.client.client_id,
                origin=asking.origin,
            )
        else:
            given = await service.narrowed_token(
                tx, asking.keys, asking.issuer, (claims, caller), (asking.wish.scope, chain),
                client_id=asking.client.client_id, origin=asking.origin,
            )  # fmt: skip
    return _as_exchanged(given)


async def _from_a_provider(asking: Asking, token: str, issuer: str) -> Tokens:
    allowed = asking.client.exchange_from
    if allowed is not None and issuer not in allowed:
        raise GrantNotForClient(f"This client may not exchange tokens of {issuer[:200]!r}.")
    proven = await federation.proven_by_token(asking.db, asking.state, issuer, token)
    async with asking.db.transaction() as tx:
        given = await service.sign_in_once(
            tx, asking.keys, asking.issuer, proven, asking.wish, client_id=asking.client.client_id, origin=asking.origin
        )
    return _as_exchanged(given)


def _as_exchanged(given: Tokens) -> Tokens:
    return Tokens(
        access_token=given.access_token,
        token_type=given.token_type,
        expires_in=given.expires_in,
        scope=given.scope,
        issued_token_type=ACCESS_TOKEN,
    )


def _actors(claims: tokens.Claims, client: OAuthClient, issuer: str) -> dict[str, Any] | None:
    """Who acts for the subject of the new token; SubjectTokenRefused when this client may not.

    A client may exchange what was issued to it, and a service may what users hand to it if it is let (exchange_from).
    """
    if claims.may_act is not None and claims.may_act.get("sub") != client.client_id:
        raise SubjectTokenRefused("The subject token lets another client exchange it (may_act), and not this one.")
    is_own = claims.client_id == client.client_id
    if not is_own and issuer not in (client.exchange_from or ()):
        raise SubjectTokenRefused("The subject token was issued to another client.")
    if client.kind is ClientKind.PUBLIC or (is_own and not _depth(claims.act)):
        return claims.act
    if claims.act is not None and claims.act.get("sub") == client.client_id:
        return claims.act
    if _depth(claims.act) >= MOST_ACTORS:
        raise SubjectTokenRefused(f"The subject token was handed on {MOST_ACTORS} times; it goes no further.")
    chain: dict[str, Any] = {"sub": client.client_id}
    return chain if claims.act is None else {**chain, "act": claims.act}


def _depth(act: Any) -> int:
    depth = 0
    while isinstance(act, dict):
        depth, act = depth + 1, act.get("act")
    return depth
