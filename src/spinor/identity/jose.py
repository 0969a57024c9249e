"""Signed JWTs of others, read with the care that our own get: what the JOSE library leaves to its user (RFC 8725).

The cryptography is joserfc's. Which key verifies, and with which algorithm, is decided by the key and never by the
token; nothing that the token brings along is used as a key.
"""

import binascii
import json
from base64 import urlsafe_b64decode
from collections.abc import Sequence
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, RSAKey

LONGEST_JWT = 8192
_OWN_KEYS = frozenset({"jku", "jwk", "x5u", "x5c"})
_CURVES = {"P-256": "ES256"}
_SMALLEST_RSA_BITS = 2048


class BadJWT(ValueError):
    """The text says in which way a JWT does not hold; it never quotes the JWT."""


def header_of(token: str) -> dict[str, Any]:
    """The header of a compact JWS; BadJWT when it asks for anything that is never granted."""
    if len(token) > LONGEST_JWT:
        raise BadJWT(f"it is longer than {LONGEST_JWT} characters")
    parts = token.split(".")
    if len(parts) != 3 or not all(parts):
        raise BadJWT("it is not three parts with dots between them")
    header = _object(_decoded(parts[0]))
    if "crit" in header:
        raise BadJWT("it asks for extensions (crit)")
    if not _OWN_KEYS.isdisjoint(header):
        raise BadJWT("it brings or names a key of its own")
    return header


def claims_of(token: str) -> dict[str, Any]:
    """What a JWT says, before anything of it is verified: only to choose who verifies it."""
    header_of(token)
    return _object(_decoded(token.split(".")[1]))


def verified_claims(token: str, keys: Sequence[dict[str, Any]], *, types: Sequence[str]) -> dict[str, Any]:
    """What a JWT says that one of these public keys has signed; the times and names in it are the caller's to check.

    `types` are the values of `typ` that may be there, in small letters; "" stands for none at all.
    """
    header = header_of(token)
    if str(header.get("typ", "")).lower() not in types:
        raise BadJWT("its type (typ) is another one")
    algorithm = header.get("alg")
    for key in _fitting(keys, header.get("kid")):
        if algorithm != _algorithm(key):
            continue
        try:
            payload = jws.deserialize_compact(token, key, algorithms=[algorithm]).payload
        except (JoseError, ValueError):
            continue
        return _object(payload)
    raise BadJWT("none of the known keys has signed it")


def _fitting(keys: Sequence[dict[str, Any]], kid: Any) -> list[ECKey | RSAKey]:
    found = []
    for each in keys:
        if kid is not None and each.get("kid", kid) != kid:
            continue
        key = JWKRegistry.import_key(each)
        if isinstance(key, ECKey | RSAKey):
            found.append(key)
    return found


def _algorithm(key: ECKey | RSAKey) -> str:
    """The one algorithm that a key is for."""
    if isinstance(key, ECKey):
        return _CURVES.get(key.curve_name, "")
    return "RS256" if key.raw_value.key_size >= _SMALLEST_RSA_BITS else ""


def _decoded(part: str) -> bytes:
    try:
        return urlsafe_b64decode(part.encode("ascii") + b"=" * (-len(part) % 4))
    except (ValueError, binascii.Error):
        raise BadJWT("a part of it is not base64url") from None


def _object(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text, object_pairs_hook=_unique)
    except BadJWT:
        raise
    except (ValueError, RecursionError):
        raise BadJWT("a part of it is not JSON") from None
    if not isinstance(found, dict):
        raise BadJWT("a part of it is not a JSON object")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two readers of one text could take different ones of two equal names."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadJWT("a name is in it twice")
    return found
