"""VOMS attributes: which groups and roles of a VO a person has, signed by the VO's server for one certificate.

Where VOMS' own libraries look only at the certificate's chain, here the attribute certificate's signature, its holder,
its times, its targets and the server's `.lsc` file are all verified before a single attribute is believed.
"""

import re
import secrets
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from spinor.errors import BadInput
from spinor.x509.chain import Purpose, VerifiedChain, verify_chain
from spinor.x509.dn import canonical_dn, shown_dn, slash_dn
from spinor.x509.proxy import CLOCK_ALLOWANCE, Credential
from spinor.x509.refusals import (
    MALFORMED,
    ChainRefused,
    VomsCriticalExtension,
    VomsExpired,
    VomsHolder,
    VomsIssuer,
    VomsMalformed,
    VomsNotYetValid,
    VomsSignature,
    VomsTarget,
    VomsUnknownVO,
    VomsVO,
    VomsWeakSignature,
)
from spinor.x509.trust import CRLPolicy, TrustStore
from spinor.x509.voms_client import VomsServer, read_vomses, request_attributes
from spinor.x509.voms_format import (
    ATTRIBUTE_CERTIFICATES,
    AttributeCertificate,
    Draft,
    parse_attribute_certificate,
    parse_extension,
    same_name,
    signed,
    unsigned,
    wrapped,
)

__all__ = [
    "AttributeCertificate",
    "Attributes",
    "VomsServer",
    "attribute_certificates",
    "make_attributes",
    "parse_attribute_certificate",
    "read_vomses",
    "request_attributes",
    "verify_attributes",
    "with_attributes",
]

# VO names have digits, dots, hyphens and underscores, and become part of a path here.
_VO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_FQAN = re.compile(
    r"(?P<group>(?:/[A-Za-z0-9._~-]+)+)(?:/Role=(?P<role>[A-Za-z0-9._~-]+))?(?:/Capability=(?P<cap>[^/]*))?"
)
_NEXT_CHAIN = re.compile(r"^-+ *NEXT CHAIN *-+$", re.MULTILINE)
CLOCK_SKEW = timedelta(seconds=60)  # VOMS servers let attributes begin at the very second of the request.
_LARGEST_LSC_BYTES = 65536
_HASHES: dict[str, type[hashes.SHA256 | hashes.SHA384 | hashes.SHA512]] = {
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}
_WEAK = ("md2", "md5", "sha1")


@dataclass(frozen=True)
class Attributes:
    """What a VO's server says of a person, verified."""

    vo: str
    fqans: tuple[str, ...]  # In the server's order, the primary first; /Role=NULL and /Capability=NULL are left out.
    uri: str  # Of the server: host:port.
    not_after: datetime


def attribute_certificates(certificate: x509.Certificate) -> list[AttributeCertificate]:
    """The attribute certificates in a proxy, unverified; none when it has no VOMS extension."""
    try:
        extensions = certificate.extensions
    except MALFORMED as error:
        raise VomsMalformed(f"The certificate's extensions are malformed: {str(error)[:200]}") from None
    for extension in extensions:
        if extension.oid == ATTRIBUTE_CERTIFICATES:
            assert isinstance(extension.value, x509.UnrecognizedExtension)
            return parse_extension(extension.value.value)
    return []


def verify_attributes(
    chain: VerifiedChain,
    trust: TrustStore,
    vomsdir: Path,
    now: datetime,
    *,
    targets: Collection[str] = (),
    crl: CRLPolicy = CRLPolicy.IF_PRESENT,
) -> list[Attributes]:
    """The attributes in a verified chain, those nearest to its leaf first; none when it has none.

    A single attribute certificate that does not hold refuses them all. `targets` are this service's names.
    """
    found = []
    for proxy in chain.path[: chain.proxy_depth]:
        for each in attribute_certificates(proxy):
            _check_alone(each, chain.end_entity, now, targets)
            _check_issuer(each, trust, vomsdir, now, crl)
            found.append(Attributes(each.vo, tuple(map(_plain, each.fqans)), each.uri, each.not_after))
    return found


def _check_alone(each: AttributeCertificate, holder: x509.Certificate, now: datetime, targets: Collection[str]) -> None:
    if each.unknown_critical:
        raise VomsCriticalExtension(
            f"The VOMS attributes have the critical extension {each.unknown_critical}, unknown here."
        )
    # RFC 5755 wants the name of the holder's authority here; VOMS writes the holder's own.
    is_named = same_name(each.holder_name, holder.issuer) or same_name(each.holder_name, holder.subject)
    if not is_named or each.holder_serial != holder.serial_number:
        raise VomsHolder(f"The VOMS attributes were not issued for the certificate {shown_dn(holder.subject)}.")
    if now > each.not_after:
        raise VomsExpired(f"The VOMS attributes of {each.vo[:100]} expired on {each.not_after:%Y-%m-%d %H:%M:%S} UTC.")
    if now + CLOCK_SKEW < each.not_before:
        raise VomsNotYetValid(f"The VOMS attributes are valid only from {each.not_before:%Y-%m-%d %H:%M:%S} UTC on.")
    if each.targets is not None and not set(each.targets) & set(targets):
        raise VomsTarget("The VOMS attributes are meant for other services than this one.")
    if not _VO.fullmatch(each.vo):
        raise VomsMalformed("The VOMS attributes name a VO whose name is not one.")
    for fqan in each.fqans:
        match = _FQAN.fullmatch(fqan)
        if match is None:
            raise VomsMalformed("The VOMS attributes hold text that is no FQAN.")
        if match["group"].split("/")[1] != each.vo:
            raise VomsVO(f"The VOMS server of {each.vo} has signed the attribute {fqan[:200]} of another VO.")
    if not each.fqans:
        raise VomsMalformed("The VOMS attributes hold no FQAN.")


def _check_issuer(each: AttributeCertificate, trust: TrustStore, vomsdir: Path, now: datetime, crl: CRLPolicy) -> None:
    """The signer is a host that the authorities vouch for, that an .lsc file names, and that really has signed."""
    if not each.certificates:
        raise VomsIssuer("The VOMS attributes do not bring the certificate of the server that has signed them.")
    accepted = list(_lsc_chains(vomsdir, each.vo))
    if not accepted:
        raise VomsUnknownVO(f"There is no .lsc file for the VO {each.vo} in {vomsdir / each.vo}.")
    try:
        verified = verify_chain(each.certificates, trust, now, crl, purpose=Purpose.ANY)
    except ChainRefused as error:
        raise VomsIssuer(
            f"The certificate of the server that signed the VOMS attributes does not hold: {error}"
        ) from None
    signer = verified.leaf
    if not same_name(each.issuer_name, signer.subject):
        raise VomsIssuer("The VOMS attributes name another issuer than the certificate they bring.")
    names = [slash_dn(certificate.subject) for certificate in verified.path]
    if verified.proxy_depth or not any(len(lsc) >= 2 and lsc == names[: len(lsc)] for lsc in accepted):
        raise VomsIssuer(f"{names[0]} (of {names[1]}) may not sign for the VO {each.vo}: no .lsc file names it.")
    _check_signature(each, signer)


def _check_signature(each: AttributeCertificate, signer: x509.Certificate) -> None:
    digest, _, family = each.algorithm.partition("_")
    if digest in _WEAK:
        raise VomsWeakSignature(f"The VOMS attributes are signed with {digest.upper()}, which can be forged.")
    key = signer.public_key()
    try:
        algorithm = _HASHES[digest]()
        match key, family:
            case rsa.RSAPublicKey(), "rsa":
                key.verify(each.signature, each.signed_der, padding.PKCS1v15(), algorithm)
            case ec.EllipticCurvePublicKey(), "ecdsa":
                key.verify(each.signature, each.signed_der, ec.ECDSA(algorithm))
            case _:
                raise VomsSignature("The VOMS attributes are signed in a way that the server's key is not for.")
    except (InvalidSignature, KeyError, ValueError):
        raise VomsSignature("The signature of the VOMS attributes is wrong: they were forged or changed.") from None


def _lsc_chains(vomsdir: Path, vo: str) -> Iterator[list[str]]:
    """Of each .lsc file of the VO the names from a server up to an authority."""
    for path in sorted((vomsdir / vo).glob("*.lsc")):
        try:
            with path.open("rb") as file:
                text = file.read(_LARGEST_LSC_BYTES).decode()
        except (OSError, ValueError):
            continue  # It names nobody, so nobody is accepted because of it.
        for part in _NEXT_CHAIN.split(text):
            lines = [canonical_dn(line) for line in part.splitlines() if line.strip() and line.strip()[0] != "#"]
            if lines:
                yield lines


def _plain(fqan: str) -> str:
    match = _FQAN.fullmatch(fqan)
    assert match is not None
    role, capability = match["role"], match["cap"]
    text: str = match["group"]
    if role and role != "NULL":
        text += f"/Role={role}"
    if capability and capability != "NULL":
        text += f"/Capability={capability}"
    return text


# ------------------------------------------------------------------------------ making


def make_attributes(
    vo: str,
    fqans: Sequence[str],
    holder: x509.Certificate,
    signer: Credential,
    *,
    uri: str,
    lifetime: timedelta,
    now: datetime,
    targets: Sequence[str] = (),
) -> bytes:
    """An attribute certificate (DER) for the end-entity certificate `holder`, signed by a host of the VO.

    For VOs without a VOMS server, and for tests. `uri` is host:port; the first FQAN is the primary one.
    """
    if not fqans or not _VO.fullmatch(vo):
        raise BadInput(f"{vo!r} must be the name of a VO, with at least one FQAN such as /{vo}.")
    for fqan in fqans:
        match = _FQAN.fullmatch(fqan)
        if match is None or match["group"].split("/")[1] != vo:
            raise BadInput(f"{fqan!r} is no FQAN of the VO {vo}, such as /{vo}/group/Role=production.")
    # VOMS' library refuses times with fractions of a second.
    not_after = min(now + lifetime, holder.not_valid_after_utc, signer.not_after).replace(microsecond=0)
    if not_after <= now:
        raise VomsExpired(f"The certificate of {shown_dn(holder.subject)} or of the VOMS host has expired.")
    not_before = max(now - CLOCK_ALLOWANCE, signer.leaf.not_valid_before_utc).replace(microsecond=0)
    key = signer.key
    match key:
        case rsa.RSAPrivateKey():
            algorithm = "sha256_rsa"
        case ec.EllipticCurvePrivateKey():
            algorithm = "sha256_ecdsa"
        case _:
            raise BadInput("The key of a VOMS host must be RSA or on an elliptic curve.")
    draft = Draft(
        holder, signer.leaf, secrets.randbits(63) | 1, not_before, not_after, vo, uri,
        [_full(fqan) for fqan in fqans], targets,
    )  # fmt: skip
    to_sign = unsigned(draft, algorithm)
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(to_sign, padding.PKCS1v15(), hashes.SHA256())
    else:
        signature = key.sign(to_sign, ec.ECDSA(hashes.SHA256()))
    return signed(to_sign, algorithm, signature)


def _full(fqan: str) -> str:
    """The form in which VOMS servers write an FQAN: with both of its ends."""
    plain = _plain(fqan)
    if "/Role=" not in plain:
        plain += "/Role=NULL"
    return plain if "/Capability=" in plain else plain + "/Capability=NULL"


def with_attributes(*ac_ders: bytes) -> x509.Extension[x509.UnrecognizedExtension]:
    """The extension for `issue_proxy` that carries these attribute certificates."""
    value = x509.UnrecognizedExtension(ATTRIBUTE_CERTIFICATES, wrapped(*ac_ders))
    return x509.Extension(ATTRIBUTE_CERTIFICATES, False, value)
