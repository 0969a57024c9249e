"""Every rule of RFC 3820 that a proxy can break, and the code that says which."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from spinor.x509.chain import verify_chain
from spinor.x509.proxy import Credential
from spinor.x509.proxy_rules import PROXY_CERT_INFO, Language
from spinor.x509.trust import TrustStore
from tests.x509.pki import (
    DAY,
    NOW,
    USER_USAGE,
    Pki,
    below,
    forged_proxy,
    key_usage,
    name,
    rsa_key,
    signed,
)
from tests.x509.verdict import ADA, PLAIN, Chain, code, openssl

HOUR = timedelta(hours=1)


def raw(hex_text: str) -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(PROXY_CERT_INFO, bytes.fromhex(hex_text))


def alternative(pki: Pki, kind: type[x509.SubjectAlternativeName | x509.IssuerAlternativeName]) -> Chain:
    return forged_proxy(pki.ada, extensions=[(kind([x509.DNSName("ada.test")]), False)]).chain


def legacy(pki: Pki, added: str) -> Chain:
    key = rsa_key(41)
    subject = below(pki.ada.leaf.subject, added)
    proxy = signed(subject, key, pki.ada.leaf.subject, pki.ada.key, [(USER_USAGE, True)], end=NOW + HOUR)
    return [proxy, *pki.ada.chain]


def draft(pki: Pki) -> Chain:
    oid = x509.ObjectIdentifier("1.3.6.1.4.1.3536.1.222")
    return forged_proxy(pki.ada, info=x509.UnrecognizedExtension(oid, b"\x05\x00"), critical=False).chain


def by_authority(pki: Pki) -> Chain:
    issuer = Credential((pki.authority.certificate,), pki.authority.key)
    return forged_proxy(issuer).chain


def two(pki: Pki, first: str, second: str) -> Chain:
    return forged_proxy(forged_proxy(pki.ada, language=first), language=second, number=42).chain


def below_length(pki: Pki, length: int, proxies: int) -> Chain:
    credential = forged_proxy(pki.ada, path_length=length)
    for number in range(proxies):
        credential = forged_proxy(credential, number=50 + number)
    return credential.chain


def user_without_signing(pki: Pki) -> Chain:
    key = rsa_key(21)
    leaf = pki.authority.sign(ADA, key, [PLAIN, (key_usage("key_encipherment"), True)])
    return forged_proxy(Credential((leaf, pki.authority.certificate), key)).chain


FULL, LIMITED = Language.INHERIT_ALL, Language.LIMITED
INDEPENDENT = "1.3.6.1.5.5.7.21.2"
PROXIES: dict[str, tuple[str, Callable[[Pki], Chain]]] = {
    "as it should be": ("accepted", lambda pki: forged_proxy(pki.ada).chain),
    "without a key usage": ("accepted", lambda pki: forged_proxy(pki.ada, usage=None).chain),
    "limited": ("accepted", lambda pki: forged_proxy(pki.ada, language=LIMITED).chain),
    "limited below full": ("accepted", lambda pki: two(pki, FULL, LIMITED)),
    "limited below limited": ("accepted", lambda pki: two(pki, LIMITED, LIMITED)),
    "full below limited": ("proxy-limit-dropped", lambda pki: two(pki, LIMITED, FULL)),
    "not critical": ("proxy-not-critical", lambda pki: forged_proxy(pki.ada, critical=False).chain),
    "outliving its issuer": ("proxy-outlives-issuer", lambda pki: forged_proxy(pki.ada, end=NOW + 3000 * DAY).chain),
    "outliving by a second": (
        "proxy-outlives-issuer",
        lambda pki: forged_proxy(pki.ada, end=pki.ada.not_after + timedelta(seconds=1)).chain,
    ),
    "as long as its issuer": ("accepted", lambda pki: forged_proxy(pki.ada, end=pki.ada.not_after).chain),
    "another subject": ("proxy-subject", lambda pki: forged_proxy(pki.ada, subject=name("DC=test,CN=x")).chain),
    "its issuer's subject": ("proxy-subject", lambda pki: forged_proxy(pki.ada, subject=ADA).chain),
    "two CNs more": ("proxy-subject", lambda pki: forged_proxy(pki.ada, subject=below(ADA, "1", "2")).chain),
    "something else than a CN more": (
        "proxy-subject",
        lambda pki: forged_proxy(pki.ada, subject=x509.Name([*ADA.rdns, *name("UID=7").rdns])).chain,
    ),
    "a CN and more in one part": (
        "proxy-subject",
        lambda pki: forged_proxy(
            pki.ada,
            subject=x509.Name([*ADA.rdns, x509.RelativeDistinguishedName([*name("CN=1"), *name("UID=7")])]),
        ).chain,
    ),
    "a subject alternative name": ("proxy-alternative-name", lambda pki: alternative(pki, x509.SubjectAlternativeName)),
    "an issuer alternative name": ("proxy-alternative-name", lambda pki: alternative(pki, x509.IssuerAlternativeName)),
    "an authority": (
        "proxy-is-ca",
        lambda pki: forged_proxy(pki.ada, extensions=[(x509.BasicConstraints(True, None), True)]).chain,
    ),
    "not an authority, and says so": ("accepted", lambda pki: forged_proxy(pki.ada, extensions=[PLAIN]).chain),
    "may sign certificates": (
        "proxy-key-usage",
        lambda pki: forged_proxy(pki.ada, usage=key_usage("digital_signature", "key_cert_sign")).chain,
    ),
    "may sign revocation lists": (
        "proxy-key-usage", lambda pki: forged_proxy(pki.ada, usage=key_usage("digital_signature", "crl_sign")).chain
    ),
    "below a key that signs nothing": ("proxy-key-usage", user_without_signing),
    "Globus 2": ("proxy-legacy", lambda pki: legacy(pki, "proxy")),
    "Globus 2, limited": ("proxy-legacy", lambda pki: legacy(pki, "limited proxy")),
    "Globus 3": ("proxy-legacy", draft),
    "no extension at all": ("chain-not-a-ca", lambda pki: legacy(pki, "12345")),
    "issued by an authority": ("proxy-issued-by-ca", by_authority),
    "path length 0, none below": ("accepted", lambda pki: below_length(pki, 0, 0)),
    "path length 0, one below": ("proxy-path-length", lambda pki: below_length(pki, 0, 1)),
    "path length 1, one below": ("accepted", lambda pki: below_length(pki, 1, 1)),
    "path length 1, two below": ("proxy-path-length", lambda pki: below_length(pki, 1, 2)),
    "independent": ("proxy-unknown-policy", lambda pki: forged_proxy(pki.ada, language=INDEPENDENT).chain),
    "a language of its own": ("proxy-unknown-policy", lambda pki: forged_proxy(pki.ada, language="1.2.3").chain),
    "a policy beside the language": (
        "proxy-unknown-policy", lambda pki: forged_proxy(pki.ada, info=raw("300f300d06082b06010505071501040161")).chain,
    ),
    "no sense": ("proxy-malformed", lambda pki: forged_proxy(pki.ada, info=raw("0500")).chain),
    "bytes after it": (
        "proxy-malformed", lambda pki: forged_proxy(pki.ada, info=raw("300c300a06082b060105050715010500")).chain
    ),
    "a length in a longer form": (
        "proxy-malformed", lambda pki: forged_proxy(pki.ada, info=raw("30810c300a06082b06010505071501")).chain
    ),
    "a negative path length": (
        "proxy-malformed", lambda pki: forged_proxy(pki.ada, info=raw("300f0201ff300a06082b06010505071501")).chain
    ),
    "signed by another key": ("chain-signature", lambda pki: forged_proxy(pki.ada, signer=rsa_key(22)).chain),
    "expired": ("chain-expired", lambda pki: forged_proxy(pki.ada, end=NOW - timedelta(minutes=1)).chain),
    "without its issuer": ("chain-incomplete", lambda pki: forged_proxy(pki.ada).chain[:1]),
    "for servers only": (
        "chain-purpose",
        lambda pki: forged_proxy(
            pki.ada, extensions=[(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)]
        ).chain,
    ),
    "of a host": ("accepted", lambda pki: forged_proxy(pki.host).chain),
}  # fmt: skip


@pytest.mark.parametrize("case", PROXIES)
def test_proxies(case: str, pki: Pki, trust: TrustStore) -> None:
    expected, make = PROXIES[case]
    assert code(make(pki), trust) == expected


def test_what_a_proxy_stands_for(pki: Pki, trust: TrustStore) -> None:
    chain = two(pki, FULL, LIMITED)
    found = verify_chain(chain, trust, NOW)
    assert (found.proxy_depth, found.is_limited, found.end_entity, found.leaf) == (2, True, chain[2], chain[0])
    assert (found.subject_dn, found.issuer_dn) == ("/DC=test/DC=grid/CN=Ada Lovelace", "/DC=test/CN=Test Issuing CA")
    assert found.not_after == NOW + DAY / 2
    assert [each.subject for each in found.path[-2:]] == [
        pki.authority.certificate.subject, pki.root.certificate.subject
    ]  # fmt: skip


@pytest.mark.parametrize("case", [case for case, (expected, _) in PROXIES.items() if expected == "accepted"])
def test_whom_we_accept_openssl_accepts_too(case: str, pki: Pki) -> None:
    done = openssl(pki, PROXIES[case][1](pki), "-purpose", "sslclient")
    assert done.returncode == 0, done.stderr
