"""Every rule of RFC 5280 that an end entity's chain can break, and the code that says which."""

import subprocess
from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from spinor.x509.chain import Purpose, verify_chain
from spinor.x509.refusals import CredentialRefused
from spinor.x509.trust import TrustStore
from tests.x509.pki import (
    DAY,
    NOW,
    Authority,
    Extension,
    Pki,
    ca_extensions,
    curve_key,
    name,
    root_authority,
    rsa_key,
    signed,
    user_extensions,
)
from tests.x509.verdict import ADA, PLAIN, UNKNOWN, Chain, code, openssl

HOUR = timedelta(hours=1)


def end_entity(
    pki: Pki, extensions: Sequence[Extension] | None = None, subject: x509.Name = ADA, **times: object
) -> Chain:
    key = rsa_key(21)
    own = user_extensions(key) if extensions is None else extensions
    return [pki.authority.sign(subject, key, own, **times), pki.authority.certificate]  # type: ignore[arg-type]


def weak_hash(pki: Pki, digest: str) -> Chain:
    """Today's libraries sign with no weak hash, but the program still does."""
    folder = pki.home / digest
    folder.mkdir(exist_ok=True)
    for stem, key in (("ca", pki.authority.key), ("user", rsa_key(21))):
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        (folder / f"{stem}.key").write_bytes(pem)
    (folder / "ca.pem").write_bytes(pki.authority.certificate.public_bytes(Encoding.PEM))
    words = ["openssl", "req", "-new", "-x509", "-CA", "ca.pem", "-CAkey", "ca.key", "-key", "user.key", f"-{digest}"]
    words += ["-subj", "/DC=test/DC=grid/CN=Ada Lovelace", "-addext", "basicConstraints=critical,CA:FALSE"]
    done = subprocess.run(words, cwd=folder, capture_output=True, check=True)
    return [x509.load_pem_x509_certificate(done.stdout), pki.authority.certificate]


def with_key(pki: Pki, key: object) -> Chain:
    return [pki.authority.sign(ADA, key, user_extensions(key)), pki.authority.certificate]  # type: ignore[arg-type]


def by_stranger(pki: Pki) -> Chain:
    """An authority that took the name of the real one."""
    key = rsa_key(5)
    subject = pki.authority.certificate.subject
    forger = signed(subject, key, pki.root.certificate.subject, key, ca_extensions(key))
    return [Authority(forger, key).sign(ADA, rsa_key(21), user_extensions(rsa_key(21))), forger]


def by_user(pki: Pki) -> Chain:
    """Ada plays authority for Alan."""
    ada = Authority(pki.ada.leaf, pki.ada.key)
    key = rsa_key(22)
    return [ada.sign(name("DC=test,DC=grid,CN=Alan"), key, user_extensions(key)), *pki.ada.chain]


def self_signed(pki: Pki) -> Chain:
    key = rsa_key(21)
    return [signed(ADA, key, ADA, key, user_extensions(key))]


def twice(pki: Pki) -> Chain:
    """The same extension twice; the library writes none such, so another one's number is changed."""
    extra = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.98"), b"\x05\x00")
    other = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.99"), b"\x05\x00")
    (leaf, *rest) = end_entity(pki, [(extra, False), (other, False)])
    der = leaf.public_bytes(Encoding.DER).replace(b"\x06\x03\x55\x1d\x63", b"\x06\x03\x55\x1d\x62")
    return [x509.load_der_x509_certificate(der), *rest]


END_ENTITIES: dict[str, tuple[str, Callable[[Pki], Chain]]] = {
    "as it should be": ("accepted", lambda pki: pki.ada.chain),
    "in another order": ("accepted", lambda pki: [pki.ada.chain[0], pki.root.certificate, *pki.ada.chain[1:]]),
    "without its authority, which is known": ("accepted", lambda pki: pki.ada.chain[:1]),
    "on a curve": ("accepted", lambda pki: with_key(pki, curve_key())),
    "nothing": ("chain-empty", lambda pki: []),
    "thirty certificates": ("chain-too-long", lambda pki: [*pki.ada.chain] * 15),
    "expired": ("chain-expired", lambda pki: end_entity(pki, end=NOW - DAY / 2)),
    "not yet valid": ("chain-not-yet-valid", lambda pki: end_entity(pki, start=NOW + DAY)),
    "an authority that took the name": ("chain-signature", by_stranger),
    "an unknown authority": ("chain-unknown-ca", lambda pki: root_authority("DC=test,CN=Other", number=6).user().chain),
    "signed by itself": ("chain-unknown-ca", self_signed),
    "issued by a user": ("chain-not-a-ca", by_user),
    "an authority itself": ("chain-leaf-is-ca", lambda pki: [pki.authority.certificate]),
    "a root itself": ("chain-leaf-is-ca", lambda pki: [pki.root.certificate]),
    "RSA of 1024 bits": ("chain-weak-key", lambda pki: with_key(pki, rsa_key(99, 1024))),
    "a curve of 224 bits": ("chain-weak-key", lambda pki: with_key(pki, curve_key(99, ec.SECP224R1))),
    "SHA-1": ("chain-weak-signature", lambda pki: weak_hash(pki, "sha1")),
    "MD5": ("chain-weak-signature", lambda pki: weak_hash(pki, "md5")),
    "an unknown extension": ("accepted", lambda pki: end_entity(pki, [PLAIN, (UNKNOWN, False)])),
    "an unknown critical extension": (
        "chain-critical-extension", lambda pki: end_entity(pki, [PLAIN, (UNKNOWN, True)])
    ),
    "an extension twice": ("chain-malformed", twice),
    "for servers only": (
        "chain-purpose",
        lambda pki: end_entity(pki, [PLAIN, (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)]),
    ),
    "for every use": (
        "chain-purpose",
        lambda pki: end_entity(
            pki, [PLAIN, (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), False)]
        ),
    ),
    "outside of the signing policy": (
        "chain-signing-policy", lambda pki: end_entity(pki, subject=name("DC=evil,CN=Ada"))
    ),
    "a name that looks like another": (
        "dn-ambiguous", lambda pki: end_entity(pki, subject=name("DC=test,DC=grid,CN=Mallory/CN=Ada Lovelace"))
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", END_ENTITIES)
def test_end_entities(case: str, pki: Pki, trust: TrustStore) -> None:
    expected, make = END_ENTITIES[case]
    assert code(make(pki), trust) == expected


def test_a_refusal_names_the_certificate_and_the_rule(pki: Pki, trust: TrustStore) -> None:
    with pytest.raises(CredentialRefused) as refused:
        verify_chain(end_entity(pki, end=NOW - HOUR), trust, NOW)
    assert refused.value.message == (
        f"The certificate /DC=test/DC=grid/CN=Ada Lovelace expired on {NOW - HOUR:%Y-%m-%d %H:%M:%S} UTC."
    )
    assert refused.value.status == 401


def test_purposes(pki: Pki, trust: TrustStore) -> None:
    assert code(pki.ada.chain, trust, purpose=Purpose.SERVER) == "chain-purpose"
    assert code(pki.ada.chain, trust, purpose=Purpose.ANY) == "accepted"
    assert code(pki.host.chain, trust, purpose=Purpose.SERVER) == "accepted"
    assert code(pki.host.chain, trust) == "accepted"  # A host may also be a client.


@pytest.mark.parametrize("case", [case for case, (expected, _) in END_ENTITIES.items() if expected == "accepted"])
def test_whom_we_accept_openssl_accepts_too(case: str, pki: Pki) -> None:
    done = openssl(pki, END_ENTITIES[case][1](pki), "-purpose", "sslclient")
    assert done.returncode == 0, done.stderr
