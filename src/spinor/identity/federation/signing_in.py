"""A sign-in at a provider: from the address that the browser is sent to, to the person that its answer proves.

What has to be remembered meanwhile stands sealed in a cookie of the browser that began, so that an answer counts only
there, and nobody can fill our tables by beginning. Each sign-in has a cookie of its own, so that two tabs can sign in.
"""

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import msgspec

from spinor.db import Tx
from spinor.identity import service as identity
from spinor.identity.federation import rules
from spinor.identity.federation.jwts import SignInRefused, read_id_token
from spinor.identity.federation.models import Account, Provider, Visitor
from spinor.identity.federation.provider import Answered, ProviderRefuses, Upstream
from spinor.identity.sealing import Seal, SealBroken

UNDER_WAY_S = 600
_COOKIE = "__Host-spinor-at-"
_LONGEST_COOKIE = 4000
_SEALED = "sign-in under way"
_MOST_SUBJECT = 255


class UnderWay(msgspec.Struct, frozen=True, kw_only=True):
    """A sign-in that was begun. `linking` is the user who adds this login to their account; empty: a sign-in."""

    provider: str
    state: str
    nonce: str
    verifier: str
    next: str
    expires_at: float
    linking: str = ""


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """Where the browser goes, and what it is to remember."""

    address: str
    cookie: str
    value: str


def callback_address(url: str, provider: Provider) -> str:
    """Each provider answers at an address of its own, so that none can pass off its answer as another's."""
    return f"{url}/login/{provider.name}/callback"


async def begin(upstream: Upstream, seal: Seal, url: str, *, next_path: str, now: float, linking: str = "") -> Begun:
    """A new sign-in. ProviderUnavailable when the provider cannot be asked where it wants people."""
    provider = upstream.provider
    metadata = await upstream.metadata()
    verifier = secrets.token_urlsafe(48)
    under_way = UnderWay(
        provider=provider.name,
        state=secrets.token_urlsafe(32),
        nonce=secrets.token_urlsafe(32),
        verifier=verifier,
        next=next_path if len(next_path) <= 1500 else "/login",  # A cookie has its limits.
        expires_at=now + UNDER_WAY_S,
        linking=linking,
    )
    asked = {
        "response_type": "code",
        "client_id": provider.client_id,
        "redirect_uri": callback_address(url, provider),
        "scope": " ".join(provider.scopes),
        "state": under_way.state,
        "nonce": under_way.nonce,
        "code_challenge": _unpadded(hashlib.sha256(verifier.encode()).digest()),
        "code_challenge_method": "S256",
    }
    if "offline_access" in provider.scopes:
        asked["prompt"] = "consent"  # OpenID Connect Core 11: without it no refresh token need be given.
    mark = "&" if "?" in metadata.authorization_endpoint else "?"
    return Begun(
        address=f"{metadata.authorization_endpoint}{mark}{urlencode(asked)}",
        cookie=cookie_of(under_way.state),
        value=_unpadded(seal.close(msgspec.json.encode(under_way), _SEALED)),
    )


def cookie_of(state: str) -> str:
    return _COOKIE + hashlib.sha256(state.encode()).hexdigest()[:24]


def resume(
    seal: Seal, cookies: Mapping[str, str], query: Mapping[str, str], provider: Provider, now: float
) -> UnderWay:
    """The sign-in of this browser to which an answer belongs; SignInRefused when there is none."""
    state = query.get("state", "")
    sealed = cookies.get(cookie_of(state), "") if state else ""
    if not sealed or len(sealed) > _LONGEST_COOKIE:
        raise SignInRefused(
            "This answer belongs to no sign-in that was begun in this browser, or to one of more than ten minutes ago; "
            "begin again at the login page."
        )
    try:
        opened = seal.open(urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4)), _SEALED)
        under_way = msgspec.json.decode(opened, type=UnderWay)
    except (SealBroken, ValueError, msgspec.DecodeError):
        raise SignInRefused from None
    if not hmac.compare_digest(under_way.state.encode(), state.encode()) or under_way.provider != provider.name:
        raise SignInRefused("This answer belongs to a sign-in at another provider; begin again at the login page.")
    if now > under_way.expires_at:
        raise SignInRefused("This sign-in was begun more than ten minutes ago; begin again at the login page.")
    return under_way


async def spend(tx: Tx, under_way: UnderWay) -> None:
    """Take the sign-in as used: a second answer to it is refused, whatever it brings."""
    until = datetime.fromtimestamp(under_way.expires_at, UTC)
    if not await identity.spend(tx, f"{_SEALED} {under_way.state}".encode(), until):
        raise SignInRefused("This sign-in has had its answer already; begin again at the login page.")


async def finish(upstream: Upstream, url: str, under_way: UnderWay, query: Mapping[str, str], now: float) -> Visitor:
    """The person whom the provider's answer proves; SignInRefused says why it does not."""
    provider = upstream.provider
    metadata = await upstream.metadata()
    said = query.get("iss")
    if (said is None and metadata.authorization_response_iss_parameter_supported) or (
        said is not None and said != provider.issuer
    ):
        raise SignInRefused("This answer was made by another provider than the one that was asked.")
    if "error" in query:
        error = "".join(c for c in query["error"] if c.isascii() and c.isprintable())[:60]
        raise SignInRefused(f"{provider.title} did not sign you in ({error}).")
    code = query.get("code", "")
    if not code:
        raise SignInRefused("The provider's answer has no code; begin again at the login page.")
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": callback_address(url, provider),
        "code_verifier": under_way.verifier,
    }
    answered = await upstream.token(form)
    if not answered.id_token:
        raise SignInRefused("The provider gave no ID token; its client must be allowed the scope openid.")
    claims = await read_id_token(
        upstream, answered.id_token, nonce=under_way.nonce, access_token=answered.access_token, now=now
    )
    return await visitor_of(upstream, claims, answered)


async def visitor_of(upstream: Upstream, claims: Mapping[str, Any], answered: Answered) -> Visitor:
    """The person of verified claims, with what userinfo adds to them."""
    more = await upstream.userinfo(answered.access_token)
    if more and more.get("sub") != claims["sub"]:
        raise SignInRefused("The provider's userinfo is about somebody else than its token.")
    return read_visitor(upstream.provider, {**claims, **more}, answered.refresh_token)


def read_visitor(provider: Provider, claims: Mapping[str, Any], refresh_token: str = "") -> Visitor:
    """What the claims say about a person. An e-mail address is taken only when the provider has verified it."""
    subject = claims.get(provider.subject_claim)
    if not isinstance(subject, str) or not 0 < len(subject) <= _MOST_SUBJECT or not subject.isprintable():
        raise SignInRefused(
            f"{provider.title} does not say who you are: the claim {provider.subject_claim!r} is missing. Its "
            "administrators, or those of this service, have to look at it."
        )
    given, family = rules.line(claims.get("given_name")), rules.line(claims.get("family_name"))
    return Visitor(
        provider=provider.name,
        issuer=provider.issuer,
        subject=subject,
        sub=str(claims["sub"]),
        full_name=rules.line(claims.get("name")) or f"{given} {family}".strip(),
        email=rules.line(claims.get("email")) if claims.get("email_verified") is True else "",
        wanted_name=rules.wanted_name(provider, claims),
        facts=rules.facts_of(provider, claims),
        certificates=rules.certificates_of(claims) if provider.link_certificates else [],
        refresh_token=refresh_token,
    )


async def ask_again(upstream: Upstream, account: Account, refresh_token: str) -> Visitor:
    """The person as the provider knows them now, by the refresh token that it gave; ProviderRefuses when it ended."""
    answered = await upstream.token({"grant_type": "refresh_token", "refresh_token": refresh_token})
    claims = await upstream.userinfo(answered.access_token)
    if claims.get("sub") == account.sub:
        visitor = read_visitor(upstream.provider, claims, answered.refresh_token)
        if visitor.subject == account.subject:
            return visitor
    raise ProviderRefuses("The provider knows this person no longer, or by another name.")


def _unpadded(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()
