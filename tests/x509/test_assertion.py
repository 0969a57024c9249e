"""Signing in by assertion: what is accepted, and each way of being refused."""

import base64
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, RSAKey

from spinor.x509.assertion import LONGEST_ASSERTION, TYPE, make_assertion, read_assertion
from spinor.x509.proxy import Credential, PrivateKey, issue_proxy, make_proxy
from spinor.x509.refusals import CredentialRefused
from spinor.x509.trust import TrustStore
from tests.x509.pki import NOW, Pki, curve_key, forged_proxy, rsa_key

AUDIENCE = "https://spinor.test"
HOUR = timedelta(hours=1)
ADA = "/DC=test/DC=grid/CN=Ada Lovelace"


class Registry(jws.JWSRegistry):
    max_header_length = 2**20


def x5c(credential: Credential) -> list[str]:
    return [base64.b64encode(each.public_bytes(Encoding.DER)).decode() for each in credential.chain]


def forged(credential: Credential, header: dict[str, Any] | None = None, *, key: Any = None, **claims: Any) -> str:
    """An assertion that is right but for what is asked for; a claim of None is left out."""
    at = int(NOW.timestamp())
    says = {"iss": ADA, "sub": ADA, "aud": AUDIENCE, "iat": at, "exp": at + 60, "jti": "0123456789abcdef"} | claims
    full = {"alg": "RS256", "typ": TYPE, "x5c": x5c(credential)} | (header or {})
    full = {name: value for name, value in full.items() if value is not None}
    says = {name: value for name, value in says.items() if value is not None}
    signer = key or RSAKey.import_key(credential.key)  # type: ignore[arg-type]
    registry = Registry(algorithms=[full["alg"]], strict_check_header=False)
    return jws.serialize_compact(full, msgspec.json.encode(says), signer, registry=registry)


def code(token: str, trust: TrustStore, now: datetime = NOW) -> str:
    try:
        read_assertion(token, audience=AUDIENCE, trust=trust, now=now)
    except CredentialRefused as error:
        return error.code
    return "accepted"


@pytest.fixture(scope="module")
def proxy(pki: Pki) -> Credential:
    return make_proxy(pki.ada, lifetime=HOUR, now=NOW)


def test_an_assertion_proves_the_key(pki: Pki, trust: TrustStore, proxy: Credential) -> None:
    token = make_assertion(proxy, audience=AUDIENCE, now=NOW)
    chain, jti, exp, leaf = read_assertion(token, audience=AUDIENCE, trust=trust, now=NOW)
    assert (chain.subject_dn, chain.leaf, leaf) == (ADA, proxy.leaf, proxy.leaf)
    assert exp == NOW + timedelta(seconds=120)
    assert len(jti) == 32
    assert jti not in make_assertion(proxy, audience=AUDIENCE, now=NOW)


KEYS: dict[str, PrivateKey] = {
    "RS256": rsa_key(41), "ES256": curve_key(41), "ES384": curve_key(41, ec.SECP384R1),
    "ES512": curve_key(41, ec.SECP521R1),
}  # fmt: skip


@pytest.mark.parametrize("algorithm", KEYS)
def test_every_kind_of_key_has_its_algorithm(algorithm: str, pki: Pki, trust: TrustStore) -> None:
    key = KEYS[algorithm]
    leaf = issue_proxy(pki.ada.chain, pki.ada.key, key.public_key(), lifetime=HOUR, now=NOW)
    token = make_assertion(Credential((leaf, *pki.ada.chain), key), audience=AUDIENCE, now=NOW)
    assert jws.extract_compact(token.encode(), registry=Registry()).headers()["alg"] == algorithm
    assert code(token, trust) == "accepted"


def test_a_certificate_signs_in_like_a_proxy(pki: Pki, trust: TrustStore) -> None:
    found = read_assertion(make_assertion(pki.ada, audience=AUDIENCE, now=NOW), audience=AUDIENCE, trust=trust, now=NOW)
    assert (found.chain.subject_dn, found.chain.proxy_depth) == (ADA, 0)


AT = int(NOW.timestamp())
OCT = OctKey.import_key(b"secret" * 8)
REFUSED: dict[str, tuple[str, Callable[[Credential], str]]] = {
    "as it should be": ("accepted", lambda proxy: forged(proxy)),
    "PS256": ("accepted", lambda proxy: forged(proxy, {"alg": "PS256"})),
    "several audiences": ("accepted", lambda proxy: forged(proxy, aud=["https://other.test", AUDIENCE])),
    "another audience": ("assertion-wrong-audience", lambda proxy: forged(proxy, aud="https://other.test")),
    "an audience that begins alike": ("assertion-wrong-audience", lambda proxy: forged(proxy, aud=AUDIENCE + "/")),
    "another type": ("assertion-wrong-type", lambda proxy: forged(proxy, {"typ": "JWT"})),
    "an access token": ("assertion-wrong-type", lambda proxy: forged(proxy, {"typ": "at+jwt"})),
    "no type": ("assertion-malformed", lambda proxy: forged(proxy, {"typ": None})),
    "no chain": ("assertion-malformed", lambda proxy: forged(proxy, {"x5c": None})),
    "an empty chain": ("assertion-malformed", lambda proxy: forged(proxy, {"x5c": []})),
    "too long a chain": ("assertion-malformed", lambda proxy: forged(proxy, {"x5c": ["AAAA"] * 21})),
    "a chain of nothing": ("assertion-malformed", lambda proxy: forged(proxy, {"x5c": ["AAAA"]})),
    "a key of its own": ("assertion-malformed", lambda proxy: forged(proxy, {"jwk": {"kty": "oct", "k": "AA"}})),
    "a key elsewhere": ("assertion-malformed", lambda proxy: forged(proxy, {"x5u": "https://evil.test"})),
    "HS256": ("assertion-wrong-algorithm", lambda proxy: forged(proxy, {"alg": "HS256"}, key=OCT)),
    "the algorithm of another kind of key": (
        "assertion-wrong-algorithm", lambda proxy: forged(proxy, {"alg": "ES256"}, key=ECKey.import_key(curve_key()))
    ),
    "RS512": ("assertion-wrong-algorithm", lambda proxy: forged(proxy, {"alg": "RS512"})),
    "signed by another key": (
        "assertion-signature", lambda proxy: forged(proxy, key=RSAKey.import_key(rsa_key(22)))
    ),
    "signed by the issuer's key": (
        "assertion-signature", lambda proxy: forged(proxy, key=RSAKey.import_key(rsa_key(21)))
    ),
    "another's name": ("assertion-wrong-subject", lambda proxy: forged(proxy, sub="/DC=test/DC=grid/CN=Alan Turing")),
    "another issuer": ("assertion-wrong-subject", lambda proxy: forged(proxy, iss="https://spinor.test")),
    "no subject": ("assertion-malformed", lambda proxy: forged(proxy, sub=None)),
    "no identifier": ("assertion-malformed", lambda proxy: forged(proxy, jti=None)),
    "a short identifier": ("assertion-malformed", lambda proxy: forged(proxy, jti="1")),
    "a long identifier": ("assertion-malformed", lambda proxy: forged(proxy, jti="1" * 129)),
    "no end": ("assertion-malformed", lambda proxy: forged(proxy, exp=None)),
    "no beginning": ("assertion-malformed", lambda proxy: forged(proxy, iat=None)),
    "times as text": ("assertion-malformed", lambda proxy: forged(proxy, exp=str(AT + 60))),
    "good for an hour": ("assertion-too-long", lambda proxy: forged(proxy, exp=AT + 3600)),
    "ends before it begins": ("assertion-too-long", lambda proxy: forged(proxy, exp=AT - 10)),
    "59 s too old": ("accepted", lambda proxy: forged(proxy, iat=AT - 119, exp=AT - 59)),
    "60 s too old": ("assertion-expired", lambda proxy: forged(proxy, iat=AT - 120, exp=AT - 60)),
    "59 s too early": ("accepted", lambda proxy: forged(proxy, iat=AT + 59, exp=AT + 60)),
    "60 s too early": ("assertion-not-yet-valid", lambda proxy: forged(proxy, iat=AT + 60, exp=AT + 70)),
    "a chain that does not hold": (
        "proxy-limit-dropped",
        lambda proxy: forged(forged_proxy(forged_proxy(proxy, language="1.3.6.1.4.1.3536.1.1.1.9"), number=42)),
    ),
    "an expired chain": (
        "chain-expired", lambda proxy: forged(forged_proxy(proxy, end=NOW - timedelta(seconds=1)))
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_assertions(case: str, trust: TrustStore, proxy: Credential) -> None:
    expected, make = REFUSED[case]
    assert code(make(proxy), trust) == expected


def test_what_the_library_would_not_write(trust: TrustStore, proxy: Credential) -> None:
    token = make_assertion(proxy, audience=AUDIENCE, now=NOW)
    header, payload, signature = token.split(".")

    def with_header(**changes: Any) -> str:
        said = msgspec.json.decode(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4))) | changes
        return base64.urlsafe_b64encode(msgspec.json.encode(said)).decode().rstrip("=")

    assert code(f"{with_header(alg='none')}.{payload}.", trust) == "assertion-wrong-algorithm"
    assert code(f"{with_header(crit=['exp'])}.{payload}.{signature}", trust) == "assertion-malformed"
    assert code(f"{with_header(b64=False)}.{payload}.{signature}", trust) == "assertion-malformed"
    assert code(f"{with_header(kid='../../etc/passwd')}.{payload}.{signature}", trust) == "assertion-malformed"
    assert code(f"{with_header()}.{payload[:-4]}AAAA.{signature}", trust) == "assertion-signature"
    assert code(f"{header}.{payload}", trust) == "assertion-malformed"
    assert code(f"{header}.{payload}.{signature}.", trust) == "assertion-malformed"
    assert code("a" * (LONGEST_ASSERTION + 1), trust) == "assertion-malformed"


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_assertions_are_refused_and_nothing_else(pki: Pki, data: st.DataObject) -> None:
    trust = TrustStore(pki.certificates)
    token = make_assertion(pki.ada, audience=AUDIENCE, now=NOW)
    kind = data.draw(st.sampled_from(["replace", "cut", "text"]))
    if kind == "text":
        damaged = data.draw(st.text(max_size=200))
    elif kind == "cut":
        damaged = token[: data.draw(st.integers(0, len(token) - 1))]
    else:
        at = data.draw(st.integers(0, len(token) - 1))
        damaged = token[:at] + data.draw(st.characters()) + token[at + 1 :]
    # The last character of a base64 text has bits that count for nothing.
    if base_equal(damaged, token):
        return
    assert code(damaged, trust) != "accepted"


def base_equal(one: str, other: str) -> bool:
    def decoded(token: str) -> list[bytes] | None:
        try:
            return [base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in token.split(".")]
        except ValueError:
            return None

    return decoded(one) is not None and decoded(one) == decoded(other)
