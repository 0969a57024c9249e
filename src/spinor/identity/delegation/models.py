"""Proxies, certificates and the attributes in them, as the server, the client and the command line see them."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, TypeAlias
from uuid import UUID

import msgspec
from msgspec import Meta

USUAL_LIFETIME_S = 12 * 3600
LONGEST_PROXY_S = 7 * 24 * 3600  # Of one that is given; a longer work gets a new one in time.
LONGEST_NEW_S = 12 * 3600
LONGEST_CERTIFICATE_S = 11 * 24 * 3600  # What grids call short-lived.
LEAST_LEFT_S = 600  # So long must a proxy live yet to be stored or given.
REMIND_BEFORE_S = 7 * 24 * 3600
REQUEST_LIFETIME_S = 600
VOMS_MEMBERSHIP_S = 7 * 24 * 3600
STORED_AT_MOST = 20  # Proxies of one user.
REQUESTS_AT_MOST = 10
GIVEN_AT_MOST, GIVEN_WITHIN_S = 200, 600  # Proxies and certificates for one user.
LONGEST_PEM = 128 * 1024
LONGEST_CSR = 16 * 1024
FULL_PROXY = "full_proxy"  # The property without which a group gets limited proxies only.

Pem: TypeAlias = Annotated[str, Meta(max_length=LONGEST_PEM)]
Csr: TypeAlias = Annotated[str, Meta(max_length=LONGEST_CSR)]
Fqan: TypeAlias = Annotated[str, Meta(max_length=255, pattern=r"^/[A-Za-z0-9._~/=-]+$(?!\n)")]


class KeyKind(StrEnum):
    """The key of a proxy. Some grid software takes RSA only."""

    RSA = "rsa-2048"
    EC = "ec-p256"


class RequestProxy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    key: KeyKind = KeyKind.RSA


class ProxyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate request to be signed with a proxy's or certificate's key; the key that it is about stays here."""

    request_id: UUID
    csr: str
    expires_at: datetime


class SignedChain(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The signed proxy and what is above it, in PEM. `limited` says that a limited one is meant to be stored."""

    chain: Pem
    limited: bool = False
    only_this_vo: bool = False


class StoredProxy(msgspec.Struct, frozen=True, kw_only=True):
    proxy_id: UUID
    subject: str
    issuer: str
    vo: str | None  # The only VO in which it is used; None: in each of its owner's.
    is_limited: bool
    stored_at: datetime
    renewed_at: datetime | None
    expires_at: datetime
    ends_soon: bool


class ProxyIds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    ids: Annotated[list[UUID], Meta(max_length=1000)]


class ProxyRefusal(msgspec.Struct, frozen=True, kw_only=True):
    proxy_id: UUID
    code: str
    reason: str


class RemovedProxies(msgspec.Struct, frozen=True, kw_only=True):
    done: list[UUID]
    refused: list[ProxyRefusal]


class AskedAttributes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """VOMS attributes of the VO in which one acts. Without FQANs those that the VO gives by itself."""

    vo: str = ""  # May be named, here or as VOMS calls it; never another one than the token's.
    fqans: Annotated[list[Fqan], Meta(max_length=32)] = []


class DelegateProxy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A proxy below a stored one: for the key of a certificate request (PEM), or without one for a key made here."""

    csr: Csr = ""
    key: KeyKind = KeyKind.RSA
    lifetime_s: Annotated[int, Meta(ge=60, le=LONGEST_PROXY_S)] = USUAL_LIFETIME_S
    limited: bool = True
    voms: AskedAttributes | None = None


class Source(StrEnum):
    """What a new proxy is made from."""

    ANY = "any"  # The stored one that lasts the longest, or else the online CA.
    STORED = "stored"
    ONLINE_CA = "online_ca"


class NewProxy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    lifetime_s: Annotated[int, Meta(ge=60, le=LONGEST_NEW_S)] = LONGEST_NEW_S
    limited: bool = True
    voms: AskedAttributes | None = None
    source: Source = Source.ANY
    key: KeyKind = KeyKind.RSA


class GivenProxy(msgspec.Struct, frozen=True, kw_only=True):
    """`pem` is the chain, and with it the key when it was made here: the content of a proxy file."""

    pem: str
    subject: str
    identity: str  # Of the end-entity certificate.
    issuer: str
    is_limited: bool
    fqans: list[str]
    expires_at: datetime


class CertificateRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    csr: Csr
    lifetime_s: Annotated[int, Meta(ge=60, le=LONGEST_CERTIFICATE_S)] = USUAL_LIFETIME_S


class GivenCertificate(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate of the online CA and the CA's own, in PEM."""

    pem: str
    subject: str
    issuer: str
    serial: str
    expires_at: datetime


class LinkCertificate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    assertion: Pem  # As for signing in, with the audience <issuer>/api/x509/link.


class LinkedCertificate(msgspec.Struct, frozen=True, kw_only=True):
    subject: str
    issuer: str
    user: str


class VomsHost(msgspec.Struct, frozen=True, kw_only=True):
    host: str
    port: int
    subject: str  # The DN of its certificate.


class Voms(msgspec.Struct, frozen=True, kw_only=True):
    """Where the attributes of a VO come from, and which of its groups they stand for."""

    vo: str
    name: str
    servers: list[VomsHost]
    signs_itself: bool
    groups: dict[str, str]  # FQAN -> group


class OnlineCASetting(msgspec.Struct, frozen=True, kw_only=True):
    is_enabled: bool = False
    longest_s: int = USUAL_LIFETIME_S
