"""The online CA: short certificates for people who have none, for the services that install it.

Its key and certificate are one file of mode 0600, outside of the database; so are those of the attribute authority that
it certifies. Distinct from the authority that `spinor up` makes for host certificates.
"""

import os
import re
import secrets
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from spinor.errors import SpinorError
from spinor.identity.keys import write_private
from spinor.x509.dn import slash_dn
from spinor.x509.proxy import Credential, PublicKey, read_credential

CA_LIFETIME = timedelta(days=3652)
CRL_LIFETIME = timedelta(days=7)
CRL_RENEWED_AFTER = timedelta(days=1)
_AUTHORITY_LIFETIME = timedelta(days=397)
_AUTHORITY_RENEWED_BEFORE = timedelta(days=30)
_CLOCK_ALLOWANCE = timedelta(minutes=5)
_RSA_BITS = 3072
_LONGEST_NAME = 40


class OnlineCAElsewhere(SpinorError):
    """The online CA's key is not the one that this service has used before."""

    code = "online-ca-elsewhere"


@dataclass(frozen=True)
class OnlineCA:
    """The authority with its key. `url` is the service's, where its list is published."""

    credential: Credential
    directory: Path
    url: str

    @staticmethod
    def open(directory: Path, url: str, host: str | None, now: datetime) -> "OnlineCA | None":
        """Read it. With a host's name it is made when it is not there; of several, the first one's counts."""
        path = directory / "ca.pem"
        if not path.exists():
            if host is None:
                return None
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            _write_first(path, _make(host, now).pem())
        return OnlineCA(read_credential(path), directory, url)

    @property
    def certificate(self) -> x509.Certificate:
        return self.credential.leaf

    @property
    def dn(self) -> str:
        return slash_dn(self.certificate.subject)

    @property
    def fingerprint(self) -> bytes:
        return self.certificate.fingerprint(hashes.SHA256())

    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, public_key: PublicKey, common_name: str, lifetime: timedelta, now: datetime) -> x509.Certificate:
        """A person's certificate, for clients only."""
        subject = _within(self._domain(), NameOID.ORGANIZATIONAL_UNIT_NAME, "People", common_name)
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        return self._issue(public_key, subject, [usage], lifetime, now)

    def attribute_authority(self, host: str, now: datetime) -> Credential:
        """The credential that signs VOMS attributes for VOs without a server; made, and renewed in time."""
        path = self.directory / "attribute-authority.pem"
        if path.exists():
            found = read_credential(path)
            if found.chain[-1] == self.certificate and found.leaf.not_valid_after_utc - now > _AUTHORITY_RENEWED_BEFORE:
                return Credential(found.chain[:1], found.key)
        key = rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS)
        subject = _within(self._domain(), NameOID.ORGANIZATIONAL_UNIT_NAME, "Services", f"voms {host}")
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH])
        name = x509.SubjectAlternativeName([x509.DNSName(host)])
        leaf = self._issue(key.public_key(), subject, [usage, name], _AUTHORITY_LIFETIME, now)
        write_private(path, Credential((leaf, self.certificate), key).pem())
        return Credential((leaf,), key)

    def lsc(self, host: str, now: datetime) -> str:
        """Whom services trust with the VO's attributes: the content of vomsdir/<vo>/<host>.lsc."""
        return f"{slash_dn(self.attribute_authority(host, now).leaf.subject)}\n{self.dn}\n"

    def crl(self, revoked: Sequence[tuple[int, datetime]], number: int, now: datetime) -> bytes:
        """The revocation list, in DER."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now - _CLOCK_ALLOWANCE)
            .next_update(now + CRL_LIFETIME)
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(self._key_identifier(), critical=False)
        )
        for serial, at in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at)
            builder = builder.add_revoked_certificate(entry.build())
        signed = builder.sign(self._key(), hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.DER)

    def signing_policy(self) -> str:
        subjects = " ".join(f'"{prefix}/*"' for prefix in self._prefixes())
        return (
            f"access_id_CA   X509    '{self.dn}'\npos_rights     globus  CA:sign\ncond_subjects  globus  '{subjects}'\n"
        )

    def namespaces(self) -> str:
        permitted = [f'TO Issuer "{self.dn}" \\\n  PERMIT Subject "{prefix}/.*"\n' for prefix in self._prefixes()]
        return "".join(permitted)

    def _prefixes(self) -> list[str]:
        domain = slash_dn(x509.Name(self._domain()))
        return [f"{domain}/OU=People", f"{domain}/OU=Services"]

    def _domain(self) -> list[x509.NameAttribute[str]]:
        return [attribute for attribute in self.certificate.subject if attribute.oid == NameOID.DOMAIN_COMPONENT]  # type: ignore[misc]

    def _key(self) -> rsa.RSAPrivateKey:
        assert isinstance(self.credential.key, rsa.RSAPrivateKey)
        return self.credential.key

    def _key_identifier(self) -> x509.AuthorityKeyIdentifier:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key().public_key())

    def _issue(
        self,
        public_key: PublicKey,
        subject: x509.Name,
        extensions: Sequence[x509.ExtensionType],
        lifetime: timedelta,
        now: datetime,
    ) -> x509.Certificate:
        not_after = min(now + lifetime, self.certificate.not_valid_after_utc)
        builder = _builder(subject, self.certificate.subject, public_key, now, not_after)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(of=public_key), critical=True)
        builder = builder.add_extension(self._key_identifier(), critical=False)
        where = x509.DistributionPoint([x509.UniformResourceIdentifier(f"{self.url}/api/x509/crl")], None, None, None)
        builder = builder.add_extension(x509.CRLDistributionPoints([where]), critical=False)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self._key(), hashes.SHA256())


def proposed_name(full_name: str, user: str) -> str:
    """A name for a certificate: plain letters, and a number that nobody else has."""
    letters = unicodedata.normalize("NFKD", full_name).encode("ascii", "ignore").decode()
    words = " ".join(re.sub(r"[^A-Za-z0-9.' -]", " ", letters).split())
    return f"{(words or user)[:_LONGEST_NAME].strip()} {secrets.token_hex(5)}"


def _write_first(path: Path, content: bytes) -> None:
    """The file, complete and of mode 0600; the one that is there already stays."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    write_private(draft, content)
    try:
        os.link(draft, path)
    except FileExistsError:
        pass  # Another process was first, and its authority is the one.
    finally:
        draft.unlink()


def _make(host: str, now: datetime) -> Credential:
    """RSA, since part of the grid's software knows nothing else."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS)
    domain = [x509.NameAttribute(NameOID.DOMAIN_COMPONENT, label) for label in _labels(host)]
    # The number keeps two authorities of one name apart.
    common_name = x509.NameAttribute(NameOID.COMMON_NAME, f"Spinor Online CA {secrets.token_hex(4)}")
    name = x509.Name([*domain, common_name])
    builder = _builder(name, name, key.public_key(), now, now + CA_LIFETIME)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(of=None), critical=True)
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), False)
    return Credential((builder.sign(key, hashes.SHA256()),), key)


def _labels(host: str) -> list[str]:
    """spinor.example.org is /DC=org/DC=example/DC=spinor; an address is one part."""
    if ":" in host or host.replace(".", "").isdecimal():
        return [host]
    return host.split(".")[::-1]


def _within(
    domain: Sequence[x509.NameAttribute[str]], kind: x509.ObjectIdentifier, unit: str, common_name: str
) -> x509.Name:
    return x509.Name([*domain, x509.NameAttribute(kind, unit), x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PublicKey, now: datetime, not_after: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_ALLOWANCE)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, of: PublicKey | None) -> x509.KeyUsage:
    """Of a person's key, or without one of the authority's."""
    return x509.KeyUsage(
        digital_signature=of is not None, key_encipherment=isinstance(of, rsa.RSAPublicKey),
        key_cert_sign=of is None, crl_sign=of is None, content_commitment=False, data_encipherment=False,
        key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
