"""The certificate authority and the host certificate of one machine."""

import ipaddress
import socket
import threading
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from spinor.embedded.layout import Layout, write_private
from spinor.errors import SpinorError
from spinor.x509.diagnosis import Bundle, Case, Finding, diagnose, key_findings
from spinor.x509.names import NotAName, asked_name

CA_LIFETIME = timedelta(days=3652)
# Browsers refuse host certificates that live longer than 398 days.
HOST_LIFETIME = timedelta(days=397)
RENEW_BEFORE_END = timedelta(days=30)
# Clocks of clients may be a little behind ours.
_CLOCK_ALLOWANCE = timedelta(minutes=5)


class CertificateUnreadable(SpinorError):
    """A certificate or key file cannot be read; remove the directory tls and run `spinor up` to make new ones."""

    code = "certificate-unreadable"


def ensure_certificates(layout: Layout, now: datetime | None = None) -> bool:
    """Make or renew what is missing, ends within 30 days, or lacks this host's name. True when the host's is new."""
    at = now or datetime.now(UTC)
    ca_key_file = layout.certificates / "ca-key.pem"
    if not (layout.ca.exists() and ca_key_file.exists()) or _must_replace(layout.ca, ca_key_file, at):
        ca_key, ca = _make_ca(at)
        write_private(ca_key_file, _key_pem(ca_key))
        write_private(layout.ca, _pem(ca))
        layout.ca.chmod(0o644)
    ca = load_certificate(layout.ca)
    if layout.host_certificate.exists() and layout.host_key.exists():
        wrong = host_faults(layout, _needed_names(), at)
        if not wrong and not _ends_soon(load_certificate(layout.host_certificate), at):
            return False
    host_key = ec.generate_private_key(ec.SECP256R1())
    host = _make_host(host_key, ca, _load_key(ca_key_file), at)
    write_private(layout.host_key, _key_pem(host_key))
    write_private(layout.host_certificate, _pem(host))
    layout.host_certificate.chmod(0o644)
    return True


def load_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CertificateUnreadable(
            f"The certificate {path} cannot be read; remove it and run `spinor up` to make a new one."
        ) from error


def host_faults(layout: Layout, names: Iterable[str], now: datetime) -> list[Finding]:
    """Every reason why a client that trusts our CA and asks for these names refuses the host certificate."""
    host, ca = load_certificate(layout.host_certificate), load_certificate(layout.ca)
    trust = Bundle([ca])
    cases = [Case(chain=[host], now=now, name=name, trust=trust, trust_place=str(layout.ca)) for name in names]
    found = [each for case in cases for each in diagnose(case) if each.is_fault]
    return [*dict.fromkeys(found), *_key_faults(host, layout.host_key)]


def _key_faults(certificate: x509.Certificate, key_file: Path) -> list[Finding]:
    """Who can read the key does not matter here: a new one in the same place would change nothing."""
    return [each for each in key_findings(certificate, key_file) if each.is_fault and each.code != "key-exposed"]


def _must_replace(ca_file: Path, ca_key_file: Path, now: datetime) -> bool:
    ca = load_certificate(ca_file)
    return _ends_soon(ca, now) or bool(_key_faults(ca, ca_key_file))


def _ends_soon(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_after_utc - now < RENEW_BEFORE_END


def _needed_names() -> list[str]:
    """The names a certificate must have today. The full name is left out: the resolver may know it only sometimes."""
    own = _dns_name(socket.gethostname())
    return ["localhost", "127.0.0.1", "::1", *([own] if own else [])]


def _all_names() -> list[x509.GeneralName]:
    full: list[str] = []
    # A resolver without network may think for minutes, and the full name is not worth waiting for.
    asking = threading.Thread(target=lambda: full.append(socket.getfqdn()), daemon=True)
    asking.start()
    asking.join(timeout=1.0)
    names = dict.fromkeys(["localhost", *filter(None, map(_dns_name, [socket.gethostname(), *full]))])
    addresses = [x509.IPAddress(ipaddress.ip_address(address)) for address in ("127.0.0.1", "::1")]
    return [*map(x509.DNSName, names), *addresses]


def _dns_name(name: str) -> str | None:
    """The name as it stands in certificates; None for what is no name of the DNS."""
    try:
        asked = asked_name(name)
    except NotAName:
        return None
    return asked if isinstance(asked, str) else None


def _make_ca(now: datetime) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    # The serial number in the name keeps two machines' authorities apart in one browser.
    name = _name(f"Spinor CA {x509.random_serial_number():040x}"[:26])
    builder = _builder(name, name, key.public_key(), now, CA_LIFETIME)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), False)
    return key, builder.sign(key, hashes.SHA256())


def _make_host(
    key: ec.EllipticCurvePrivateKey, ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey, now: datetime
) -> x509.Certificate:
    builder = _builder(_name("localhost"), ca.subject, key.public_key(), now, HOST_LIFETIME)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(x509.SubjectAlternativeName(_all_names()), critical=False)
    builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), False)
    return builder.sign(ca_key, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_ALLOWANCE)
        .not_valid_after(now - _CLOCK_ALLOWANCE + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption())


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise CertificateUnreadable(
            f"The key {path} cannot be read; remove it and run `spinor up` to make a new one."
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateUnreadable(f"The key {path} is not an elliptic-curve key.")
    return key
