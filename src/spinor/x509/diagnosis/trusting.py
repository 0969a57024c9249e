"""What a diagnosis trusts: a directory of CAs, or one file of them."""

import os
import re
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from spinor.errors import NotFound
from spinor.x509.diagnosis.substance import WEAK_SIGNATURES
from spinor.x509.dn import shown_dn
from spinor.x509.refusals import ChainCRLUnusable
from spinor.x509.trust import TrustStore

_BLOCK = re.compile(rb"-----BEGIN (?:X509 CRL|CERTIFICATE)-----.+?-----END [A-Z0-9 ]+-----", re.DOTALL)


class NoSuchFile(NotFound):
    """There is no such file, or it holds no certificate."""

    code = "no-certificate-file"


class Trust(Protocol):
    """What of a `TrustStore` a diagnosis asks for."""

    def anchors(self) -> Sequence[x509.Certificate]: ...
    def anchors_for(self, issuer: x509.Name) -> Sequence[x509.Certificate]: ...
    def crl_for(self, ca: x509.Certificate) -> x509.CertificateRevocationList | None: ...
    def policy_allows(self, ca: x509.Certificate, subject: x509.Name) -> bool: ...


class Bundle(msgspec.Struct, frozen=True):
    """One PEM file of CA certificates, and of their CRLs where somebody put them there. It has no signing policies."""

    certificates: Sequence[x509.Certificate]
    crls: Sequence[x509.CertificateRevocationList] = ()

    def anchors(self) -> Sequence[x509.Certificate]:
        return self.certificates

    def anchors_for(self, issuer: x509.Name) -> list[x509.Certificate]:
        return [anchor for anchor in self.certificates if anchor.subject == issuer]

    def crl_for(self, ca: x509.Certificate) -> x509.CertificateRevocationList | None:
        lists = [crl for crl in self.crls if crl.issuer == ca.subject]
        newest = max(lists, key=lambda crl: crl.last_update_utc, default=None)
        if newest is not None and not newest.is_signature_valid(ca.public_key()):  # type: ignore[arg-type]
            raise ChainCRLUnusable(f"The CRL of {shown_dn(ca.subject)} was not signed by that CA.")
        return newest

    def policy_allows(self, ca: x509.Certificate, subject: x509.Name) -> bool:
        return True


def read_chain(path: Path) -> list[x509.Certificate]:
    """Every certificate of a PEM file in its order, or the one of a DER file."""
    try:
        content = path.read_bytes()
        if b"-----BEGIN" in content:
            return x509.load_pem_x509_certificates(content)
        return [x509.load_der_x509_certificate(content)]
    except (FileNotFoundError, IsADirectoryError):
        raise NoSuchFile(f"There is no file {path}.") from None
    except ValueError as error:
        raise NoSuchFile(f"{path} holds no certificate that can be read ({error}).") from None


def open_trust(path: Path) -> Trust:
    """What this file or directory of CAs says."""
    if path.is_dir():
        return TrustStore(path)
    content = path.read_bytes()
    if b"-----BEGIN" not in content:
        return Bundle(read_chain(path))
    certificates, crls = [], []
    for block in _BLOCK.findall(content):
        try:
            if b"X509 CRL" in block:
                crls.append(x509.load_pem_x509_crl(block))
            else:
                certificates.append(x509.load_pem_x509_certificate(block))
        except ValueError:
            continue  # Bundles of a system hold old certificates that are no longer read; they anchor nothing here.
    if not certificates:
        raise NoSuchFile(f"{path} holds no certificate of a CA.")
    return Bundle(certificates, crls)


def usual_trust() -> Path | None:
    """Where CAs lie when nobody names a place: the grid's directory, else that of the operating system."""
    system = ssl.get_default_verify_paths()
    places = (os.environ.get("X509_CERT_DIR"), "/etc/grid-security/certificates", system.cafile, system.capath)
    return next((Path(place) for place in places if place and Path(place).exists()), None)


def is_signed_by(certificate: x509.Certificate, ca: x509.Certificate) -> bool | None:
    """Whether the CA, whose name is right, made this signature; None when nobody checks its hash any more."""
    if certificate.signature_algorithm_oid in WEAK_SIGNATURES:
        return None
    try:
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
