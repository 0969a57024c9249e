"""A certificate authority for a session of tests, and the directory in which grid software finds it."""

import contextlib
import ipaddress
import ssl
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.servers.process import workplace

_LIFETIME = timedelta(days=30)
_SIGNING_POLICY = """access_id_CA X509 '{dn}'
pos_rights globus CA:sign
cond_subjects globus '"/DC=test/DC=spinor/*"'
"""


class Credential(NamedTuple):
    """A certificate and its key (PKCS#8, unencrypted, mode 0600), and the name as grid software writes it."""

    certificate: Path
    key: Path
    dn: str


class Authority:
    """Its keys are RSA, since part of the grid's software knows nothing else."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.directory = place / "certificates"
        self.ca_file = place / "ca.pem"
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._name = _name("CN=Test CA")
        self.dn = _slashed(self._name)
        self._ca = self._certify(self._name, self._key.public_key(), _ca_extensions())
        self.ca_file.write_bytes(_pem(self._ca))
        self._fill_directory()

    def host(self, *names: str) -> Credential:
        """A server's certificate for localhost, the addresses of loopback, and these names."""
        everything = dict.fromkeys(["localhost", "127.0.0.1", "::1", *names])
        alternatives = x509.SubjectAlternativeName([_general(name) for name in everything])
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        return self._issue(f"OU=Hosts,CN={names[0] if names else 'localhost'}", [(alternatives, False), (usage, False)])

    def user(self, common_name: str) -> Credential:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        return self._issue(f"OU=People,CN={common_name}", [(usage, False)])

    def context(self) -> ssl.SSLContext:
        """What a client trusts that trusts this authority only."""
        return ssl.create_default_context(cafile=self.ca_file)

    def _issue(self, name: str, extensions: list[tuple[x509.ExtensionType, bool]]) -> Credential:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        certificate = self._certify(_name(name), key.public_key(), [*_leaf_extensions(), *extensions])
        stem = self.place / f"{certificate.serial_number:x}"
        files = Credential(stem.with_suffix(".pem"), stem.with_suffix(".key"), _slashed(certificate.subject))
        files.certificate.write_bytes(_pem(certificate))
        files.key.touch(mode=0o600)
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        files.key.write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
        return files

    def _certify(
        self, subject: x509.Name, key: rsa.RSAPublicKey, extensions: list[tuple[x509.ExtensionType, bool]]
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + _LIFETIME)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self._key, hashes.SHA256())

    def _fill_directory(self) -> None:
        """As IGTF distributes it: each file under the hashes of today's OpenSSL and of the one before 1.0."""
        self.directory.mkdir()
        now = datetime.now(UTC)
        revoked = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._name)
            .last_update(now - timedelta(minutes=5))
            .next_update(now + _LIFETIME)
            .add_extension(x509.CRLNumber(1), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        for option in ("-subject_hash", "-subject_hash_old"):
            asked = ["openssl", "x509", "-noout", option, "-in", str(self.ca_file)]
            name = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
            (self.directory / f"{name}.0").write_bytes(_pem(self._ca))
            (self.directory / f"{name}.r0").write_bytes(revoked.public_bytes(serialization.Encoding.PEM))
            (self.directory / f"{name}.signing_policy").write_text(_SIGNING_POLICY.format(dn=self.dn))


@contextlib.contextmanager
def authority() -> Iterator[Authority]:
    with workplace("authority") as place:
        yield Authority(place)


def _name(tail: str) -> x509.Name:
    oids = {"OU": NameOID.ORGANIZATIONAL_UNIT_NAME, "CN": NameOID.COMMON_NAME}
    parts = [part.partition("=") for part in tail.split(",")]
    domains = [x509.NameAttribute(NameOID.DOMAIN_COMPONENT, word) for word in ("test", "spinor")]
    return x509.Name([*domains, *(x509.NameAttribute(oids[kind], value) for kind, _, value in parts)])


def _slashed(name: x509.Name) -> str:
    return "".join(f"/{part.rfc4514_attribute_name}={part.value!s}" for part in name)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _ca_extensions() -> list[tuple[x509.ExtensionType, bool]]:
    return [(x509.BasicConstraints(ca=True, path_length=None), True), (_usage(signs_certificates=True), True)]


def _leaf_extensions() -> list[tuple[x509.ExtensionType, bool]]:
    return [(x509.BasicConstraints(ca=False, path_length=None), True), (_usage(signs_certificates=False), True)]


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=not signs_certificates,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
