"""The authorities of a chain: what they may issue, and what they have revoked."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from spinor.x509.chain import verify_chain
from spinor.x509.proxy import make_proxy
from spinor.x509.refusals import CredentialRefused
from spinor.x509.trust import CRLPolicy, TrustStore
from tests.x509.pki import (
    CA_USAGE,
    CLIENT,
    DAY,
    HOST,
    NOW,
    Authority,
    Extension,
    Pki,
    ca_extensions,
    key_usage,
    name,
    root_authority,
    rsa_key,
    signed,
    user_extensions,
    write_authority,
)
from tests.x509.verdict import ADA, PLAIN, UNKNOWN, Chain, code

HOUR = timedelta(hours=1)


def with_authority(home: Path, authority: Authority, user: x509.Name = ADA) -> tuple[Chain, TrustStore]:
    """A user below an authority below a root; only the root is in the directory."""
    root = root_authority()
    write_authority(home, root)
    key = rsa_key(21)
    return [authority.sign(user, key, user_extensions(key)), *authority.above], TrustStore(home)


def authority_with(extensions: Sequence[Extension], key_number: int = 12) -> Authority:
    root, key = root_authority(), rsa_key(key_number)
    certificate = root.sign(name("DC=test,CN=Odd CA"), key, extensions)
    return Authority(certificate, key, (certificate,))


def constrained(**trees: Sequence[x509.GeneralName]) -> Sequence[Extension]:
    limits = x509.NameConstraints(trees.get("permitted"), trees.get("excluded"))
    return [*ca_extensions(rsa_key(12)), (limits, True)]


def directory(text: str) -> list[x509.GeneralName]:
    return [x509.DirectoryName(name(text))]


CA = (x509.BasicConstraints(ca=True, path_length=None), True)
AUTHORITIES: dict[str, tuple[str, Sequence[Extension]]] = {
    "as it should be": ("accepted", ca_extensions(rsa_key(12))),
    "without basic constraints": ("chain-not-a-ca", [(CA_USAGE, True)]),
    "not an authority": ("chain-not-a-ca", [PLAIN, (CA_USAGE, True)]),
    "a key that signs no certificates": ("chain-key-usage", [CA, (key_usage("crl_sign"), True)]),
    "without a key usage": ("accepted", [CA]),
    "for servers only": (
        "chain-purpose",
        [CA, (CA_USAGE, True), (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)],
    ),
    "for clients": ("accepted", [CA, (CA_USAGE, True), (CLIENT, False)]),
    "for hosts": ("accepted", [CA, (CA_USAGE, True), (HOST, False)]),
    "an unknown critical extension": ("chain-critical-extension", [CA, (CA_USAGE, True), (UNKNOWN, True)]),
    "names that it may give": ("accepted", constrained(permitted=directory("DC=test,DC=grid"))),
    "names that it may not give": ("chain-name-constraint", constrained(permitted=directory("DC=org"))),
    "names that are excluded": ("chain-name-constraint", constrained(excluded=directory("DC=test,DC=grid"))),
    "other kinds of names": ("accepted", constrained(permitted=[x509.DNSName("grid.test")])),
}


@pytest.mark.parametrize("case", AUTHORITIES)
def test_authorities(case: str, tmp_path: Path) -> None:
    expected, extensions = AUTHORITIES[case]
    chain, trust = with_authority(tmp_path, authority_with(extensions))
    assert code(chain, trust) == expected


NAMES: dict[str, tuple[x509.GeneralName, x509.GeneralName, bool]] = {
    "a host below a domain": (x509.DNSName("a.grid.test"), x509.DNSName("grid.test"), True),
    "the domain itself": (x509.DNSName("grid.test"), x509.DNSName("grid.test"), True),
    "a name that only ends alike": (x509.DNSName("agrid.test"), x509.DNSName("grid.test"), False),
    "an address of a host": (x509.RFC822Name("ada@grid.test"), x509.RFC822Name("grid.test"), True),
    "an address below a domain": (x509.RFC822Name("ada@a.grid.test"), x509.RFC822Name(".grid.test"), True),
    "an address of another host": (x509.RFC822Name("ada@a.grid.test"), x509.RFC822Name("grid.test"), False),
    "one address": (x509.RFC822Name("ada@grid.test"), x509.RFC822Name("ada@grid.test"), True),
    "a URI, which is not understood": (
        x509.UniformResourceIdentifier("https://a.test/"), x509.UniformResourceIdentifier("a.test"), False
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NAMES)
def test_alternative_names_are_constrained(case: str, tmp_path: Path) -> None:
    given, permitted, holds = NAMES[case]
    authority = authority_with(constrained(permitted=[permitted]))
    _, trust = with_authority(tmp_path, authority)
    key = rsa_key(21)
    extensions = [*user_extensions(key), (x509.SubjectAlternativeName([given]), False)]
    leaf = authority.sign(ADA, key, extensions)
    assert code([leaf, *authority.above], trust) == ("accepted" if holds else "chain-name-constraint")


def test_path_length_of_authorities(tmp_path: Path) -> None:
    root = root_authority()
    write_authority(tmp_path, root)
    short = root.authority("DC=test,CN=Short CA", number=12, path_length=0)
    below_it = short.authority("DC=test,CN=Below CA", number=13)
    trust = TrustStore(tmp_path)
    assert code(short.user().chain, trust) == "accepted"
    assert code(below_it.user().chain, trust) == "chain-path-length"
    longer = root.authority("DC=test,CN=Long CA", number=14, path_length=1)
    assert code(longer.authority("DC=test,CN=Below CA", number=13).user().chain, trust) == "accepted"


def test_authorities_that_sign_each_other_lead_nowhere(tmp_path: Path) -> None:
    write_authority(tmp_path, root_authority())
    one, two_ = rsa_key(12), rsa_key(13)
    first = signed(name("CN=One"), one, name("CN=Two"), two_, ca_extensions(one))
    second = signed(name("CN=Two"), two_, name("CN=One"), one, ca_extensions(two_))
    user = Authority(first, one, (first, second)).user()
    assert code(user.chain, TrustStore(tmp_path)) == "chain-unknown-ca"


def test_an_authority_in_the_directory_needs_its_root_there(tmp_path: Path, pki: Pki) -> None:
    write_authority(tmp_path, pki.authority)
    assert code(pki.ada.chain, TrustStore(tmp_path)) == "chain-unknown-ca"
    write_authority(tmp_path, pki.root)
    assert code(pki.ada.chain, TrustStore(tmp_path)) == "accepted"


def test_a_renewed_authority_is_the_one_that_holds(tmp_path: Path) -> None:
    key = rsa_key(1)
    subject = name("DC=test,CN=Test Root CA")
    old = signed(subject, key, subject, key, ca_extensions(key), start=NOW - 900 * DAY, end=NOW - DAY)
    new = root_authority()
    for number, certificate in enumerate((old, new.certificate)):
        (tmp_path / f"0badcafe.{number}").write_bytes(certificate.public_bytes(Encoding.PEM))
    trust = TrustStore(tmp_path)
    assert code(new.user().chain, trust) == "accepted"
    (tmp_path / "0badcafe.1").unlink()
    assert code(new.user().chain, TrustStore(tmp_path)) == "chain-expired"


# ------------------------------------------------------------------------------ revocation


def revoking(home: Path, pki: Pki, crl: x509.CertificateRevocationList | None, **of_root: object) -> TrustStore:
    write_authority(home, pki.root, crl=pki.root.crl(**of_root))  # type: ignore[arg-type]
    write_authority(home, pki.authority, crl=crl)
    return TrustStore(home)


def test_revocation_lists(tmp_path: Path, pki: Pki) -> None:
    crl, chain = pki.authority.crl, make_proxy(pki.ada, lifetime=HOUR, now=NOW).chain
    lists = {
        "accepted": crl([pki.alan.leaf]),
        "chain-revoked": crl([pki.alan.leaf, pki.ada.leaf]),
        "chain-crl-expired": crl(start=NOW - 2 * DAY, end=NOW - DAY),
        "chain-crl-not-yet-valid": crl(start=NOW + HOUR),
        "chain-crl-unusable": crl(key=rsa_key(22)),
    }
    for number, (expected, found) in enumerate(lists.items()):
        trust = revoking(tmp_path / str(number), pki, found)
        assert code(chain, trust) == expected
        assert code(chain, trust, CRLPolicy.REQUIRED) == expected
        assert code(chain, trust, CRLPolicy.IGNORE) == "accepted"


def test_a_missing_revocation_list(tmp_path: Path, pki: Pki) -> None:
    trust = revoking(tmp_path, pki, None)
    assert code(pki.ada.chain, trust) == "accepted"
    assert code(pki.ada.chain, trust, CRLPolicy.REQUIRED) == "chain-crl-missing"


def test_a_revoked_authority(tmp_path: Path, pki: Pki) -> None:
    trust = revoking(tmp_path, pki, pki.authority.crl(), revoked=[pki.authority.certificate])
    with pytest.raises(CredentialRefused, match="Test Issuing CA was revoked"):
        verify_chain(pki.ada.chain, trust, NOW)


def test_lists_that_tell_only_a_part_are_not_relied_upon(tmp_path: Path, pki: Pki) -> None:
    def crl(extension: x509.ExtensionType) -> x509.CertificateRevocationList:
        builder = x509.CertificateRevocationListBuilder().issuer_name(pki.authority.certificate.subject)
        builder = builder.last_update(NOW - DAY).next_update(NOW + DAY).add_extension(extension, critical=True)
        return builder.sign(pki.authority.key, hashes.SHA256())

    def point(**only: bool) -> x509.IssuingDistributionPoint:
        parts = ("only_contains_user_certs", "only_contains_ca_certs", "indirect_crl", "only_contains_attribute_certs")
        says = {part: only.get(part, False) for part in parts}
        where = [x509.UniformResourceIdentifier("http://crl.test/")]
        return x509.IssuingDistributionPoint(full_name=where, relative_name=None, only_some_reasons=None, **says)

    assert code(pki.ada.chain, revoking(tmp_path / "a", pki, crl(point()))) == "accepted"
    for number, extension in enumerate(
        [point(only_contains_ca_certs=True), point(indirect_crl=True), x509.DeltaCRLIndicator(1)]
    ):
        trust = revoking(tmp_path / str(number), pki, crl(extension))
        assert code(pki.ada.chain, trust) == "chain-crl-unusable"
