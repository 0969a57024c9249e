"""Access tokens: signed JWTs (RFC 9068, WLCG profile 1.3), and the one verifier of them.

The cryptography is joserfc's. What it leaves to its user is done here: the type, the key, the algorithm that this key
may be used with, and that every claim is there and true.
"""

import binascii
import re
import secrets
import time
from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import UUID

import msgspec
from joserfc import jws
from joserfc.errors import JoseError
from starlette.requests import Request

from spinor.access import Caller
from spinor.db import Database, Tx
from spinor.errors import NotSignedIn
from spinor.identity import rules, store
from spinor.identity.keys import PAYLOAD_ALGORITHM, SIGNING_ALGORITHMS, KeyRing, SigningKey
from spinor.identity.models import ACCESS_TOKEN_LIFETIME_S

__all__ = ["Claims", "KeyRing", "TokenRefused", "Verifier", "mint", "read_token"]

LONGEST_TOKEN = 8192
LEEWAY_S = 60
CACHED_S = 30.0
CHANGED = "identity"  # The topic that is signalled when somebody was suspended or a session ended.
CACHED_TOKENS = 20_000
WLCG_VERSION = "1.0"
_TYPES = ("at+jwt", "application/at+jwt")
_ALGORITHMS = (*SIGNING_ALGORITHMS, PAYLOAD_ALGORITHM)
_OWN_KEYS = frozenset({"jku", "jwk", "x5u", "x5c"})
PAYLOAD = "payload"  # What the subject of a payload's token begins with.
_PILOT = re.compile(r"pilot:([1-9][0-9]{0,17})")
_MISSING = re.compile(r"missing required field `([\w.]+)`")


class TokenRefused(NotSignedIn):
    """The access token is not valid; run `spinor login`."""

    code = "token-refused"

    def __init__(self, message: str | None = None, **facts: Any) -> None:
        super().__init__(message, error="invalid_token", **facts)


class TokenMissing(NotSignedIn):
    """This needs an access token (`Authorization: Bearer …`); run `spinor login`."""

    code = "token-missing"


class TokenMalformed(TokenRefused):
    """The access token is not a signed JWT; run `spinor login` for a new one."""

    code = "token-malformed"


class TokenTooLarge(TokenRefused):
    """The access token is longer than 8,192 characters; run `spinor login` for a new one."""

    code = "token-too-large"


class TokenWrongType(TokenRefused):
    """This is a token of another kind; an access token (`typ` at+jwt) is needed. Run `spinor login`."""

    code = "token-wrong-type"


class TokenUnknownKey(TokenRefused):
    """The access token is signed with a key that this service does not have; run `spinor login` for a new one."""

    code = "token-unknown-key"


class TokenWrongAlgorithm(TokenRefused):
    """The access token is signed in a way that its key is not for; run `spinor login` for a new one."""

    code = "token-wrong-algorithm"


class TokenBadSignature(TokenRefused):
    """The access token was changed after it was signed; run `spinor login` for a new one."""

    code = "token-bad-signature"


class TokenExpired(TokenRefused):
    """The access token has expired; run `spinor login`."""

    code = "token-expired"


class TokenNotYetValid(TokenRefused):
    """The access token is from the future; compare the clocks of this machine and of the server."""

    code = "token-not-yet-valid"


class TokenWrongIssuer(TokenRefused):
    """The access token was issued by another service; run `spinor login --server` with the address of this one."""

    code = "token-wrong-issuer"


class TokenWrongAudience(TokenRefused):
    """The access token is meant for another service; run `spinor login --server` with the address of this one."""

    code = "token-wrong-audience"


class TokenClaimMissing(TokenRefused):
    """The access token does not say all it must; run `spinor login` for a new one."""

    code = "token-claim-missing"


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What an access token says. Times in seconds since 1970; a claim without a default must be there."""

    iss: str
    aud: str | list[str]
    sub: str
    exp: float
    iat: float
    jti: str
    vo: str
    client_id: str
    group: str = ""
    sid: str = ""
    scope: str = ""
    nbf: float = 0
    auth_time: float = 0
    act: dict[str, Any] | None = None  # Who acts for the subject (RFC 8693 section 4.1).
    may_act: dict[str, Any] | None = None  # Who alone may take this token to an exchange.


_decode_claims = msgspec.json.Decoder(Claims).decode
_decode_header = msgspec.json.Decoder(dict[str, Any]).decode


def mint(
    keys: KeyRing,
    issuer: str,
    claims: dict[str, Any],
    *,
    lifetime_s: float = ACCESS_TOKEN_LIFETIME_S,
    now: float | None = None,
) -> str:
    """Sign an access token for this service that says `claims` beside what every token says.

    A payload's is signed with a secret key: nobody else reads it, and there is one for each attempt of a job.
    """
    issued_at = int(time.time() if now is None else now)
    every = {
        "iss": issuer,
        "aud": issuer,
        "iat": issued_at,
        "exp": issued_at + int(lifetime_s),
        "jti": secrets.token_urlsafe(16),
        "wlcg.ver": WLCG_VERSION,
    }
    key = keys.payload_signer if _is_of_payload(claims.get("sub", "")) else keys.signer
    header = {"alg": key.algorithm, "typ": "at+jwt", "kid": key.kid}
    return jws.serialize_compact(header, msgspec.json.encode({**every, **claims}), key.key, algorithms=[key.algorithm])


def read_token(keys: KeyRing, issuer: str, token: str, now: float) -> Claims:
    """The claims of a token that holds in every respect; otherwise the TokenRefused that says in which it does not."""
    key, payload = _verified(keys, token)
    claims = _claims_in(payload)
    if (key.algorithm == PAYLOAD_ALGORITHM) is not _is_of_payload(claims.sub):
        raise TokenWrongAlgorithm
    if claims.iss != issuer:
        raise TokenWrongIssuer
    if issuer not in ([claims.aud] if isinstance(claims.aud, str) else claims.aud):
        raise TokenWrongAudience
    if not claims.exp > now - LEEWAY_S:
        raise TokenExpired(
            f"The access token expired {now - claims.exp:.0f} s ago by the server's clock; run `spinor login`."
        )
    if not max(claims.iat, claims.nbf) < now + LEEWAY_S:
        raise TokenNotYetValid(
            f"The access token is from {max(claims.iat, claims.nbf) - now:.0f} s ahead of the server's clock, and "
            f"{LEEWAY_S} s are tolerated; set this machine's clock."
        )
    return claims


def verified_payload(keys: KeyRing, token: str) -> bytes:
    """What one of our keys has signed as an access token; what it says is not looked at."""
    return _verified(keys, token)[1]


def _verified(keys: KeyRing, token: str) -> tuple[SigningKey, bytes]:
    if len(token) > LONGEST_TOKEN:
        raise TokenTooLarge
    key = _key_for(keys, token)
    try:
        return key, jws.deserialize_compact(token, key.key, algorithms=[key.algorithm]).payload
    except (JoseError, ValueError):
        raise TokenBadSignature from None


def _is_of_payload(subject: str) -> bool:
    return subject.partition(":")[0] == PAYLOAD


def _key_for(keys: KeyRing, token: str) -> SigningKey:
    """The key that the header names, when everything the header says is what we write ourselves."""
    encoded, *rest = token.split(".")
    try:
        header = _decode_header(urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    except (ValueError, binascii.Error, msgspec.DecodeError):
        raise TokenMalformed from None
    if len(rest) != 2:
        raise TokenMalformed
    if "crit" in header:
        raise TokenMalformed("The access token asks for extensions (`crit`) that this service does not have.")
    if not _OWN_KEYS.isdisjoint(header):
        raise TokenMalformed("The access token brings or names a key of its own, which this service never uses.")
    if header.get("alg") not in _ALGORITHMS:
        raise TokenWrongAlgorithm
    if str(header.get("typ", "")).lower() not in _TYPES:
        raise TokenWrongType
    kid = header.get("kid")
    key = keys.find(kid) if isinstance(kid, str) else None
    if key is None:
        raise TokenUnknownKey
    if header["alg"] != key.algorithm:
        raise TokenWrongAlgorithm
    return key


def _claims_in(payload: bytes) -> Claims:
    try:
        claims = _decode_claims(payload)
    except msgspec.ValidationError as error:
        missing = _MISSING.search(str(error))
        if missing:
            raise TokenClaimMissing(f"The access token has no claim {missing[1]!r}; run `spinor login`.") from None
        raise TokenMalformed(f"A claim of the access token has the wrong type: {error}") from None
    except msgspec.DecodeError:
        raise TokenMalformed from None
    for name in ("sub", "jti", "vo"):
        if not getattr(claims, name):
            raise TokenClaimMissing(f"The claim {name!r} of the access token is empty; run `spinor login`.")
    return claims


Bearer = Callable[[Tx, Claims], Awaitable[Caller]]


class Verifier:
    """Turns a request into its caller. A verified token is remembered for half a minute at most, and
    only until a signal says that something ended."""

    def __init__(
        self,
        keys: KeyRing,
        issuer: str,
        db: Database,
        *,
        bearers: Mapping[str, Bearer] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`bearers` are who else than people may hold tokens: `pilot` finds the caller of the subject `pilot:17`."""
        self._keys = keys
        self._issuer = issuer
        self._db = db
        self._bearers = bearers or {}
        self._clock = clock
        self._remembered: dict[bytes, tuple[float, Caller]] = {}

    async def caller_of(self, request: Request) -> Caller:
        """The caller of this request; NotSignedIn with the reason when the token does not hold."""
        given: bytes | None = None
        for name, value in request.scope["headers"]:
            if name == b"authorization":
                if given is not None:
                    raise TokenMalformed("The request has two Authorization headers; send one.")
                given = value
        if given is None:
            raise TokenMissing
        known = self._remembered.get(given)
        if known is not None and known[0] > self._clock():
            return known[1]
        return await self._verified(given)

    async def _verified(self, given: bytes) -> Caller:
        kind, _, token = given.decode("latin-1").partition(" ")
        if kind.lower() != "bearer":
            raise TokenMissing
        now = self._clock()
        claims = read_token(self._keys, self._issuer, token.strip(), now)
        async with self._db.statements() as reads:
            caller = await self.caller_in(reads, claims)
        if caller.job_id is not None:
            return caller  # A payload's ends with its attempt, which nothing signals.
        if len(self._remembered) >= CACHED_TOKENS:
            self._forget(now)
        self._remembered[given] = (min(now + CACHED_S, claims.exp), caller)
        return caller

    async def caller_in(self, tx: Tx, claims: Claims) -> Caller:
        """The caller that verified claims name, as the tables know it now; NotSignedIn when they no longer do."""
        bearer = self._bearers.get(claims.sub.partition(":")[0])
        return await (bearer(tx, claims) if bearer else caller_of_claims(tx, claims))

    def forget_all(self) -> None:
        """Look at the tables again for every token: somebody was suspended, or a session ended."""
        self._remembered.clear()

    def _forget(self, now: float) -> None:
        """Drop what has run out, and when that is not enough everything: a token costs 0.2 ms to verify again."""
        self._remembered = {token: kept for token, kept in self._remembered.items() if kept[0] > now}
        if len(self._remembered) >= CACHED_TOKENS // 2:
            self._remembered.clear()


def _uuid(claim: str, value: str) -> UUID:
    try:
        return UUID(value)
    except ValueError:
        raise TokenMalformed(f"The claim {claim!r} of the access token names nothing of this service.") from None


def session_of(claims: Claims) -> UUID | None:
    """The session that a token of ours belongs to; a pilot's has none."""
    return _uuid("sid", claims.sid) if claims.sid else None


async def caller_of_claims(tx: Tx, claims: Claims) -> Caller:
    """The caller that verified claims name, as the tables know it now; MembershipEnded when they no longer do."""
    pilot = _PILOT.fullmatch(claims.sub)
    if pilot:
        vo_id = await store.find_vo_id(tx, claims.vo)
        if vo_id is None:
            raise rules.MembershipEnded
        return rules.pilot_caller(vo_id, claims.vo, int(pilot[1]))
    subject = _uuid("sub", claims.sub)
    session_id = _uuid("sid", claims.sid)
    member = await store.find_member_by_subject(tx, subject, claims.vo, claims.group, session_id)
    if member is None:
        raise rules.MembershipEnded
    if member.suspended:
        raise rules.Suspended
    if not member.session_open:
        raise rules.SessionEnded
    return rules.caller_from(member, frozenset(claims.scope.split()), session_id)
