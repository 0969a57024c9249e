"""ID tokens: they tell a program who has signed in, and open nothing (OpenID Connect Core section 2)."""

import time
from typing import Any

import msgspec
from joserfc import jws

from spinor.identity.keys import KeyRing

LIFETIME_S = 300
ALGORITHM = "RS256"  # What every OpenID client must understand.


def make_id_token(
    keys: KeyRing, issuer: str, client_id: str, claims: dict[str, Any], *, now: float | None = None
) -> str:
    """Sign an ID token for one client. Its type is another than an access token's, so that neither passes for both."""
    issued_at = int(time.time() if now is None else now)
    every = {"iss": issuer, "aud": client_id, "iat": issued_at, "exp": issued_at + LIFETIME_S}
    key = keys.signer_with(ALGORITHM)
    header = {"alg": key.algorithm, "typ": "JWT", "kid": key.kid}
    return jws.serialize_compact(header, msgspec.json.encode({**claims, **every}), key.key, algorithms=[key.algorithm])
