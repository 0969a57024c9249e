"""JWTs of providers: who signed, how, for whom, until when. joserfc checks the signature; everything else is here."""

import binascii
import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import msgspec
from joserfc import jws
from joserfc.errors import JoseError

from spinor.errors import Denied
from spinor.identity.federation.provider import Upstream

LEEWAY_S = 60
_LONGEST = 64 * 1024
_HASHES = {"256": hashlib.sha256, "384": hashlib.sha384, "512": hashlib.sha512}
# Asymmetric only, so that nobody can take a public key for a shared secret.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
_OWN_KEYS = frozenset({"jku", "jwk", "x5u", "x5c", "crit"})


class SignInRefused(Denied):
    """The provider's answer does not prove who you are; begin again at the login page."""

    code = "sign-in-refused"


async def read_jwt(upstream: Upstream, token: str, now: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a JWT that this provider signed, for whomever, and that is in force now."""
    header = _header(token)
    if header.get("alg") not in ALGORITHMS:
        raise SignInRefused("A token of the provider is not signed, or in a way that is not accepted.")
    if not _OWN_KEYS.isdisjoint(header):
        raise SignInRefused("A token of the provider brings a key of its own, or asks for extensions.")
    kid = header.get("kid", "")
    key = await upstream.key(kid) if isinstance(kid, str) else None
    if key is None:
        raise SignInRefused("A token of the provider is signed with a key that it does not publish.")
    named = key.alg if isinstance(key.alg, str) else None
    if named is not None and named != header["alg"]:
        raise SignInRefused("A token of the provider is signed in a way that its key is not for.")
    try:
        payload = jws.deserialize_compact(token, key, algorithms=[header["alg"]]).payload
        claims = msgspec.json.decode(payload)
    except (JoseError, ValueError, TypeError, msgspec.DecodeError):
        raise SignInRefused("A token of the provider was changed after it was signed.") from None
    if not isinstance(claims, dict):
        raise SignInRefused("A token of the provider says nothing.")
    _check_times(claims, now)
    if claims.get("iss") != upstream.provider.issuer:
        raise SignInRefused("A token of the provider is from another issuer.")
    sub = claims.get("sub")
    if not isinstance(sub, str) or not 0 < len(sub) <= 255:
        raise SignInRefused("A token of the provider does not say who it is about.")
    return header, claims


def _header(token: str) -> dict[str, Any]:
    if len(token) > _LONGEST:
        raise SignInRefused("A token of the provider is too long.")
    parts = token.split(".")
    try:
        header = msgspec.json.decode(urlsafe_b64decode(parts[0] + "=" * (-len(parts[0]) % 4)))
    except (ValueError, binascii.Error, msgspec.DecodeError):
        header = None
    if len(parts) != 3 or not isinstance(header, dict):
        raise SignInRefused("A token of the provider is no signed JWT.")
    return header


def _check_times(claims: dict[str, Any], now: float) -> None:
    expires_at, issued_at, begins_at = (claims.get(name, 0) for name in ("exp", "iat", "nbf"))
    if any(isinstance(each, bool) or not isinstance(each, int | float) for each in (expires_at, issued_at, begins_at)):
        raise SignInRefused("A token of the provider has a time that is no number.")
    if not expires_at > now - LEEWAY_S:
        raise SignInRefused("A token of the provider has expired, or does not say when it does; compare the clocks.")
    if not max(issued_at, begins_at) < now + LEEWAY_S:
        raise SignInRefused("A token of the provider is from the future; compare the clocks.")


async def read_id_token(upstream: Upstream, token: str, *, nonce: str, access_token: str, now: float) -> dict[str, Any]:
    """The claims of an ID token that is the answer to our own question (OpenID Connect Core 3.1.3.7)."""
    header, claims = await read_jwt(upstream, token, now)
    client_id = upstream.provider.client_id
    audience = claims.get("aud")
    meant_for = audience if isinstance(audience, list) else [audience]
    if client_id not in meant_for:
        raise SignInRefused("The provider's ID token is meant for another client.")
    if claims.get("azp", client_id) != client_id or (len(meant_for) > 1 and "azp" not in claims):
        raise SignInRefused("The provider's ID token was given to another client.")
    if "iat" not in claims:
        raise SignInRefused("The provider's ID token does not say when it was made.")
    if claims.get("typ", "ID") not in ("ID", "JWT"):
        raise SignInRefused("The provider's ID token is a token of another kind.")
    said = claims.get("nonce")
    if not isinstance(said, str) or not hmac.compare_digest(said.encode(), nonce.encode()):
        raise SignInRefused("The provider's ID token is not the answer to this sign-in; begin again at the login page.")
    if "at_hash" in claims and claims["at_hash"] != _half_hash(str(header["alg"]), access_token):
        raise SignInRefused("The provider's ID token belongs to another access token.")
    return claims


def _half_hash(algorithm: str, token: str) -> str:
    """Half of the token's hash, as OpenID Connect Core 3.1.3.6 has it. EdDSA over Ed25519 hashes with SHA-512."""
    digest = _HASHES.get(algorithm[-3:], hashlib.sha512)(token.encode("ascii", "replace")).digest()
    return urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
