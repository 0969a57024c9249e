"""A provider's access token for a person of ours, for the exchange of tokens (RFC 8693)."""

import hashlib
from collections.abc import Mapping
from typing import Any

from spinor.db import Database
from spinor.errors import SpinorError
from spinor.http import State
from spinor.identity.federation import store
from spinor.identity.federation.jwts import SignInRefused, read_jwt
from spinor.identity.federation.models import Provider, Visitor
from spinor.identity.federation.provider import ProviderRefuses, Upstream, Upstreams
from spinor.identity.federation.service import people, providers
from spinor.identity.federation.signing_in import read_visitor
from spinor.identity.keys import KeyRing
from spinor.identity.models import Proven
from spinor.settings import Settings

_MOST_TOKENS = 20_000
_REMEMBERED_S = 600.0  # At most, so that who was removed there is not a member here for as long as a token lives.
_TYPES = ("at+jwt", "application/at+jwt", "jwt", "")
# What only ID tokens have, and what other tokens of Keycloak call themselves.
_OF_ID_TOKENS = frozenset({"nonce", "at_hash", "c_hash", "s_hash"})
_ANY_AUDIENCE = ("account", "https://wlcg.cern.ch/jwt/v1/any")


class ExchangeRefused(SpinorError):
    """This token cannot be exchanged here."""

    status, code = 400, "exchange-refused"
    oauth_error = "invalid_grant"


async def proven_by_token(db: Database, state: State, issuer: str, token: str, *, address: str = "") -> Proven:
    """The user whose access token of this issuer this is, with the memberships that they have now.

    ExchangeRefused unless the token is in force, an access token, and was given to a client of the provider's
    `exchange_clients`. Calls the provider, so not to be called in a transaction. ProviderUnavailable when that fails.
    """
    upstreams = state[Upstreams]
    digest = hashlib.sha256(f"{issuer} {token}".encode()).digest()
    async with db.transaction() as tx:
        known = {each.issuer: each for each in await providers.list_providers(tx)}
        provider = known.get(issuer)
        if provider is None or not provider.exchange_clients:
            raise ExchangeRefused("Tokens of this issuer are not exchanged here.")
        upstream = upstreams.of(provider)
        subject = _remembered(upstreams, digest, upstream)
        owner = await store.find_owner(tx, issuer, subject) if subject else None
    if owner is None or owner.retired or owner.banned:
        visitor, until = await _visitor_of_token(upstream, token, upstreams.clock(), state[Settings].url)
        proven = await _admitted(db, state, provider, visitor, address)
        if len(upstreams.tokens) >= _MOST_TOKENS:
            upstreams.tokens.clear()
        upstreams.tokens[digest] = (until, upstream, visitor.subject)
        user = proven.user
    else:
        user = owner.user
    return Proven(user=user, signed_in_by=f"exchange:{issuer}")


async def _admitted(db: Database, state: State, provider: Provider, visitor: Visitor, address: str) -> Proven:
    try:
        proven = await people.admit(db, state[KeyRing], provider, visitor, address=address)
    except people.NotAdmitted as error:
        raise ExchangeRefused(error.message) from None
    if proven is None:
        url = state[Settings].url
        raise ExchangeRefused(f"You are no member here yet; sign in at {url}/login once, and ask to be let in.")
    return proven


def _remembered(upstreams: Upstreams, digest: bytes, upstream: Upstream) -> str:
    """Whom a token was found to be about; not under another description of the provider than the present one."""
    until, of, subject = upstreams.tokens.get(digest, (0.0, None, ""))
    return subject if of is upstream and until > upstreams.clock() else ""


async def _visitor_of_token(upstream: Upstream, token: str, now: float, url: str) -> tuple[Visitor, float]:
    """Who the token is about, and how long that may be remembered."""
    try:
        examined = _claims_of_jwt if token.count(".") == 2 else _claims_of_opaque
        claims = await examined(upstream, token, now, url)
        visitor = read_visitor(upstream.provider, claims)
    except (SignInRefused, ProviderRefuses) as error:
        raise ExchangeRefused(error.message) from None
    expires_at = claims.get("exp")
    return visitor, min(now + _REMEMBERED_S, float(expires_at) if isinstance(expires_at, int | float) else now)


async def _claims_of_jwt(upstream: Upstream, token: str, now: float, url: str) -> dict[str, Any]:
    """The claims of an access token, and what userinfo adds to them where the token opens it."""
    header, claims = await read_jwt(upstream, token, now)
    if str(header.get("typ", "")).lower() not in _TYPES or not _OF_ID_TOKENS.isdisjoint(claims):
        raise ExchangeRefused("This is a token of another kind; an access token is needed.")
    if claims.get("typ", "Bearer") != "Bearer" or not {"scope", "client_id"} & claims.keys():
        raise ExchangeRefused("This is a token of another kind; an access token is needed.")
    _check_client(upstream.provider, claims)
    _check_audience(upstream.provider, claims, url)
    scope = claims.get("scope", "")
    if isinstance(scope, str) and "openid" in scope.split():
        return await _with_userinfo(upstream, token, claims)
    return claims


async def _claims_of_opaque(upstream: Upstream, token: str, _now: float, url: str) -> dict[str, Any]:
    """What the provider says about a token that only it can read."""
    if not 0 < len(token) <= 4096 or not token.isascii() or not token.isprintable():
        raise ExchangeRefused
    said = await upstream.introspect(token)
    if said.get("active") is not True or not isinstance(said.get("sub"), str):
        raise ExchangeRefused("The provider says that this token is not in force.")
    expires_at = said.get("exp", 0)
    if not isinstance(expires_at, int | float):
        raise ExchangeRefused
    if said.get("iss", upstream.provider.issuer) != upstream.provider.issuer:
        raise ExchangeRefused("This token is from another issuer.")
    if str(said.get("token_type", "Bearer")).lower() not in ("bearer", "access_token"):
        raise ExchangeRefused("This is a token of another kind; an access token is needed.")
    _check_client(upstream.provider, said)
    _check_audience(upstream.provider, said, url)
    return await _with_userinfo(upstream, token, said)


async def _with_userinfo(upstream: Upstream, token: str, claims: Mapping[str, Any]) -> dict[str, Any]:
    more = await upstream.userinfo(token)
    if more and more.get("sub") != claims["sub"]:
        raise ExchangeRefused("The provider's userinfo is about somebody else than the token.")
    certain = {name: claims[name] for name in ("iss", "sub", "exp") if name in claims}
    return {**claims, **more, **certain}


def _check_client(provider: Provider, claims: Mapping[str, Any]) -> None:
    """The client that the token was given to is one whose tokens are taken: not every token that a person has ever
    given to some service may act here for them."""
    named = [claims[name] for name in ("azp", "client_id") if name in claims]
    if not named or any(each != named[0] for each in named) or named[0] not in provider.exchange_clients:
        raise ExchangeRefused("Tokens that were given to this client are not exchanged here.")


def _check_audience(provider: Provider, claims: Mapping[str, Any], url: str) -> None:
    audience = claims.get("aud", [])
    meant_for = audience if isinstance(audience, list) else [audience]
    client = claims.get("azp", claims.get("client_id"))
    fitting = {url, provider.client_id, provider.issuer, client, *provider.exchange_audiences, *_ANY_AUDIENCE}
    if meant_for and not any(isinstance(each, str) and each in fitting for each in meant_for):
        raise ExchangeRefused("This token is meant for another service.")
