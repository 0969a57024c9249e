"""The rules of RFC 3820, with those that OpenSSL leaves to its users.

OpenSSL accepts a full proxy below a limited one, a ProxyCertInfo that is not critical, and a proxy that outlives its
issuer; here each of these is refused. Globus' limited proxies may read and write data, and start nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from asn1crypto import core
from cryptography import x509

from spinor.x509.dn import named
from spinor.x509.refusals import (
    ProxyAlternativeName,
    ProxyIsCA,
    ProxyIssuedByCA,
    ProxyKeyUsage,
    ProxyLegacy,
    ProxyLimitDropped,
    ProxyMalformed,
    ProxyNotCritical,
    ProxyOutlivesIssuer,
    ProxyPathLength,
    ProxySubject,
    ProxyUnknownPolicy,
)

PROXY_CERT_INFO = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.14")
_DRAFT_PROXY_CERT_INFO = x509.ObjectIdentifier("1.3.6.1.4.1.3536.1.222")  # Globus 3, before the RFC.
_LEGACY_NAMES = ("proxy", "limited proxy")  # The last CN of Globus 2's proxies, which have no extension.


class Language(StrEnum):
    """How much of its issuer's rights a proxy has."""

    INHERIT_ALL = "1.3.6.1.5.5.7.21.1"
    LIMITED = "1.3.6.1.4.1.3536.1.1.1.9"


@dataclass(frozen=True)
class ProxyInfo:
    language: Language
    path_length: int | None
    critical: bool


class _ProxyPolicy(core.Sequence):  # type: ignore[misc]
    _fields = [("language", core.ObjectIdentifier), ("policy", core.OctetString, {"optional": True})]  # noqa: RUF012


class _ProxyCertInfo(core.Sequence):  # type: ignore[misc]
    _fields = [("path_length", core.Integer, {"optional": True}), ("policy", _ProxyPolicy)]  # noqa: RUF012


def proxy_extension(language: str, path_length: int | None) -> x509.Extension[x509.UnrecognizedExtension]:
    """The ProxyCertInfo extension."""
    info = _ProxyCertInfo({"policy": {"language": str(language)}})
    if path_length is not None:
        info["path_length"] = path_length
    return x509.Extension(PROXY_CERT_INFO, True, x509.UnrecognizedExtension(PROXY_CERT_INFO, info.dump()))


def proxy_info(certificate: x509.Certificate) -> ProxyInfo | None:
    """What the certificate says of itself as a proxy; None when it is none. Older kinds of proxies are refused."""
    for extension in certificate.extensions:
        if extension.oid == _DRAFT_PROXY_CERT_INFO:
            raise ProxyLegacy(named(certificate, "is a proxy of a draft older than RFC 3820; make one with `-rfc`"))
        if extension.oid == PROXY_CERT_INFO:
            value = extension.value
            der = value.value if isinstance(value, x509.UnrecognizedExtension) else value.public_bytes()
            return _parsed(certificate, der, critical=extension.critical)
    if _is_legacy(certificate):
        raise ProxyLegacy(named(certificate, "is a Globus 2 proxy (older than RFC 3820); make one with `-rfc`"))
    return None


def _parsed(certificate: x509.Certificate, der: bytes, *, critical: bool) -> ProxyInfo:
    try:
        info = _ProxyCertInfo.load(der, strict=True)
        path_length = info["path_length"].native
        language = info["policy"]["language"].native
        has_policy = info["policy"]["policy"].native is not None
        again = _ProxyCertInfo({"policy": {"language": language}})
        if path_length is not None:
            again["path_length"] = path_length
        exact = has_policy or again.dump() == der
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise ProxyMalformed(named(certificate, f"has a malformed ProxyCertInfo: {str(error)[:100]}")) from None
    if not exact or (path_length is not None and path_length < 0):
        raise ProxyMalformed(named(certificate, "has a ProxyCertInfo that is not written as DER asks"))
    if has_policy or language not in tuple(Language):
        raise ProxyUnknownPolicy(
            named(certificate, f"has the proxy policy {language}; only inherit-all and limited proxies are accepted")
        )
    return ProxyInfo(Language(language), path_length, critical)


def _is_legacy(certificate: x509.Certificate) -> bool:
    rdns = certificate.subject.rdns
    if not rdns or rdns[:-1] != certificate.issuer.rdns:
        return False
    return any(attribute.oid == x509.NameOID.COMMON_NAME and attribute.value in _LEGACY_NAMES for attribute in rdns[-1])


def check_proxies(path: Sequence[x509.Certificate], infos: Sequence[ProxyInfo]) -> None:
    """Check proxies, the leaf first, below the end-entity certificate that stands last in `path`."""
    for index, info in enumerate(infos):
        proxy, issuer = path[index], path[index + 1]
        _check_proxy(proxy, issuer, info)
        above = infos[index + 1 :]
        if info.language is not Language.LIMITED and any(each.language is Language.LIMITED for each in above):
            raise ProxyLimitDropped(named(proxy, "is a full proxy below a limited one"))
        if info.path_length is not None and index > info.path_length:
            raise ProxyPathLength(
                named(proxy, f"allows {info.path_length} proxies below itself, and there are {index}")
            )


def _check_proxy(proxy: x509.Certificate, issuer: x509.Certificate, info: ProxyInfo) -> None:
    if not info.critical:
        raise ProxyNotCritical(named(proxy, "has a ProxyCertInfo extension that is not critical"))
    _check_subject(proxy)
    if proxy.not_valid_after_utc > issuer.not_valid_after_utc:
        raise ProxyOutlivesIssuer(
            named(proxy, f"is valid until {proxy.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC, longer than its issuer")
        )
    for extension in proxy.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName | x509.IssuerAlternativeName):
            raise ProxyAlternativeName(named(proxy, "is a proxy with an alternative name"))
        if isinstance(extension.value, x509.BasicConstraints) and extension.value.ca:
            raise ProxyIsCA(named(proxy, "is a proxy that claims to be a certificate authority"))
        if isinstance(extension.value, x509.KeyUsage) and (extension.value.key_cert_sign or extension.value.crl_sign):
            raise ProxyKeyUsage(named(proxy, "is a proxy whose key may sign certificates like an authority's"))
    for extension in issuer.extensions:
        if isinstance(extension.value, x509.BasicConstraints) and extension.value.ca:
            raise ProxyIssuedByCA(named(proxy, "is a proxy that was issued by a certificate authority"))
        if isinstance(extension.value, x509.KeyUsage) and not extension.value.digital_signature:
            raise ProxyKeyUsage(named(issuer, "has issued a proxy, and its key is not for digital signatures"))


def _check_subject(proxy: x509.Certificate) -> None:
    rdns = proxy.subject.rdns
    added = list(rdns[-1]) if rdns else []
    if rdns[:-1] != proxy.issuer.rdns or [attribute.oid for attribute in added] != [x509.NameOID.COMMON_NAME]:
        raise ProxySubject(named(proxy, "is a proxy whose subject is not its issuer's with exactly one CN more"))
