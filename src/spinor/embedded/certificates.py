"""The certificate authority and the host certificate of one machine, and what can be wrong with a certificate."""

import ipaddress
import socket
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from spinor.embedded.layout import Layout, write_private
from spinor.errors import SpinorError

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
        host = load_certificate(layout.host_certificate)
        wrong = [fault for name in _needed_names() for fault in faults(host, ca, name, at)]
        if not wrong and not _ends_soon(host, at) and not key_fault(host, layout.host_key):
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


def faults(certificate: x509.Certificate, ca: x509.Certificate, name: str, now: datetime) -> list[str]:
    """Every reason why a client that trusts this CA and asks for this name refuses the certificate, as sentences."""
    found = []
    names = subject_names(certificate)
    if not names:
        found.append("The certificate has no subjectAltName, which every client of today requires.")
    elif not any(_matches(pattern, name) for pattern in names):
        found.append(f"The certificate is for {', '.join(names)}, but not for {name}.")
    for what, each in (("certificate", certificate), ("certificate authority", ca)):
        if now > each.not_valid_after_utc:
            found.append(f"The {what} expired on {each.not_valid_after_utc:%Y-%m-%d %H:%M} UTC.")
        if now < each.not_valid_before_utc:
            found.append(f"The {what} is valid only from {each.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on.")
    try:
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        found.append(f"The certificate was not signed by {ca.subject.rfc4514_string()}.")
    return found


def key_fault(certificate: x509.Certificate, key_file: Path) -> str | None:
    """Why the key cannot serve with the certificate, or None."""
    try:
        key = _load_key(key_file)
    except CertificateUnreadable as error:
        return error.message
    if key.public_key() != certificate.public_key():
        return f"The key {key_file} belongs to another certificate."
    return None


def subject_names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return names.get_values_for_type(x509.DNSName) + addresses


def _matches(pattern: str, name: str) -> bool:
    """RFC 9525, section 6.3: a wildcard stands for exactly the leftmost label, and never for part of an address."""
    pattern, name = pattern.lower().rstrip("."), name.lower().rstrip(".")
    try:
        return ipaddress.ip_address(name) == ipaddress.ip_address(pattern)
    except ValueError:
        pass  # At least one of them is a name, so they are compared as names.
    label, _, rest = name.partition(".")
    return pattern == name or (pattern.startswith("*.") and bool(label) and pattern[2:] == rest)


def _must_replace(ca_file: Path, ca_key_file: Path, now: datetime) -> bool:
    ca = load_certificate(ca_file)
    return _ends_soon(ca, now) or key_fault(ca, ca_key_file) is not None


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
        ipaddress.ip_address(name)
        return None
    except ValueError:
        pass  # Not an address, which is what is wanted here.
    try:
        return name.encode("idna").decode().lower() or None
    except UnicodeError:
        return None


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
