"""A test PKI: authorities, hosts, people, proxies of every wrong kind, revocation lists, an IGTF directory, VOMS.

Keys are made once per process and used again, since RSA keys take long to make and their secrecy does not matter here.
"""

import functools
import ipaddress
import os
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from spinor.x509.dn import slash_dn
from spinor.x509.proxy import Credential, PrivateKey, write_credential
from spinor.x509.proxy_rules import Language, proxy_extension

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
_PARTS = {"DC": NameOID.DOMAIN_COMPONENT, "O": NameOID.ORGANIZATION_NAME, "C": NameOID.COUNTRY_NAME}
_PARTS |= {"OU": NameOID.ORGANIZATIONAL_UNIT_NAME, "CN": NameOID.COMMON_NAME, "UID": NameOID.USER_ID}
_PARTS |= {"emailAddress": NameOID.EMAIL_ADDRESS}

Extension = tuple[x509.ExtensionType, bool]  # The value, and whether it is critical.


@functools.cache
def rsa_key(number: int = 0, bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@functools.cache
def curve_key(number: int = 0, curve: type[ec.EllipticCurve] = ec.SECP256R1) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve())


def name(text: str) -> x509.Name:
    """`DC=test,CN=Ada` as a name, written as UTF8String as real authorities do today."""
    pairs = (part.split("=", 1) for part in text.split(","))
    return x509.Name([x509.NameAttribute(_PARTS[key], value) for key, value in pairs])


def key_usage(*uses: str) -> x509.KeyUsage:
    every = ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"]
    every += ["key_cert_sign", "crl_sign", "encipher_only", "decipher_only"]
    assert set(uses) <= set(every)
    return x509.KeyUsage(**{use: use in uses for use in every})


CA_USAGE = key_usage("key_cert_sign", "crl_sign")
USER_USAGE = key_usage("digital_signature", "key_encipherment", "data_encipherment")
CLIENT = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
HOST = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])


@dataclass(frozen=True)
class Authority:
    """A certificate authority; `above` is the chain to its root, without the root itself."""

    certificate: x509.Certificate
    key: PrivateKey = field(repr=False)
    above: tuple[x509.Certificate, ...] = ()

    def sign(
        self,
        subject: x509.Name,
        key: PrivateKey,
        extensions: Iterable[Extension],
        *,
        start: datetime = NOW - DAY,
        end: datetime = NOW + 365 * DAY,
        algorithm: hashes.SHA256 | hashes.SHA384 | None = None,
    ) -> x509.Certificate:
        return signed(
            subject, key, self.certificate.subject, self.key, [*extensions, (authority_key(self.certificate), False)],
            start=start, end=end, algorithm=algorithm,
        )  # fmt: skip

    def authority(self, subject: str, *, number: int = 11, path_length: int | None = 0) -> "Authority":
        """An authority below this one."""
        key = rsa_key(number)
        certificate = self.sign(name(subject), key, ca_extensions(key, path_length))
        is_root = self.certificate.subject == self.certificate.issuer
        return Authority(certificate, key, (certificate, *(() if is_root else self.above)))

    def user(self, subject: str = "DC=test,DC=grid,CN=Ada Lovelace", *, number: int = 21) -> Credential:
        key = rsa_key(number)
        return Credential((self.sign(name(subject), key, user_extensions(key)), *self.above), key)

    def host(self, *names: str, subject: str | None = None, number: int = 31) -> Credential:
        key = rsa_key(number)
        extensions: list[Extension] = [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (key_usage("digital_signature", "key_encipherment"), True),
            (HOST, False),
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
            (x509.SubjectAlternativeName([_general_name(each) for each in names]), False),
        ]
        certificate = self.sign(name(subject or f"DC=test,DC=grid,CN={names[0]}"), key, extensions)
        return Credential((certificate, *self.above), key)

    def crl(
        self,
        revoked: Iterable[x509.Certificate] = (),
        *,
        start: datetime = NOW - DAY,
        end: datetime = NOW + 7 * DAY,
        key: PrivateKey | None = None,
    ) -> x509.CertificateRevocationList:
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
        builder = builder.last_update(start).next_update(end)
        for each in revoked:
            entry = (
                x509.RevokedCertificateBuilder().serial_number(each.serial_number).revocation_date(NOW - DAY).build()
            )
            builder = builder.add_revoked_certificate(entry)
        builder = builder.add_extension(x509.CRLNumber(1), critical=False)
        return builder.sign(key or self.key, hashes.SHA256())


def signed(
    subject: x509.Name,
    key: PrivateKey,
    issuer: x509.Name,
    issuer_key: PrivateKey,
    extensions: Iterable[Extension],
    *,
    start: datetime = NOW - DAY,
    end: datetime = NOW + 365 * DAY,
    algorithm: hashes.SHA256 | hashes.SHA384 | None = None,
) -> x509.Certificate:
    """A certificate that says whatever is asked for."""
    builder = (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .not_valid_before(start)
        .not_valid_after(end)
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical=critical)
    return builder.sign(issuer_key, algorithm or hashes.SHA256())


def authority_key(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())  # type: ignore[arg-type]


def ca_extensions(key: PrivateKey, path_length: int | None = None) -> list[Extension]:
    return [
        (x509.BasicConstraints(ca=True, path_length=path_length), True),
        (CA_USAGE, True),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
    ]


def user_extensions(key: PrivateKey) -> list[Extension]:
    return [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (USER_USAGE, True),
        (CLIENT, False),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
    ]


def root_authority(subject: str = "DC=test,CN=Test Root CA", *, number: int = 1) -> Authority:
    key = rsa_key(number)
    certificate = signed(name(subject), key, name(subject), key, ca_extensions(key), end=NOW + 3650 * DAY)
    return Authority(certificate, key)


def forged_proxy(
    credential: Credential,
    *,
    language: str = Language.INHERIT_ALL,
    path_length: int | None = None,
    critical: bool = True,
    subject: x509.Name | None = None,
    extensions: Sequence[Extension] = (),
    usage: x509.KeyUsage | None = USER_USAGE,
    end: datetime = NOW + DAY / 2,
    signer: PrivateKey | None = None,
    info: x509.ExtensionType | None = None,
    number: int = 41,
) -> Credential:
    """A proxy below the credential, right in every respect but for what is asked for."""
    key = rsa_key(number)
    own = proxy_extension(language, path_length).value if info is None else info
    every = [*extensions, (own, critical), (authority_key(credential.leaf), False)]
    if usage is not None:
        every.append((usage, True))
    proxy = signed(
        subject or below(credential.leaf.subject, str(1000 + number)), key,
        credential.leaf.subject, signer or credential.key, every, start=NOW - timedelta(minutes=5), end=end,
    )  # fmt: skip
    return Credential((proxy, *credential.chain), key)


def below(subject: x509.Name, *added: str) -> x509.Name:
    """The subject with CNs added."""
    rdns = [x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in added]
    return x509.Name([*subject.rdns, *rdns])


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


# ------------------------------------------------------------------------------ files


def name_hashes(certificate: x509.Certificate) -> list[str]:
    """The two names under which OpenSSL and older tools look for an authority."""
    pem = certificate.public_bytes(Encoding.PEM)
    done = subprocess.run(
        ["openssl", "x509", "-noout", "-subject_hash", "-subject_hash_old"], input=pem, capture_output=True, check=True
    )
    return done.stdout.decode().split()


def write_authority(
    directory: Path,
    authority: Authority,
    *,
    crl: x509.CertificateRevocationList | None = None,
    signing_policy: str | None = None,
    namespaces: str | None = None,
) -> str:
    """Put an authority into an IGTF directory, under both of its hashes; the first of these is returned."""
    directory.mkdir(parents=True, exist_ok=True)
    found = name_hashes(authority.certificate)
    for each in found:
        (directory / f"{each}.0").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
        if crl is not None:
            (directory / f"{each}.r0").write_bytes(crl.public_bytes(Encoding.PEM))
        if signing_policy is not None:
            (directory / f"{each}.signing_policy").write_text(signing_policy)
        if namespaces is not None:
            (directory / f"{each}.namespaces").write_text(namespaces)
    return found[0]


def signing_policy(authority: Authority, *patterns: str) -> str:
    listed = " ".join(f'"{pattern}"' for pattern in patterns)
    return (
        f"access_id_CA  X509    '{slash_dn(authority.certificate.subject)}'\n"
        f"pos_rights    globus  CA:sign\ncond_subjects globus  '{listed}'\n"
    )


def write_host(directory: Path, host: Credential, stem: str = "host") -> tuple[Path, Path]:
    """The certificate (with its chain) and key of a host as files that servers want: (certificate, key)."""
    directory.mkdir(parents=True, exist_ok=True)
    certificate, key = directory / f"{stem}cert.pem", directory / f"{stem}key.pem"
    certificate.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in host.chain))
    pem = host.pem()
    begin, end = pem.index(b"-----BEGIN RSA"), pem.index(b"-----END RSA PRIVATE KEY-----") + 30
    with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(pem[begin:end])
    return certificate, key


def write_lsc(vomsdir: Path, vo: str, host: Credential, root: Authority) -> Path:
    """Say in vomsdir that this host speaks for the VO."""
    folder = vomsdir / vo
    folder.mkdir(parents=True, exist_ok=True)
    chain = [host.leaf.subject, *(each.subject for each in host.chain[1:]), root.certificate.subject]
    file = folder / f"{host.leaf.subject.rdns[-1].rfc4514_string().removeprefix('CN=')}.lsc"
    file.write_text("\n".join(map(slash_dn, chain)) + "\n")
    return file


@dataclass(frozen=True)
class Pki:
    """A usual PKI in a folder: `certificates` as IGTF writes it, `vomsdir`; a root, an authority below it, people."""

    home: Path
    root: Authority
    authority: Authority
    ada: Credential
    alan: Credential
    host: Credential  # For localhost and 127.0.0.1.
    voms_host: Credential

    @property
    def certificates(self) -> Path:
        return self.home / "certificates"

    @property
    def vomsdir(self) -> Path:
        return self.home / "vomsdir"

    def write_proxy(self, credential: Credential, stem: str = "proxy") -> Path:
        path = self.home / f"{stem}.pem"
        write_credential(path, credential)
        return path


def make_pki(home: Path, vo: str = "testvo") -> Pki:
    """Make it, and write what is public into `home`."""
    root = root_authority()
    authority = root.authority("DC=test,CN=Test Issuing CA")
    pki = Pki(
        home=home,
        root=root,
        authority=authority,
        ada=authority.user(),
        alan=authority.user("DC=test,DC=grid,CN=Alan Turing", number=22),
        host=authority.host("localhost", "127.0.0.1"),
        voms_host=authority.host("voms.test", "localhost", number=32),
    )
    write_authority(
        pki.certificates, root, crl=root.crl(),
        signing_policy=signing_policy(root, "/DC=test/CN=*"),
        namespaces='TO Issuer SELF PERMIT Subject "/DC=test/CN=.*"\n',
    )  # fmt: skip
    write_authority(
        pki.certificates, authority, crl=authority.crl(),
        signing_policy=signing_policy(authority, "/DC=test/DC=grid/*"),
        namespaces='TO Issuer SELF \\\n  PERMIT Subject "/DC=test/DC=grid/.*"\n',
    )  # fmt: skip
    write_lsc(pki.vomsdir, vo, pki.voms_host, root)
    return pki
