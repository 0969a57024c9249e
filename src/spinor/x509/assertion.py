"""Signing in with a certificate or proxy, without mutual TLS: a JWT (RFC 7523) signed by its key, the chain in `x5c`.

The key in the header is trusted only as far as the chain that carries it is; replay is for the server to notice, by the
assertion's identifier.
"""

import base64
import binascii
import secrets
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from spinor.x509.chain import LONGEST_CHAIN, VerifiedChain, key_weakness, verify_chain
from spinor.x509.dn import named, slash_dn
from spinor.x509.proxy import Credential
from spinor.x509.proxy_rules import proxy_info
from spinor.x509.refusals import MALFORMED, ChainWeakKey, CredentialRefused
from spinor.x509.trust import CRLPolicy, TrustStore

TYPE = "spinor-x509+jwt"
LIFETIME_S = 60
SKEW_S = 60
LONGEST_ASSERTION = 128 * 1024
_CURVE_ALGORITHMS = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_RSA_ALGORITHMS = ("RS256", "PS256")


class AssertionRefused(CredentialRefused):
    """The signed assertion does not hold."""

    code = "assertion-refused"


class AssertionMalformed(AssertionRefused):
    """The assertion is not a JWT of the kind that `make_assertion` writes."""

    code = "assertion-malformed"


class AssertionWrongType(AssertionRefused):
    """This is a token of another kind; its `typ` must be spinor-x509+jwt."""

    code = "assertion-wrong-type"


class AssertionWrongAlgorithm(AssertionRefused):
    """The assertion is signed in a way that its key is not for."""

    code = "assertion-wrong-algorithm"


class AssertionSignature(AssertionRefused):
    """The assertion is not signed by the key of its first certificate."""

    code = "assertion-signature"


class AssertionAudience(AssertionRefused):
    """The assertion is meant for another service."""

    code = "assertion-wrong-audience"


class AssertionSubject(AssertionRefused):
    """The assertion names another subject than its certificate."""

    code = "assertion-wrong-subject"


class AssertionExpired(AssertionRefused):
    """The assertion has expired; if it is new, compare the clocks of this machine and of the server."""

    code = "assertion-expired"


class AssertionNotYetValid(AssertionRefused):
    """The assertion is from the future; compare the clocks of this machine and of the server."""

    code = "assertion-not-yet-valid"


class AssertionTooLong(AssertionRefused):
    """The assertion is valid for longer than a minute."""

    code = "assertion-too-long"


class Assertion(NamedTuple):
    """An assertion that holds; its `jti` must not be seen twice before `exp`."""

    chain: VerifiedChain
    jti: str
    exp: datetime  # With the tolerated skew added: until then a second one is a replay.
    leaf: x509.Certificate


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that a header may say; `crit`, `jwk`, `kid` and the like are refused by name."""

    alg: str
    typ: str
    x5c: list[str]


class _Claims(msgspec.Struct, frozen=True):
    iss: str
    sub: str
    aud: str | list[str]
    exp: float
    iat: float
    jti: str


class _Registry(jws.JWSRegistry):
    max_header_length = LONGEST_ASSERTION


_decode_header = msgspec.json.Decoder(_Header).decode
_decode_claims = msgspec.json.Decoder(_Claims).decode


def make_assertion(credential: Credential, *, audience: str, now: datetime) -> str:
    """An assertion for the service `audience`, good for one minute and one use."""
    algorithm, key = _signing_key(credential)
    issued_at = int(now.timestamp())
    subject = slash_dn(_end_entity_subject(credential))
    header = {
        "alg": algorithm,
        "typ": TYPE,
        "x5c": [base64.b64encode(each.public_bytes(Encoding.DER)).decode() for each in credential.chain],
    }
    claims = {
        "iss": subject,
        "sub": subject,
        "aud": audience,
        "iat": issued_at,
        "exp": issued_at + LIFETIME_S,
        "jti": secrets.token_urlsafe(24),
    }
    registry = _Registry(algorithms=[algorithm])
    return jws.serialize_compact(header, msgspec.json.encode(claims), key, registry=registry)


def read_assertion(
    token: str, *, audience: str, trust: TrustStore, now: datetime, crl: CRLPolicy = CRLPolicy.IF_PRESENT
) -> Assertion:
    """What an assertion proves; otherwise the refusal that names the broken rule, of the assertion or of its chain."""
    if len(token) > LONGEST_ASSERTION:
        raise AssertionMalformed(f"The assertion is longer than {LONGEST_ASSERTION} characters.")
    header = _header_of(token)
    chain = _chain_of(header)
    claims = _verified_claims(token, header, chain[0])
    if audience not in ([claims.aud] if isinstance(claims.aud, str) else claims.aud):
        raise AssertionAudience(f"The assertion is not meant for {audience}; its `aud` must be exactly that.")
    _check_times(claims, now.timestamp())
    if not 16 <= len(claims.jti) <= 128:
        raise AssertionMalformed("The assertion's `jti` must have 16 to 128 characters.")
    verified = verify_chain(chain, trust, now, crl)
    if claims.iss != verified.subject_dn or claims.sub != verified.subject_dn:
        raise AssertionSubject(f"The assertion's `iss` and `sub` must both be {verified.subject_dn}.")
    return Assertion(verified, claims.jti, datetime.fromtimestamp(claims.exp + SKEW_S, UTC), verified.leaf)


def _end_entity_subject(credential: Credential) -> x509.Name:
    for certificate in credential.chain:
        if proxy_info(certificate) is None:
            return certificate.subject
    return credential.chain[-1].issuer


def _signing_key(credential: Credential) -> tuple[str, RSAKey | ECKey]:
    match credential.key:
        case rsa.RSAPrivateKey():
            return "RS256", RSAKey.import_key(credential.key)
        case ec.EllipticCurvePrivateKey() if algorithm := _CURVE_ALGORITHMS.get(credential.key.curve.name):
            return algorithm, ECKey.import_key(credential.key)
    raise AssertionWrongAlgorithm(named(credential.leaf, "has a key that signs no assertions; use RSA or P-256"))


def _header_of(token: str) -> _Header:
    parts = token.split(".")
    if len(parts) != 3 or not token.isascii():
        raise AssertionMalformed("The assertion is not a signed JWT in compact form.")
    try:
        header = _decode_header(base64.urlsafe_b64decode(parts[0] + "=" * (-len(parts[0]) % 4)))
    except (ValueError, binascii.Error, msgspec.DecodeError) as error:
        raise AssertionMalformed(f"The assertion's header is not understood: {error}") from None
    if header.typ.lower() != TYPE:
        raise AssertionWrongType(f"This is a token of another kind; its `typ` must be {TYPE}.")
    return header


def _chain_of(header: _Header) -> list[x509.Certificate]:
    if not 1 <= len(header.x5c) <= LONGEST_CHAIN:
        raise AssertionMalformed(f"The assertion's `x5c` must have 1 to {LONGEST_CHAIN} certificates.")
    try:
        return [x509.load_der_x509_certificate(base64.b64decode(each, validate=True)) for each in header.x5c]
    except MALFORMED:
        raise AssertionMalformed("The assertion's `x5c` must be a list of certificates (DER) in base64.") from None


def _verified_claims(token: str, header: _Header, leaf: x509.Certificate) -> _Claims:
    """The claims, when the leaf's key has signed them in a way that suits this kind of key."""
    try:
        public_key = leaf.public_key()
    except MALFORMED:
        raise AssertionWrongAlgorithm("The first certificate's key is malformed or of an unknown kind.") from None
    if weakness := key_weakness(public_key):
        raise ChainWeakKey(named(leaf, f"has {weakness}"))
    key: RSAKey | ECKey
    allowed: tuple[str, ...]
    match public_key:
        case rsa.RSAPublicKey():
            allowed, key = _RSA_ALGORITHMS, RSAKey.import_key(public_key)
        case ec.EllipticCurvePublicKey() if curve := _CURVE_ALGORITHMS.get(public_key.curve.name):
            allowed, key = (curve,), ECKey.import_key(public_key)
        case _:
            raise AssertionWrongAlgorithm(named(leaf, "has a key that signs no assertions; use RSA or P-256"))
    if header.alg not in allowed:
        raise AssertionWrongAlgorithm(f"With this key the assertion's `alg` must be {' or '.join(allowed)}.")
    try:
        payload = jws.deserialize_compact(token, key, registry=_Registry(algorithms=[header.alg])).payload
    except (JoseError, ValueError, TypeError):
        raise AssertionSignature("The assertion is not signed by the key of its first certificate.") from None
    try:
        return _decode_claims(payload)
    except msgspec.DecodeError as error:
        raise AssertionMalformed(f"The assertion's claims are not understood: {error}") from None


def _check_times(claims: _Claims, now: float) -> None:
    hint = f"if it is new, the clocks of the two machines differ by more than {SKEW_S} s"
    if not claims.exp > now - SKEW_S:
        raise AssertionExpired(f"The assertion has expired; {hint}.")
    if not claims.iat < now + SKEW_S:
        raise AssertionNotYetValid(f"The assertion is from the future; {hint}.")
    if not 0 < claims.exp - claims.iat <= timedelta(seconds=LIFETIME_S).total_seconds():
        raise AssertionTooLong(f"The assertion may be valid for {LIFETIME_S} s at most (`exp` less `iat`).")
