"""The directory of authorities, also while it is written; signing policies; names."""

import contextlib
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from spinor.x509.dn import canonical_dn, shown_dn, slash_dn
from spinor.x509.policies import PolicyMalformed, read_namespaces, read_signing_policy
from spinor.x509.refusals import ChainCRLUnusable, DNAmbiguous, TrustUnreadable
from spinor.x509.trust import LOOK_AGAIN_S, TrustStore
from tests.x509.pki import DAY, NOW, Pki, name, root_authority, signing_policy, write_authority
from tests.x509.verdict import ADA, code

CA = "/DC=test/CN=Test Issuing CA"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now

    def later(self) -> None:
        self.now += LOOK_AGAIN_S


def test_the_directory_is_read_again_when_it_changed(tmp_path: Path, pki: Pki) -> None:
    clock = Clock()
    write_authority(tmp_path, pki.root)
    trust = TrustStore(tmp_path, clock=clock)
    assert code(pki.ada.chain, trust) == "accepted"
    write_authority(tmp_path, pki.authority, crl=pki.authority.crl([pki.ada.leaf]))
    assert code(pki.ada.chain, trust) == "accepted"  # Not looked at yet.
    clock.later()
    assert code(pki.ada.chain, trust) == "chain-revoked"
    for path in tmp_path.iterdir():
        path.unlink()
    clock.later()
    assert code(pki.ada.chain, trust) == "chain-unknown-ca"


def test_the_newest_list_counts(tmp_path: Path, pki: Pki) -> None:
    hash_ = write_authority(tmp_path, pki.authority)
    older = pki.authority.crl([pki.ada.leaf], start=NOW - 3 * DAY)
    (tmp_path / f"{hash_}.r0").write_bytes(older.public_bytes(Encoding.PEM))
    (tmp_path / f"{hash_}.r1").write_bytes(pki.authority.crl([pki.alan.leaf]).public_bytes(Encoding.DER))
    trust = TrustStore(tmp_path)
    found = trust.crl_for(pki.authority.certificate)
    assert found is not None
    assert found.last_update_utc == NOW - DAY
    assert trust.revoked_at(pki.authority.certificate, pki.alan.leaf.serial_number) == NOW - DAY
    assert trust.revoked_at(pki.authority.certificate, pki.ada.leaf.serial_number) is None


def test_a_damaged_list_brings_nobody_back(tmp_path: Path, pki: Pki) -> None:
    clock = Clock()
    hash_ = write_authority(tmp_path, pki.authority, crl=pki.authority.crl([pki.ada.leaf]))
    write_authority(tmp_path, pki.root)
    trust = TrustStore(tmp_path, clock=clock)
    assert code(pki.ada.chain, trust) == "chain-revoked"
    for path in tmp_path.glob("*.r0"):
        path.write_bytes(path.read_bytes()[:200])
    clock.later()
    assert code(pki.ada.chain, trust) == "chain-revoked"  # What was read before is kept.
    assert any(f"{hash_}.r0 holds no revocation list" in problem for problem in trust.problems)
    with pytest.raises(ChainCRLUnusable, match="it cannot be read"):
        TrustStore(tmp_path).crl_for(pki.authority.certificate)


def test_a_damaged_authority_harms_no_other(tmp_path: Path, pki: Pki) -> None:
    write_authority(tmp_path, pki.root)
    (tmp_path / "deadbeef.0").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (tmp_path / "cafebabe.0").write_bytes(b"\x30\x03")
    (tmp_path / "info").write_text("nothing of ours")
    (tmp_path / "dangling.0").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.pem").mkdir()
    trust = TrustStore(tmp_path)
    assert code(pki.ada.chain, trust) == "accepted"
    assert len(trust.problems) == 2


def test_bundles_count_too(tmp_path: Path, pki: Pki) -> None:
    both = [pki.root.certificate, pki.authority.certificate]
    (tmp_path / "all.pem").write_bytes(b"# ours\n" + b"".join(each.public_bytes(Encoding.PEM) for each in both))
    assert code(pki.ada.chain[:1], TrustStore(tmp_path)) == "accepted"


def test_a_directory_that_is_not_there(tmp_path: Path, pki: Pki) -> None:
    with pytest.raises(TrustUnreadable):
        TrustStore(tmp_path / "absent")
    clock, place = Clock(), tmp_path / "there"
    write_authority(place, pki.root)
    trust = TrustStore(place, clock=clock)
    place.rename(tmp_path / "away")
    clock.later()
    assert code(pki.ada.chain, trust) == "accepted"  # It is kept until it can be read again.


def test_many_threads_see_a_whole_directory(tmp_path: Path, pki: Pki) -> None:
    """One of two authorities is always there; a half-read directory would have none."""
    clock, other = Clock(), root_authority(number=6)
    paths = [tmp_path / "0.0", tmp_path / "1.0"]
    pems = [each.certificate.public_bytes(Encoding.PEM) for each in (pki.root, other)]
    paths[0].write_bytes(pems[0])
    trust = TrustStore(tmp_path, clock=clock)
    missing: list[int] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            missing.append(len(trust.anchors_for(pki.root.certificate.subject)) == 0)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(60):
        here, gone = paths[(number + 1) % 2], paths[number % 2]
        here.write_bytes(pems[(number + 1) % 2])
        clock.later()
        gone.unlink()
        clock.later()
    stop.set()
    for thread in threads:
        thread.join()
    assert missing
    assert not any(missing)


# ------------------------------------------------------------------------------ signing policies


POLICY = """
# A comment, as IGTF writes them.
 access_id_CA      X509         '/DC=test/CN=Test Issuing CA'
 pos_rights        globus        CA:sign
 cond_subjects     globus     '"/DC=test/DC=grid/*" "/DC=test/O=Hosts/CN=host?.test"'

access_id_CA X509 '/DC=test/CN=Other CA'
pos_rights globus CA:sign
cond_subjects globus "/C=XX/[a]*"
"""


@pytest.mark.parametrize(
    ("subject", "allowed"),
    [
        ("/DC=test/DC=grid/CN=Ada", True),
        ("/DC=test/DC=grid/", True),
        ("/DC=test/DC=gridiron/CN=Ada", False),
        ("/DC=test/O=Hosts/CN=host1.test", True),
        ("/DC=test/O=Hosts/CN=host12.test", False),
        ("/DC=test/O=Hosts/CN=host1-test", False),
        ("/x/DC=test/DC=grid/CN=Ada", False),
        ("/C=XX/[a]b", False),
    ],
)
def test_signing_policies(subject: str, allowed: bool) -> None:
    assert read_signing_policy(POLICY)[CA].allows(subject) == allowed


def test_signing_policies_are_several_in_a_file() -> None:
    other = read_signing_policy(POLICY)["/DC=test/CN=Other CA"]
    assert other.allows("/C=XX/[a]b")  # A bracket is a bracket here.
    assert not other.allows("/C=XX/ab")


@pytest.mark.parametrize(
    "text",
    [
        "access_id_CA X509 '/DC=test/CN=Test Issuing CA'\ncond_subjects globus '\"*\"'\n",
        "access_id_CA X509 '/DC=test/CN=Test Issuing CA'\nneg_rights globus CA:sign\ncond_subjects globus '\"*\"'\n",
        "access_id_CA X509 '/DC=test/CN=Test Issuing CA'\npos_rights globus CA:other\ncond_subjects globus '\"*\"'\n",
    ],
)
def test_subjects_without_a_right_to_sign_them_count_for_nothing(text: str) -> None:
    assert not read_signing_policy(text)[CA].allows("/DC=test/CN=x")


NAMESPACES = """
#NAMESPACES-VERSION: 1.0
TO Issuer "/DC=test/CN=Root" \\
  PERMIT Subject "/DC=test/CN=Test Issuing CA"
TO Issuer SELF \\
  DENY Subject "/DC=test/DC=grid/CN=Robot.*"
to issuer self permit subject "/DC=test/DC=grid/.*"
"""


def test_namespaces() -> None:
    found = read_namespaces(NAMESPACES, [CA])
    assert found["/DC=test/CN=Root"].allows(CA)
    assert found[CA].allows("/DC=test/DC=grid/CN=Ada")
    assert not found[CA].allows("/DC=test/DC=grid/CN=Robot: sums")
    assert not found[CA].allows("/DC=test/CN=Ada")
    assert not found[CA].allows("/X=/DC=test/DC=grid/CN=Ada")


@pytest.mark.parametrize(
    "text",
    [
        'TO Issuer SELF PERMIT Subject "/DC=test/[".*"',
        "TO Issuer SELF PERMIT Subject /DC=test/.*",
        'TO Issuer SELF ALLOW Subject "/DC=test/.*"',
        'TO Issuer SELF PERMIT Subject "/DC=test/.*" and more',
    ],
)
def test_namespaces_that_are_not_understood(text: str) -> None:
    with pytest.raises(PolicyMalformed):
        read_namespaces(text, [CA])


@given(text=st.text())
@settings(deadline=None)
def test_policies_of_any_text_are_read_or_malformed(text: str) -> None:
    for read in (read_signing_policy, lambda it: read_namespaces(it, [CA])):
        with contextlib.suppress(PolicyMalformed):
            read(text)


def test_both_policies_must_allow_and_a_damaged_one_allows_nothing(tmp_path: Path, pki: Pki) -> None:
    wide, narrow = signing_policy(pki.authority, "*"), signing_policy(pki.authority, "/DC=org/*")
    spaces = 'TO Issuer SELF PERMIT Subject "/DC=test/.*"\n'
    cases = {
        (wide, spaces): True, (narrow, spaces): False, (wide, spaces.replace("test", "org")): False,
        (wide, None): True, (None, spaces): True, (None, None): True,
        ("nonsense", spaces): False, (wide, "nonsense"): False,
    }  # fmt: skip
    for number, ((policy, namespaces), allowed) in enumerate(cases.items()):
        place = tmp_path / str(number)
        write_authority(place, pki.authority, signing_policy=policy, namespaces=namespaces)
        assert TrustStore(place).policy_allows(pki.authority.certificate, ADA) == allowed, (policy, namespaces)


def test_an_authority_without_policy_has_that_of_the_one_above(tmp_path: Path, pki: Pki) -> None:
    write_authority(tmp_path, pki.root, signing_policy=signing_policy(pki.root, "/DC=test/CN=*"))
    assert code(pki.ada.chain, TrustStore(tmp_path)) == "chain-signing-policy"
    write_authority(tmp_path, pki.root, signing_policy=signing_policy(pki.root, "/DC=test/*"))
    assert code(pki.ada.chain, TrustStore(tmp_path)) == "accepted"


# ------------------------------------------------------------------------------ names


def test_names_are_written_as_the_field_writes_them() -> None:
    assert slash_dn(name("DC=test,DC=grid,CN=Ada Lovelace")) == "/DC=test/DC=grid/CN=Ada Lovelace"
    assert slash_dn(name("C=FR,O=CNRS,CN=host/a.test,emailAddress=a@b.test")) == (
        "/C=FR/O=CNRS/CN=host/a.test/emailAddress=a@b.test"
    )
    assert slash_dn(name("CN=José")) == "/CN=Jos\\xC3\\xA9"
    both = x509.RelativeDistinguishedName([*name("CN=a"), *name("UID=7")])
    assert slash_dn(x509.Name([both])) in ("/CN=a+UID=7", "/UID=7+CN=a")
    odd = x509.Name([x509.NameAttribute(x509.ObjectIdentifier("1.2.3.4"), "x")])
    assert slash_dn(odd) == "/1.2.3.4=x"


@pytest.mark.parametrize("value", ["Mallory/CN=Ada", "a/1.2.3=b", "a\\xC3b", "x/emailAddress=a@b"])
def test_names_that_would_be_written_like_others_are_refused(value: str) -> None:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, value)])
    with pytest.raises(DNAmbiguous):
        slash_dn(subject)
    assert shown_dn(subject)


VALUES = st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=4)


@given(values=VALUES, others=VALUES)
@settings(deadline=None)
def test_two_names_are_never_written_alike(values: list[str], others: list[str]) -> None:
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each) for each in both]) for both in (values, others)]
    try:
        written = [slash_dn(each) for each in names]
    except DNAmbiguous:
        return
    assert (written[0] == written[1]) == (names[0] == names[1])


def test_old_keys_are_today_s() -> None:
    assert canonical_dn(" /C=FR/Email=a@b/USERID=7 ") == "/C=FR/emailAddress=a@b/UID=7"
    assert canonical_dn("/E=a@b/O=Email=x") == "/emailAddress=a@b/O=Email=x"


def test_a_long_name_is_shown_in_short() -> None:
    assert len(shown_dn(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x" * 64)] * 50))) == 301
