"""Chains of certificates, from a proxy or a person's or host's certificate up to a trusted authority.

RFC 5280 as far as grids need it (no policy trees), RFC 3820 for the proxies at the lower end, and IGTF's signing
policies. Where OpenSSL is milder, this is not; see `proxy_rules`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from spinor.x509 import constraints
from spinor.x509.dn import named, shown_dn, slash_dn
from spinor.x509.proxy_rules import PROXY_CERT_INFO, Language, ProxyInfo, check_proxies, proxy_info
from spinor.x509.refusals import (
    MALFORMED,
    ChainCriticalExtension,
    ChainCRLExpired,
    ChainCRLMissing,
    ChainCRLNotYetValid,
    ChainEmpty,
    ChainExpired,
    ChainIncomplete,
    ChainKeyUsage,
    ChainLeafIsCA,
    ChainMalformed,
    ChainNameConstraint,
    ChainNotCA,
    ChainNotYetValid,
    ChainPathLength,
    ChainPolicy,
    ChainPurpose,
    ChainRevoked,
    ChainSignature,
    ChainTooLong,
    ChainUnknownCA,
    ChainWeakKey,
    ChainWeakSignature,
)
from spinor.x509.trust import CRLPolicy, TrustStore

Value = TypeVar("Value", bound=x509.ExtensionType)

LONGEST_CHAIN = 20
SMALLEST_RSA_BITS = 2048
SMALLEST_CURVE_BITS = 256
_WEAK_HASHES = ("md5", "sha1")
_UNDERSTOOD = (
    x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage, x509.SubjectAlternativeName,
    x509.IssuerAlternativeName, x509.NameConstraints, x509.CertificatePolicies,
)  # fmt: skip


class Purpose(StrEnum):
    """What the certificate at the lower end is used for, as its extended key usage must allow."""

    CLIENT = "client"
    SERVER = "server"
    ANY = "any"


_USAGES = {Purpose.CLIENT: ExtendedKeyUsageOID.CLIENT_AUTH, Purpose.SERVER: ExtendedKeyUsageOID.SERVER_AUTH}


@dataclass(frozen=True)
class VerifiedChain:
    """A chain that holds in every respect at the moment it was asked for."""

    subject_dn: str  # Of the end-entity certificate: the person or host, without the CNs that proxies add.
    issuer_dn: str  # The authority that issued it.
    end_entity: x509.Certificate
    leaf: x509.Certificate
    proxy_depth: int
    is_limited: bool
    not_after: datetime  # The earliest end in the chain.
    path: tuple[x509.Certificate, ...]  # From the leaf to the trusted authority, both included.


def verify_chain(
    chain: Sequence[x509.Certificate],
    trust: TrustStore,
    now: datetime,
    crl: CRLPolicy = CRLPolicy.IF_PRESENT,
    *,
    purpose: Purpose = Purpose.CLIENT,
) -> VerifiedChain:
    """Verify a chain, its leaf first and the rest in any order; otherwise the refusal that names the broken rule."""
    if not chain:
        raise ChainEmpty("There is no certificate; send the chain with the leaf first.")
    if len(chain) > LONGEST_CHAIN:
        raise ChainTooLong(f"The chain has {len(chain)} certificates; at most {LONGEST_CHAIN} are accepted.")
    for certificate in chain:
        _check_form(certificate)
    lower, infos = _find_end_entity(chain)
    check_proxies(lower, infos)
    _check_end_entity(lower, purpose)
    authorities = _find_authorities(lower[-1], chain, trust, now)
    for certificate in (*lower, *authorities):
        _check_alone(certificate, now)
    _check_authorities(lower[-1], authorities, purpose)
    _check_policies(lower[-1], authorities, trust)
    _check_revocation(lower[-1], authorities, trust, now, crl)
    path = (*lower, *authorities)
    return VerifiedChain(
        subject_dn=slash_dn(lower[-1].subject),
        issuer_dn=slash_dn(lower[-1].issuer),
        end_entity=lower[-1],
        leaf=lower[0],
        proxy_depth=len(infos),
        is_limited=any(info.language is Language.LIMITED for info in infos),
        not_after=min(certificate.not_valid_after_utc for certificate in path),
        path=path,
    )


# ------------------------------------------------------------------------------ the way upwards


def _find_end_entity(chain: Sequence[x509.Certificate]) -> tuple[list[x509.Certificate], list[ProxyInfo]]:
    """The proxies from the leaf upwards and the certificate that they stand for, each signed by the next."""
    lower, infos = [chain[0]], list[ProxyInfo]()
    while (info := proxy_info(lower[-1])) is not None:
        infos.append(info)
        proxy = lower[-1]
        issuers = [each for each in chain if each.subject == proxy.issuer and each not in lower]
        if not issuers:
            raise ChainIncomplete(named(proxy, f"is a proxy, but its issuer {shown_dn(proxy.issuer)} was not sent"))
        lower.append(_signer(proxy, issuers))
    return lower, infos


def _find_authorities(
    end_entity: x509.Certificate, chain: Sequence[x509.Certificate], trust: TrustStore, now: datetime
) -> list[x509.Certificate]:
    """The authorities above the end entity, up to a trusted one that signed itself."""
    found: list[x509.Certificate] = []
    current = end_entity
    while True:
        trusted = trust.anchors_for(current.issuer)
        sent = [each for each in chain if each.subject == current.issuer and each.issuer != each.subject]
        issuers = [each for each in (*_newest_first(trusted, now), *sent) if each != end_entity and each not in found]
        if not issuers:
            raise ChainUnknownCA(
                named(current, f"was issued by {shown_dn(current.issuer)}, which is not among the trusted authorities")
            )
        current = _signer(current, issuers)
        found.append(current)
        if current.issuer == current.subject and _is_trusted(current, trust):
            return found
        if len(found) >= LONGEST_CHAIN:
            raise ChainTooLong(named(end_entity, "leads to no trusted authority within twenty steps"))


def _newest_first(certificates: Iterable[x509.Certificate], now: datetime) -> list[x509.Certificate]:
    """Authorities renew their certificates under the same name and key: those that hold now come first."""
    return sorted(
        certificates,
        key=lambda each: (each.not_valid_before_utc <= now <= each.not_valid_after_utc, each.not_valid_after_utc),
        reverse=True,
    )


def _signer(certificate: x509.Certificate, issuers: Iterable[x509.Certificate]) -> x509.Certificate:
    """The first of these that has signed the certificate; a root, which signed itself, is never asked about."""
    algorithm = certificate.signature_hash_algorithm
    if algorithm is not None and algorithm.name in _WEAK_HASHES:
        raise ChainWeakSignature(named(certificate, f"is signed with {algorithm.name.upper()}, which can be forged"))
    for issuer in issuers:
        try:
            certificate.verify_directly_issued_by(issuer)
        except (InvalidSignature, *MALFORMED):
            continue
        return issuer
    raise ChainSignature(named(certificate, f"was not signed by {shown_dn(certificate.issuer)}, which it names"))


def _is_trusted(certificate: x509.Certificate, trust: TrustStore) -> bool:
    return certificate in trust.anchors_for(certificate.subject)


# ------------------------------------------------------------------------------ each certificate


def _check_form(certificate: x509.Certificate) -> None:
    """Read everything once that is read later, so that whatever is malformed is known here."""
    try:
        for extension in certificate.extensions:
            if extension.critical and not isinstance(extension.value, _UNDERSTOOD) and extension.oid != PROXY_CERT_INFO:
                raise ChainCriticalExtension(
                    named(certificate, f"has the critical extension {extension.oid.dotted_string}, unknown here")
                )
        certificate.public_key()
        if certificate.serial_number <= 0:
            raise ChainMalformed(named(certificate, "has a serial number that is not positive"))
        slash_dn(certificate.subject)
        slash_dn(certificate.issuer)
        _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc, certificate.signature_hash_algorithm
    except x509.DuplicateExtension as error:
        raise ChainMalformed(f"A certificate has the extension {error.oid.dotted_string} twice.") from None
    except MALFORMED as error:
        raise ChainMalformed(f"A certificate is malformed or of an unknown kind: {str(error)[:200]}") from None


def _check_alone(certificate: x509.Certificate, now: datetime) -> None:
    if now > certificate.not_valid_after_utc:
        raise ChainExpired(named(certificate, f"expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC"))
    if now < certificate.not_valid_before_utc:
        start = certificate.not_valid_before_utc
        raise ChainNotYetValid(named(certificate, f"is valid only from {start:%Y-%m-%d %H:%M:%S} UTC on"))
    if weakness := key_weakness(certificate.public_key()):
        raise ChainWeakKey(named(certificate, f"has {weakness}"))


def key_weakness(key: object) -> str | None:
    """Why a public key is too weak, or None."""
    match key:
        case rsa.RSAPublicKey():
            if key.key_size < SMALLEST_RSA_BITS:
                return f"an RSA key of {key.key_size} bits; at least {SMALLEST_RSA_BITS} are needed"
        case ec.EllipticCurvePublicKey():
            if key.key_size < SMALLEST_CURVE_BITS:
                return f"a key on a curve of {key.key_size} bits; at least {SMALLEST_CURVE_BITS} are needed"
        case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
            pass
        case _:
            return "a key of a kind that is not accepted; use RSA or an elliptic curve"
    return None


def _check_end_entity(lower: Sequence[x509.Certificate], purpose: Purpose) -> None:
    end_entity = lower[-1]
    if _is_ca(end_entity):
        raise ChainLeafIsCA(named(end_entity, "is a certificate authority's and cannot be used like a person's"))
    for certificate in lower:
        _check_purpose(certificate, purpose)


def _check_purpose(certificate: x509.Certificate, purpose: Purpose) -> None:
    wanted = _USAGES.get(purpose)
    usages = extension_value(certificate, x509.ExtendedKeyUsage)
    if wanted is None or usages is None:
        return
    # OpenSSL does not take "any use" for one of these either, so no other service would.
    if wanted not in usages:
        raise ChainPurpose(named(certificate, f"has an extended key usage that does not cover its use as a {purpose}"))


# ------------------------------------------------------------------------------ authorities


def _check_authorities(end_entity: x509.Certificate, authorities: Sequence[x509.Certificate], purpose: Purpose) -> None:
    below = [end_entity]
    for authority in authorities:
        if not _is_ca(authority):
            raise ChainNotCA(named(authority, f"has issued {shown_dn(below[-1].subject)}, and is no authority"))
        usage = extension_value(authority, x509.KeyUsage)
        if usage is not None and not usage.key_cert_sign:
            raise ChainKeyUsage(named(authority, "has issued a certificate, and its key is not for signing these"))
        basic = extension_value(authority, x509.BasicConstraints)
        between = sum(each.issuer != each.subject for each in below[1:])
        if basic and basic.path_length is not None and between > basic.path_length:
            raise ChainPathLength(
                named(authority, f"may have {basic.path_length} authorities below itself, and there are {between}")
            )
        if authority.issuer != authority.subject:
            _check_purpose(authority, purpose)
        _check_names(authority, below)
        below.append(authority)


def _check_names(authority: x509.Certificate, below: Sequence[x509.Certificate]) -> None:
    limits = extension_value(authority, x509.NameConstraints)
    for certificate in below if limits else ():
        if certificate.issuer == certificate.subject and certificate is not below[0]:
            continue
        outside = constraints.violates(limits, certificate) if limits else None
        if outside is not None:
            raise ChainNameConstraint(
                named(certificate, f"has the name {outside[:200]}, which {shown_dn(authority.subject)} may not give")
            )


def _check_policies(end_entity: x509.Certificate, authorities: Sequence[x509.Certificate], trust: TrustStore) -> None:
    """Each authority's signing policy; one that has none may name what the authority above it may name."""
    for index, certificate in enumerate([end_entity, *authorities[:-1]]):
        for authority in authorities[index:]:
            if trust.has_policy(authority):
                if not trust.policy_allows(authority, certificate.subject):
                    raise ChainPolicy(
                        named(certificate, f"is not covered by the signing policy of {shown_dn(authority.subject)}")
                    )
                break


def _check_revocation(
    end_entity: x509.Certificate,
    authorities: Sequence[x509.Certificate],
    trust: TrustStore,
    now: datetime,
    policy: CRLPolicy,
) -> None:
    if policy is CRLPolicy.IGNORE:
        return
    for certificate, authority in zip([end_entity, *authorities], authorities, strict=False):
        crl = trust.crl_for(authority)
        of_whom = shown_dn(authority.subject)
        if crl is None:
            if policy is CRLPolicy.REQUIRED:
                raise ChainCRLMissing(f"There is no revocation list of {of_whom}, and one is required; run fetch-crl.")
            continue
        if crl.last_update_utc > now:
            raise ChainCRLNotYetValid(
                f"The revocation list of {of_whom} begins only on {crl.last_update_utc:%Y-%m-%d %H:%M} UTC."
            )
        end = crl.next_update_utc
        if end is None:
            raise ChainCRLExpired(f"The revocation list of {of_whom} does not say until when it holds; run fetch-crl.")
        if end < now:
            raise ChainCRLExpired(
                f"The revocation list of {of_whom} expired on {end:%Y-%m-%d %H:%M} UTC; run fetch-crl."
            )
        if revoked_at := trust.revoked_at(authority, certificate.serial_number):
            raise ChainRevoked(named(certificate, f"was revoked on {revoked_at:%Y-%m-%d %H:%M} UTC"))


def _is_ca(certificate: x509.Certificate) -> bool:
    basic = extension_value(certificate, x509.BasicConstraints)
    return basic is not None and basic.ca


def extension_value(certificate: x509.Certificate, kind: type[Value]) -> Value | None:
    """The value of one extension, if the certificate has it."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
