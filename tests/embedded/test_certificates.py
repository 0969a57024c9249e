import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from spinor.embedded.certificates import (
    CertificateUnreadable,
    ensure_certificates,
    host_faults,
    load_certificate,
)
from spinor.embedded.layout import Layout
from spinor.x509.names import host_names

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture
def made(tmp_path: Path) -> Layout:
    place = Layout(tmp_path / "data")
    place.make()
    assert ensure_certificates(place, NOW)
    return place


def test_names_usage_and_lifetime(made: Layout) -> None:
    host, ca = load_certificate(made.host_certificate), load_certificate(made.ca)
    for name in ("localhost", "127.0.0.1", "::1", socket.gethostname()):
        assert host_names(host).cover(name)
    usage = host.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    authority = host.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    subject = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert authority.key_identifier == subject.key_identifier
    assert ca.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    assert not host.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert host.not_valid_after_utc - host.not_valid_before_utc == timedelta(days=397)
    assert host_faults(made, ("localhost", "127.0.0.1", "::1"), NOW) == []


def test_keys_are_private(made: Layout) -> None:
    keys = list(made.certificates.glob("*-key.pem"))
    assert len(keys) == 2
    assert {key.stat().st_mode & 0o777 for key in keys} == {0o600}


def test_nothing_is_made_twice_until_thirty_days_are_left(made: Layout) -> None:
    ca = made.ca.read_bytes()
    assert not ensure_certificates(made, NOW + timedelta(days=360))
    assert ensure_certificates(made, NOW + timedelta(days=368))
    assert made.ca.read_bytes() == ca
    assert ensure_certificates(made, NOW + timedelta(days=3630))
    assert made.ca.read_bytes() != ca


def test_each_fault_is_told_with_its_rule(made: Layout, tmp_path: Path) -> None:
    def codes(place: Layout, now: datetime = NOW, name: str = "localhost") -> list[str]:
        return [fault.code for fault in host_faults(place, [name], now)]

    assert codes(made, name="grid.example.org") == ["name-missing"]
    assert codes(made, NOW + timedelta(days=400)) == ["expired"]
    assert codes(made, NOW - timedelta(days=1)) == ["not-yet-valid", "not-yet-valid"]  # Its authority, too.
    other = Layout(tmp_path / "other")
    other.make()
    ensure_certificates(other, NOW)
    own_key = made.host_key.read_bytes()
    made.host_key.write_bytes(other.host_key.read_bytes())
    assert codes(made) == ["key-foreign"]
    made.host_key.write_bytes(own_key)
    made.ca.write_bytes(other.ca.read_bytes())
    assert codes(made) == ["ca-unknown"]
    # The authority's own certificate has no subjectAltName.
    made.host_certificate.write_bytes(other.ca.read_bytes())
    assert "no-names" in codes(made)


def test_a_foreign_key_makes_a_new_certificate(made: Layout) -> None:
    made.host_key.write_bytes((made.certificates / "ca-key.pem").read_bytes())
    assert ensure_certificates(made, NOW)
    assert host_faults(made, ["localhost"], NOW) == []


def test_a_broken_file_is_named(made: Layout) -> None:
    made.ca.write_text("not a certificate")
    with pytest.raises(CertificateUnreadable, match=str(made.ca)):
        ensure_certificates(made, NOW)
