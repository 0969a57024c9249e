"""Host certificates with any fault that a test asks for, and TLS servers that send them."""

import contextlib
import ipaddress
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
NOW = datetime.now(UTC).replace(microsecond=0)
NAME = "se01.example.org"


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def dn(common_name: str, organization: str = "grid") -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.DOMAIN_COMPONENT, "org"),
            x509.NameAttribute(NameOID.DOMAIN_COMPONENT, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


@dataclass(kw_only=True)
class Wish:
    """What a host certificate is to be like; as it stands, nothing is wrong with it."""

    common_name: str = NAME
    dns: Sequence[str] = (NAME,)
    addresses: Sequence[str] = ()
    begins: timedelta = -timedelta(days=1)
    ends: timedelta = timedelta(days=300)
    uses: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.SERVER_AUTH,)
    signs: bool = True
    is_ca: bool = False
    key: Key = field(default_factory=new_key)
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = ()


@dataclass
class Host:
    chain: list[x509.Certificate]
    key: Key

    @property
    def certificate(self) -> x509.Certificate:
        return self.chain[0]

    def write(self, folder: Path, name: str = "host") -> tuple[Path, Path]:
        """The files of the certificate (with its chain) and of the key."""
        certificate, key = folder / f"{name}.pem", folder / f"{name}-key.pem"
        certificate.write_bytes(pem(*self.chain))
        key.touch(0o600)
        key.write_bytes(key_pem(self.key))
        return certificate, key


@dataclass
class Authority:
    certificate: x509.Certificate
    key: Key

    @staticmethod
    def root(common_name: str = "Grid CA", organization: str = "grid", key: Key | None = None) -> "Authority":
        key, name = key or new_key(), dn(common_name, organization)
        return Authority(_ca(name, name, key, key, None), key)

    def below(self, common_name: str = "Site CA", path_length: int | None = 0, **changes: timedelta) -> "Authority":
        key = new_key()
        certificate = _ca(dn(common_name), self.certificate.subject, key, self.key, path_length, **changes)
        return Authority(certificate, key)

    def host(self, wish: Wish | None = None, *above: "Authority") -> Host:
        """A host certificate; `above` are the CAs whose certificates are sent after it."""
        wanted = wish or Wish()
        certificate = host_certificate(wanted, self.certificate.subject, self.key)
        return Host([certificate, *(each.certificate for each in above)], wanted.key)

    def crl(
        self, *revoked: x509.Certificate, published: timedelta = -timedelta(hours=1), due: timedelta = timedelta(days=7)
    ) -> x509.CertificateRevocationList:
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(NOW + published)
            .next_update(NOW + due)
        )
        for each in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(each.serial_number)
            entry = entry.revocation_date(NOW - timedelta(hours=2))
            entry = entry.add_extension(x509.CRLReason(x509.ReasonFlags.key_compromise), critical=False)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self.key, hashes.SHA256())


def host_certificate(wish: Wish, issuer: x509.Name, signer: Key) -> x509.Certificate:
    builder = _builder(dn(wish.common_name), issuer, wish.key, NOW + wish.begins, NOW + wish.ends)
    names = [
        *map(x509.DNSName, wish.dns),
        *(x509.IPAddress(ipaddress.ip_address(address)) for address in wish.addresses),
    ]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if wish.uses:
        builder = builder.add_extension(x509.ExtendedKeyUsage(wish.uses), critical=False)
    builder = builder.add_extension(_usage(signs=wish.signs, certifies=wish.is_ca), critical=True)
    builder = builder.add_extension(x509.BasicConstraints(wish.is_ca, None), critical=True)
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    builder = builder.add_extension(authority, critical=False)
    for extension, critical in wish.extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(signer, hashes.SHA256())


def self_signed(wish: Wish | None = None) -> Host:
    wanted = wish or Wish()
    return Host([host_certificate(wanted, dn(wanted.common_name), wanted.key)], wanted.key)


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates)


def key_pem(key: Key) -> bytes:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption())


@contextlib.contextmanager
def serving(
    host: Host,
    folder: Path,
    *,
    wants_certificate: bool = False,
    answer: bytes = b"",
    address: str = "127.0.0.1",
    port: int = 0,
) -> Iterator[int]:
    """A TLS server of the standard library with this certificate, however bad; gives its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.load_cert_chain(*host.write(folder, "served"))
    if wants_certificate:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=pem(host.certificate).decode())
    with socket.create_server((address, port)) as listener:
        thread = threading.Thread(target=_answer, args=(listener, context, answer), daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _answer(listener: socket.socket, context: ssl.SSLContext, answer: bytes) -> None:
    while True:
        try:
            plain, _ = listener.accept()
        except OSError:
            return
        with plain:
            plain.settimeout(5)
            try:
                with context.wrap_socket(plain, server_side=True) as connection:
                    # Whoever only looks never sends anything.
                    assert bool(connection.recv(4096)) is bool(answer)
                    connection.sendall(answer)
            except OSError:
                continue  # The client refused the certificate, which is the point.


def _ca(
    name: x509.Name, issuer: x509.Name, key: Key, signer: Key, path_length: int | None, **changes: timedelta
) -> x509.Certificate:
    begins = NOW + changes.get("begins", -timedelta(days=100))
    ends = NOW + changes.get("ends", timedelta(days=1000))
    builder = _builder(name, issuer, key, begins, ends)
    builder = builder.add_extension(x509.BasicConstraints(True, path_length), critical=True)
    builder = builder.add_extension(_usage(signs=False, certifies=True), critical=True)
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    return builder.add_extension(authority, critical=False).sign(signer, hashes.SHA256())


def _builder(name: x509.Name, issuer: x509.Name, key: Key, begins: datetime, ends: datetime) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(begins).not_valid_after(ends)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)


def _usage(*, signs: bool, certifies: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signs, content_commitment=False, key_encipherment=True, data_encipherment=False,
        key_agreement=False, key_cert_sign=certifies, crl_sign=certifies, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def signed_by_openssl(authority: Authority, folder: Path, digest: str) -> Host:
    """With a hash so weak that the cryptography library signs nothing with it any more."""
    key = new_key()
    request = x509.CertificateSigningRequestBuilder().subject_name(dn(NAME)).sign(key, hashes.SHA256())
    files = {"ca": pem(authority.certificate), "ca-key": key_pem(authority.key)}
    files |= {"request": request.public_bytes(serialization.Encoding.PEM)}
    files |= {"extensions": f"subjectAltName=DNS:{NAME}\nextendedKeyUsage=serverAuth\n".encode()}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    command = ["openssl", "x509", "-req", "-in", "request", "-CA", "ca", "-CAkey", "ca-key", f"-{digest}"]
    command += ["-extfile", "extensions", "-days", "100", "-CAcreateserial"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=True)
    return Host([x509.load_pem_x509_certificate(done.stdout)], key)
