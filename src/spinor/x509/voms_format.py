"""The DER of VOMS attribute certificates: RFC 5755 as OGF GFD.182 profiles it, and as VOMS really writes it.

In the proxy's extension lies a sequence of sequences of attribute certificates. What is read here is not verified.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from asn1crypto import cms, core
from asn1crypto import x509 as asn1_x509
from asn1crypto.parser import emit
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from spinor.x509.refusals import MALFORMED, VomsMalformed

ATTRIBUTE_CERTIFICATES = x509.ObjectIdentifier("1.3.6.1.4.1.8005.100.100.5")
FQANS = "1.3.6.1.4.1.8005.100.100.4"
ISSUER_CERTIFICATES = "1.3.6.1.4.1.8005.100.100.10"
TARGETS = "2.5.29.55"
NO_REVOCATION = "2.5.29.56"
AUTHORITY_KEY = "2.5.29.35"
_UNDERSTOOD = {ISSUER_CERTIFICATES, TARGETS, NO_REVOCATION, AUTHORITY_KEY}
# asn1crypto raises these as well, mostly late, when what it reads is no DER or has another shape.
_MALFORMED = (*MALFORMED, KeyError, IndexError, AttributeError, OverflowError, RecursionError)
_MOST_CERTIFICATES = 20


class _OctetStrings(core.SequenceOf):  # type: ignore[misc]
    _child_spec = core.OctetString


class _Address(core.Choice):  # type: ignore[misc]
    # A URI as text: the library's own type rewrites it, and VO names are no schemes of real URIs.
    _alternatives = [("uri", core.IA5String, {"implicit": 6})]  # noqa: RUF012


class _Addresses(core.SequenceOf):  # type: ignore[misc]
    _child_spec = _Address


class _IetfAttribute(core.Sequence):  # type: ignore[misc]
    _fields = [  # noqa: RUF012
        ("policy_authority", _Addresses, {"implicit": 0, "optional": True}),
        ("values", _OctetStrings),
    ]


class _IetfAttributes(core.SetOf):  # type: ignore[misc]
    _child_spec = _IetfAttribute


class _Attribute(core.Sequence):  # type: ignore[misc]
    _fields = [("type", core.ObjectIdentifier), ("values", core.Any)]  # noqa: RUF012


class _AttributeList(core.SequenceOf):  # type: ignore[misc]
    _child_spec = _Attribute


class _Extension(core.Sequence):  # type: ignore[misc]
    _fields = [  # noqa: RUF012
        ("oid", core.ObjectIdentifier),
        ("critical", core.Boolean, {"default": False}),
        ("value", core.OctetString),
    ]


class _Extensions(core.SequenceOf):  # type: ignore[misc]
    _child_spec = _Extension


class _Info(core.Sequence):  # type: ignore[misc]
    _fields = [  # noqa: RUF012
        ("version", core.Integer),
        ("holder", cms.Holder),
        ("issuer", cms.AttCertIssuer),
        ("signature", asn1_x509.SignedDigestAlgorithm),
        ("serial_number", core.Integer),
        ("validity", cms.AttCertValidityPeriod),
        ("attributes", _AttributeList),
        ("issuer_unique_id", core.BitString, {"optional": True}),
        ("extensions", _Extensions, {"optional": True}),
    ]


class _AttributeCertificate(core.Sequence):  # type: ignore[misc]
    _fields = [  # noqa: RUF012
        ("info", _Info),
        ("signature_algorithm", asn1_x509.SignedDigestAlgorithm),
        ("signature", core.OctetBitString),
    ]


class _Sequence(core.SequenceOf):  # type: ignore[misc]
    _child_spec = _AttributeCertificate


class _Sequences(core.SequenceOf):  # type: ignore[misc]
    _child_spec = _Sequence


class _Certificates(core.SequenceOf):  # type: ignore[misc]
    _child_spec = core.Any


class _CertificateLists(core.SequenceOf):  # type: ignore[misc]
    _child_spec = _Certificates


class _Target(core.Choice):  # type: ignore[misc]
    _alternatives = [  # noqa: RUF012
        ("name", asn1_x509.GeneralName, {"explicit": 0}),
        ("group", asn1_x509.GeneralName, {"explicit": 1}),
    ]


class _TargetList(core.SequenceOf):  # type: ignore[misc]
    _child_spec = _Target


class _TargetLists(core.SequenceOf):  # type: ignore[misc]
    _child_spec = _TargetList


@dataclass(frozen=True)
class AttributeCertificate:
    """One attribute certificate as it was read; nothing of it is verified yet."""

    der: bytes = field(repr=False)
    signed_der: bytes = field(repr=False)  # The part that the signature covers.
    signature: bytes = field(repr=False)
    algorithm: str  # The signature's, such as sha256_rsa.
    holder_name: bytes = field(
        repr=False
    )  # DER: the authority of the holder's certificate or, as VOMS writes it, the holder itself.
    holder_serial: int
    issuer_name: bytes = field(repr=False)  # DER
    not_before: datetime
    not_after: datetime
    vo: str
    uri: str
    fqans: tuple[str, ...]
    certificates: tuple[x509.Certificate, ...]  # The signer's, and perhaps authorities above it.
    targets: tuple[str, ...] | None  # The services it is for; None is any.
    unknown_critical: str | None  # The first critical extension that is not understood.


def parse_extension(der: bytes) -> list[AttributeCertificate]:
    """The attribute certificates in the value of a proxy's VOMS extension; VomsMalformed when it cannot be read."""
    try:
        found = [_parsed(each) for sequence in _Sequences.load(der, strict=True) for each in sequence]
    except _MALFORMED as error:
        raise VomsMalformed(f"The VOMS attribute certificate is malformed: {str(error)[:200]}") from None
    if not found:
        raise VomsMalformed("The proxy has a VOMS extension without attribute certificates.")
    return found


def parse_attribute_certificate(der: bytes) -> AttributeCertificate:
    """One attribute certificate, as a VOMS server sends it."""
    try:
        return _parsed(_AttributeCertificate.load(der, strict=True))
    except _MALFORMED as error:
        raise VomsMalformed(f"The VOMS attribute certificate is malformed: {str(error)[:200]}") from None


def _parsed(outer: _AttributeCertificate) -> AttributeCertificate:
    info = outer["info"]
    if info["version"].native != 1:
        raise ValueError("its version is not 2")
    if info["signature"].dump() != outer["signature_algorithm"].dump():
        raise ValueError("its two signature algorithms differ")
    identifier = info["holder"]["base_certificate_id"]
    vo, uri, fqans = _attributes(info["attributes"])
    extensions = _by_oid(info["extensions"])
    return AttributeCertificate(
        der=outer.dump(),
        signed_der=info.dump(),
        signature=outer["signature"].native,
        algorithm=_algorithm(outer["signature_algorithm"]),
        holder_name=_directory_name(identifier["issuer"]),
        holder_serial=identifier["serial"].native,
        issuer_name=_directory_name(_issuer_names(info["issuer"])),
        not_before=_time(info["validity"]["not_before_time"]),
        not_after=_time(info["validity"]["not_after_time"]),
        vo=vo,
        uri=uri,
        fqans=fqans,
        certificates=tuple(_certificates(extensions)),
        targets=_targets(extensions),
        unknown_critical=next((oid for oid, each in extensions.items() if each[0] and oid not in _UNDERSTOOD), None),
    )


def _time(value: core.GeneralizedTime) -> datetime:
    time = value.native
    if not isinstance(time, datetime) or time.tzinfo is None:
        raise ValueError("its times are not in UTC")
    return time


def _issuer_names(issuer: cms.AttCertIssuer) -> asn1_x509.GeneralNames:
    return issuer.chosen["issuer_name"] if issuer.name == "v2_form" else issuer.chosen


def _algorithm(identifier: asn1_x509.SignedDigestAlgorithm) -> str:
    name = identifier["algorithm"].native
    if name == "rsassa_pss":
        raise ValueError("it is signed with RSASSA-PSS, which VOMS does not use")
    return str(name)


def _directory_name(names: asn1_x509.GeneralNames) -> bytes:
    if len(names) != 1 or names[0].name != "directory_name":
        raise ValueError("its holder or issuer is not named by one directory name")
    return bytes(names[0].chosen.untag().dump())


def same_name(der: bytes, name: x509.Name) -> bool:
    """Whether both are one name, by the rules of RFC 5280, section 7.1."""
    try:
        return bool(asn1_x509.Name.load(der, strict=True) == asn1_x509.Name.load(name.public_bytes(), strict=True))
    except _MALFORMED:
        return False


def _attributes(attributes: _AttributeList) -> tuple[str, str, tuple[str, ...]]:
    """The VO, the address of its server, and the FQANs in their order."""
    for attribute in attributes:
        if attribute["type"].native != FQANS:
            continue
        values = _IetfAttributes.load(attribute["values"].dump(), strict=True)
        if len(values) != 1 or len(values[0]["policy_authority"]) != 1:
            raise ValueError("it does not name exactly one VO")
        authority = str(values[0]["policy_authority"][0].chosen.native)
        vo, separator, uri = authority.partition("://")
        if not separator:
            raise ValueError("it does not name its VO as vo://host:port")
        return vo, uri, tuple(fqan.native.decode("ascii") for fqan in values[0]["values"])
    raise ValueError("it has no FQANs")


def _by_oid(extensions: _Extensions) -> Mapping[str, tuple[bool, bytes]]:
    found: dict[str, tuple[bool, bytes]] = {}
    for extension in extensions if extensions.native is not None else ():
        oid = extension["oid"].native
        if oid in found:
            raise ValueError(f"it has the extension {oid} twice")
        found[oid] = (extension["critical"].native, extension["value"].native)
    return found


def _certificates(extensions: Mapping[str, tuple[bool, bytes]]) -> Iterator[x509.Certificate]:
    if ISSUER_CERTIFICATES not in extensions:
        return
    lists = _CertificateLists.load(extensions[ISSUER_CERTIFICATES][1], strict=True)
    ders = [each.dump() for certificates in lists for each in certificates]
    if len(ders) > _MOST_CERTIFICATES:
        raise ValueError("it brings too many certificates")
    yield from map(x509.load_der_x509_certificate, ders)


def _targets(extensions: Mapping[str, tuple[bool, bytes]]) -> tuple[str, ...] | None:
    if TARGETS not in extensions:
        return None
    lists = _TargetLists.load(extensions[TARGETS][1], strict=True)
    return tuple(str(target.chosen.native) for targets in lists for target in targets if target.name == "name")


# ------------------------------------------------------------------------------ writing


@dataclass(frozen=True)
class Draft:
    """What a new attribute certificate shall say."""

    holder: x509.Certificate
    signer: x509.Certificate
    serial: int
    not_before: datetime
    not_after: datetime
    vo: str
    uri: str
    fqans: Sequence[str]
    targets: Sequence[str] = ()


def unsigned(draft: Draft, algorithm: str) -> bytes:
    """The DER that is to be signed."""
    authority = _Address("uri", f"{draft.vo}://{draft.uri}")
    values = _IetfAttributes(
        [{"policy_authority": [authority], "values": [fqan.encode("ascii") for fqan in draft.fqans]}]
    )
    info = _Info(
        {
            "version": 1,
            "holder": {
                "base_certificate_id": {
                    "issuer": _general_names(draft.holder.issuer),
                    "serial": draft.holder.serial_number,
                }
            },
            "issuer": cms.AttCertIssuer("v2_form", cms.V2Form({"issuer_name": _general_names(draft.signer.subject)})),
            "signature": {"algorithm": algorithm},
            "serial_number": draft.serial,
            "validity": {"not_before_time": draft.not_before, "not_after_time": draft.not_after},
            "attributes": [{"type": FQANS, "values": core.Any(values)}],
            "extensions": list(_extensions(draft)),
        }
    )
    return bytes(info.dump())


def signed(unsigned_der: bytes, algorithm: str, signature: bytes) -> bytes:
    """The attribute certificate with its signature."""
    identifier = asn1_x509.SignedDigestAlgorithm({"algorithm": algorithm}).dump()
    return _sequence(unsigned_der + identifier + core.OctetBitString(signature).dump())


def wrapped(*ders: bytes) -> bytes:
    """The value of a proxy's VOMS extension for these attribute certificates; VomsMalformed when one is none."""
    for der in ders:
        parse_attribute_certificate(der)
    return _sequence(_sequence(b"".join(ders)))


def _sequence(content: bytes) -> bytes:
    # Put together as bytes: the library would encode what it holds once more, which may change what was signed.
    return bytes(emit(0, 1, 16, content))


def _general_names(name: x509.Name) -> list[asn1_x509.GeneralName]:
    return [asn1_x509.GeneralName("directory_name", asn1_x509.Name.load(name.public_bytes()))]


def _extensions(draft: Draft) -> Iterator[dict[str, object]]:
    # The signer's alone: VOMS' library refuses the signature when authorities come with it.
    certificate = core.Any(core.Asn1Value.load(draft.signer.public_bytes(Encoding.DER)))
    yield {"oid": ISSUER_CERTIFICATES, "value": _CertificateLists([_Certificates([certificate])]).dump()}
    yield {"oid": NO_REVOCATION, "value": core.Null().dump()}
    key = x509.AuthorityKeyIdentifier.from_issuer_public_key(draft.signer.public_key())  # type: ignore[arg-type]
    yield {"oid": AUTHORITY_KEY, "value": key.public_bytes()}
    if draft.targets:
        names = [_Target("name", asn1_x509.GeneralName("dns_name", each)) for each in draft.targets]
        yield {"oid": TARGETS, "critical": True, "value": _TargetLists([_TargetList(names)]).dump()}
