"""Proxies: issued, delegated, kept in files; and what OpenSSL, as strict as it can be, says of them."""

import os
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from spinor.credentials import UnsafeFile
from spinor.x509.chain import verify_chain
from spinor.x509.proxy import (
    Credential,
    PrivateKey,
    issue_proxy,
    make_proxy,
    make_request,
    parse_chain,
    parse_credential,
    proxy_path,
    read_credential,
    sign_request,
    user_certificate_paths,
    write_credential,
)
from spinor.x509.proxy_rules import Language
from spinor.x509.refusals import (
    ChainEmpty,
    ChainExpired,
    CredentialMismatch,
    CredentialUnreadable,
    ProxyKeyUsage,
    ProxyLegacy,
    ProxyPathLength,
    RequestRefused,
)
from spinor.x509.trust import TrustStore
from tests.x509.pki import DAY, NOW, Pki, below, curve_key, forged_proxy, key_usage, rsa_key, signed, write_host
from tests.x509.verdict import ADA, PLAIN, openssl

HOUR = timedelta(hours=1)


KEYS: dict[str, PrivateKey] = {
    "rsa": rsa_key(41), "p256": curve_key(41), "p384": curve_key(41, ec.SECP384R1), "p521": curve_key(41, ec.SECP521R1),
}  # fmt: skip


@pytest.mark.parametrize("strict", [[], ["-x509_strict"]], ids=["usual", "strict"])
@pytest.mark.parametrize("kind", KEYS)
def test_openssl_accepts_our_proxies(kind: str, strict: list[str], pki: Pki, trust: TrustStore) -> None:
    key = KEYS[kind]
    leaf = issue_proxy(pki.ada.chain, pki.ada.key, key.public_key(), lifetime=HOUR, path_length=2, now=NOW)
    first = Credential((leaf, *pki.ada.chain), key)
    limited = make_proxy(first, lifetime=HOUR, limited=True, now=NOW)
    for proxy in (first, limited, make_proxy(limited, lifetime=HOUR, now=NOW)):
        done = openssl(pki, proxy.chain, *strict)
        assert done.returncode == 0, done.stderr
        verify_chain(proxy.chain, trust, NOW)


def test_strict_verification_wants_what_older_tools_leave_out(pki: Pki) -> None:
    """A proxy without an authority key identifier, as voms-proxy-init before 2.1 made them."""
    key = rsa_key(41)
    info = forged_proxy(pki.ada).leaf.extensions[0]
    bare = signed(below(ADA, "1"), key, ADA, pki.ada.key, [(info.value, True)], end=NOW + HOUR)
    proxy = Credential((bare, *pki.ada.chain), key)
    assert openssl(pki, proxy.chain).returncode == 0
    assert "Missing Authority Key Identifier" in openssl(pki, proxy.chain, "-x509_strict").stderr


def test_what_openssl_accepts_and_we_do_not(pki: Pki) -> None:
    """The measured reason for rules of our own; their refusals are in test_proxy_rules."""
    limited = forged_proxy(pki.ada, language=Language.LIMITED)
    assert openssl(pki, forged_proxy(limited, number=42).chain).returncode == 0
    assert openssl(pki, forged_proxy(pki.ada, critical=False).chain).returncode == 0
    assert openssl(pki, forged_proxy(pki.ada, end=NOW + 3000 * DAY).chain).returncode == 0
    assert openssl(pki, forged_proxy(pki.ada, signer=rsa_key(22)).chain).returncode != 0


def test_a_proxy_never_outlives_its_issuers(pki: Pki) -> None:
    first = make_proxy(pki.ada, lifetime=HOUR, now=NOW)
    second = make_proxy(first, lifetime=5 * HOUR, now=NOW)
    assert second.leaf.not_valid_after_utc == first.leaf.not_valid_after_utc == NOW + HOUR
    assert make_proxy(pki.ada, lifetime=9999 * DAY, now=NOW).not_after == pki.ada.not_after
    with pytest.raises(ChainExpired):
        make_proxy(first, lifetime=HOUR, now=NOW + 2 * HOUR)


def test_a_limited_proxy_issues_only_limited_ones(pki: Pki, trust: TrustStore) -> None:
    limited = make_proxy(pki.ada, lifetime=HOUR, limited=True, now=NOW)
    for below_it in (make_proxy(limited, lifetime=HOUR, limited=False, now=NOW), limited):
        assert verify_chain(below_it.chain, trust, NOW).is_limited
    full = make_proxy(pki.ada, lifetime=HOUR, now=NOW)
    assert not verify_chain(full.chain, trust, NOW).is_limited
    # Whoever asks for a limited one gets a limited one, whatever lies above it.
    assert verify_chain(make_proxy(full, lifetime=HOUR, limited=True, now=NOW).chain, trust, NOW).is_limited


def test_path_lengths_shrink(pki: Pki, trust: TrustStore) -> None:
    first = make_proxy(pki.ada, lifetime=HOUR, path_length=2, now=NOW)
    second = make_proxy(first, lifetime=HOUR, path_length=9, now=NOW)
    third = make_proxy(second, lifetime=HOUR, now=NOW)
    verify_chain(third.chain, trust, NOW)
    with pytest.raises(ProxyPathLength):
        make_proxy(third, lifetime=HOUR, now=NOW)


def test_no_proxy_below_what_cannot_have_one(pki: Pki) -> None:
    key = rsa_key(21)
    leaf = pki.authority.sign(ADA, key, [PLAIN, (key_usage("key_encipherment"), True)])
    with pytest.raises(ProxyKeyUsage):
        make_proxy(Credential((leaf,), key), lifetime=HOUR, now=NOW)
    legacy = signed(below(ADA, "proxy"), key, ADA, pki.ada.key, [])
    with pytest.raises(ProxyLegacy):
        make_proxy(Credential((legacy, *pki.ada.chain), key), lifetime=HOUR, now=NOW)
    with pytest.raises(CredentialMismatch):
        issue_proxy(pki.ada.chain, rsa_key(22), key.public_key(), lifetime=HOUR, now=NOW)
    with pytest.raises(ChainEmpty):
        issue_proxy((), key, key.public_key(), lifetime=HOUR, now=NOW)


@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.booleans(), st.none() | st.integers(0, 4), st.integers(60, 10**7), st.sampled_from(["p256", "p384"])
        ),
        max_size=6,
    )
)
def test_whatever_is_issued_holds(pki: Pki, steps: list[tuple[bool, int | None, int, str]]) -> None:
    """Each chain that the issuing side makes is one that the verifying side accepts, and never gains rights or time."""
    trust, credential, limited = TrustStore(pki.certificates), pki.ada, False
    for wants_limited, path_length, lifetime_s, kind in steps:
        key = KEYS[kind]
        try:
            leaf = issue_proxy(
                credential.chain, credential.key, key.public_key(), lifetime=timedelta(seconds=lifetime_s),
                limited=wants_limited, path_length=path_length, now=NOW,
            )  # fmt: skip
        except ProxyPathLength:
            return
        limited = limited or wants_limited
        before, credential = credential, Credential((leaf, *credential.chain), key)
        found = verify_chain(credential.chain, trust, NOW)
        assert found.is_limited == limited
        assert found.not_after <= before.not_after


# ------------------------------------------------------------------------------ delegation


def test_delegation_moves_no_key(pki: Pki, trust: TrustStore) -> None:
    key = rsa_key(43)  # The receiver's.
    csr = x509.load_der_x509_csr(make_request(key).public_bytes(Encoding.DER))
    leaf = sign_request(csr, pki.ada.chain, pki.ada.key, lifetime=HOUR, limited=True, now=NOW)
    found = verify_chain(Credential((leaf, *pki.ada.chain), key).chain, trust, NOW)
    assert (found.subject_dn, found.is_limited) == ("/DC=test/DC=grid/CN=Ada Lovelace", True)


def test_of_a_request_only_the_key_counts(pki: Pki, trust: TrustStore) -> None:
    builder = x509.CertificateSigningRequestBuilder().subject_name(pki.root.certificate.subject)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    csr = builder.sign(rsa_key(43), hashes.SHA256())
    leaf = sign_request(csr, pki.ada.chain, pki.ada.key, lifetime=HOUR, now=NOW)
    verify_chain((leaf, *pki.ada.chain), trust, NOW)
    assert leaf.subject.rdns[:-1] == ADA.rdns


def test_requests_that_are_refused(pki: Pki) -> None:
    def refusal(csr: x509.CertificateSigningRequest) -> str:
        with pytest.raises(RequestRefused) as refused:
            sign_request(csr, pki.ada.chain, pki.ada.key, lifetime=HOUR, now=NOW)
        return refused.value.message

    der = make_request(rsa_key(43)).public_bytes(Encoding.DER)
    assert "not signed by the key" in refusal(x509.load_der_x509_csr(der[:-1] + bytes([der[-1] ^ 1])))
    assert "1024 bits" in refusal(make_request(rsa_key(99, 1024)))
    assert "own key" in refusal(make_request(pki.ada.key))


# ------------------------------------------------------------------------------ files


def test_a_proxy_file(pki: Pki, tmp_path: Path) -> None:
    proxy, path = make_proxy(pki.ada, lifetime=HOUR, now=NOW), tmp_path / "x509up"
    old = os.umask(0)
    try:
        write_credential(path, proxy)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    titles = [line for line in path.read_text().splitlines() if line.startswith("-----BEGIN")]
    assert titles[:3] == [
        "-----BEGIN CERTIFICATE-----",
        "-----BEGIN RSA PRIVATE KEY-----",
        "-----BEGIN CERTIFICATE-----",
    ]
    again = read_credential(path)
    assert (again.chain, again.key.public_key()) == (proxy.chain, proxy.key.public_key())
    assert parse_chain(path.read_bytes()) == proxy.chain
    write_credential(path, again)  # It may be written again.
    assert [each.name for each in tmp_path.iterdir()] == ["x509up"]


def test_a_link_is_replaced_and_never_followed(pki: Pki, tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "x509up"
    victim.write_text("mine")
    path.symlink_to(victim)
    write_credential(path, pki.ada)
    assert (victim.read_text(), path.is_symlink()) == ("mine", False)
    path.rename(victim)
    path.symlink_to(victim)
    with pytest.raises(CredentialUnreadable):
        read_credential(path)


def test_files_that_others_can_read_are_refused(pki: Pki, tmp_path: Path) -> None:
    path = tmp_path / "x509up"
    for mode in (0o640, 0o604, 0o660, 0o611):
        write_credential(path, pki.ada)
        path.chmod(mode)
        with pytest.raises(UnsafeFile):
            read_credential(path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(UnsafeFile):
        read_credential(tmp_path / "pipe")


def test_a_certificate_and_a_key_with_passphrase(pki: Pki, tmp_path: Path) -> None:
    certificate, key = write_host(tmp_path, pki.ada, "user")
    assert read_credential(certificate, key).pem() == pki.ada.pem()
    locked = serialization.BestAvailableEncryption(b"sesame")
    key.write_bytes(pki.ada.key.private_bytes(Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
    assert read_credential(certificate, key, passphrase=lambda: b"sesame").chain == pki.ada.chain
    with pytest.raises(CredentialUnreadable, match="passphrase right"):
        read_credential(certificate, key, passphrase=lambda: b"wrong")
    with pytest.raises(CredentialUnreadable, match="needs its passphrase"):
        read_credential(certificate, key)
    key.chmod(0o644)
    with pytest.raises(UnsafeFile):
        read_credential(certificate, key)


def test_text_that_is_no_credential(pki: Pki, tmp_path: Path) -> None:
    certificate = pki.ada.leaf.public_bytes(Encoding.PEM)
    other = pki.alan.pem()
    for text, says in {
        b"": "no certificate",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n": "no certificate",
        certificate: "no private key",
        certificate + b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n": "cannot be read",
        certificate + b"-----BEGIN PRIVATE KEY-----": "no private key",
    }.items():
        with pytest.raises(CredentialUnreadable, match=says):
            parse_credential(text)
    with pytest.raises(CredentialMismatch):
        parse_credential(certificate, other)
    with pytest.raises(CredentialUnreadable, match="No such file"):
        read_credential(tmp_path / "absent")
    with pytest.raises(CredentialUnreadable, match="No such file"):
        read_credential(tmp_path / "absent", tmp_path / "absent.key")


def test_a_key_is_never_shown(pki: Pki) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    leaf = issue_proxy(pki.ada.chain, pki.ada.key, key.public_key(), lifetime=HOUR, now=NOW)
    credential = Credential((leaf,), key)
    assert parse_credential(credential.pem()).chain == (leaf,)
    assert "key" not in repr(credential)


def test_where_proxies_and_certificates_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("X509_USER_PROXY", "X509_USER_CERT", "X509_USER_KEY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", "/home/ada")
    assert proxy_path() == Path(f"/tmp/x509up_u{os.getuid()}")
    assert user_certificate_paths() == (Path("/home/ada/.globus/usercert.pem"), Path("/home/ada/.globus/userkey.pem"))
    monkeypatch.setenv("X509_USER_PROXY", "/run/proxy")
    monkeypatch.setenv("X509_USER_KEY", "/run/key")
    assert proxy_path() == Path("/run/proxy")
    assert user_certificate_paths()[1] == Path("/run/key")
