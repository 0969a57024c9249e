"""Findings about a host certificate itself: its times, what it is for, and how strong it is."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, SignatureAlgorithmOID

from spinor.x509.diagnosis.findings import Finding, finding

LONGEST_LIFETIME = timedelta(days=398)
SOON = timedelta(days=14)
LEAST_RSA_BITS = 2048
LEAST_EC_BITS = 256
_PROXY = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.14")
# What OpenSSL processes; any other critical extension makes it refuse the certificate.
_UNDERSTOOD = {
    ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE, ExtensionOID.EXTENDED_KEY_USAGE,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME, ExtensionOID.NAME_CONSTRAINTS, ExtensionOID.CERTIFICATE_POLICIES,
    ExtensionOID.POLICY_CONSTRAINTS, ExtensionOID.INHIBIT_ANY_POLICY, ExtensionOID.POLICY_MAPPINGS, _PROXY,
}  # fmt: skip
WEAK_SIGNATURES = {
    SignatureAlgorithmOID.RSA_WITH_MD5: "MD5",
    SignatureAlgorithmOID.RSA_WITH_SHA1: "SHA-1",
    SignatureAlgorithmOID.ECDSA_WITH_SHA1: "SHA-1",
    SignatureAlgorithmOID.DSA_WITH_SHA1: "SHA-1",
    x509.ObjectIdentifier("1.3.14.3.2.29"): "SHA-1",
    x509.ObjectIdentifier("1.2.840.113549.1.1.2"): "MD2",
}


def extension(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> x509.Extension[x509.ExtensionType] | None:
    """The extension, or None when it is absent or cannot be decoded."""
    try:
        return certificate.extensions.get_extension_for_oid(oid)
    except (x509.ExtensionNotFound, ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return None


def time_findings(certificate: x509.Certificate, subject: str, now: datetime) -> Iterator[Finding]:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > ends:
        yield finding("expired", subject, f"It expired on {moment(ends)}, {span(now - ends)} ago.")
    elif now < begins:
        clock = f"this machine's clock says {moment(now)}, {span(begins - now)} earlier"
        yield finding("not-yet-valid", subject, f"It is valid only from {moment(begins)} on; {clock}.")
    elif ends - now < SOON:
        yield finding("ends-soon", subject, f"It expires on {moment(ends)}, in {span(ends - now)}.")
    if ends - begins > LONGEST_LIFETIME:
        days = (ends - begins).days
        yield finding("lifetime-too-long", subject, f"It lives {days} days; 398 are the most that browsers take.")


def usage_findings(certificate: x509.Certificate, subject: str) -> Iterator[Finding]:
    extended = extension(certificate, ExtensionOID.EXTENDED_KEY_USAGE)
    if extended and isinstance(extended.value, x509.ExtendedKeyUsage):
        uses = set(extended.value)
        if not uses & {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}:
            listed = ", ".join(sorted(use._name for use in uses))
            what = "a client's" if ExtendedKeyUsageOID.CLIENT_AUTH in uses else "for something else"
            sentence = f"It is {what}: its extended key usage is {listed}, without serverAuth."
            yield finding("not-for-servers", subject, sentence)
    usage = extension(certificate, ExtensionOID.KEY_USAGE)
    if usage and isinstance(usage.value, x509.KeyUsage) and not usage.value.digital_signature:
        yield finding("may-not-sign", subject, "Its key usage lacks digitalSignature.")
    constraints = extension(certificate, ExtensionOID.BASIC_CONSTRAINTS)
    if constraints and isinstance(constraints.value, x509.BasicConstraints) and constraints.value.ca:
        yield finding("is-a-ca", subject, "It is a CA's certificate (basicConstraints CA:TRUE), not a host's.")
    if extension(certificate, _PROXY):
        yield finding("is-a-proxy", subject, "It is an RFC 3820 proxy, which has no host names of its own.")
    yield from extension_findings(certificate, subject)


def extension_findings(certificate: x509.Certificate, subject: str) -> Iterator[Finding]:
    try:
        critical = [each.oid for each in certificate.extensions if each.critical and each.oid not in _UNDERSTOOD]
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return  # The naming tells of it.
    for oid in critical:
        sentence = f"Its critical extension {oid.dotted_string} is understood by no client, which must refuse it."
        yield finding("critical-extension", subject, sentence)


def strength_findings(certificate: x509.Certificate, subject: str, *, of_anchor: bool = False) -> Iterator[Finding]:
    """Nobody looks at the hash by which an anchor signed itself."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        yield finding("weak-key", subject, f"Its public key is of no kind that TLS uses ({error}).")
        return
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < LEAST_RSA_BITS:
        yield finding("weak-key", subject, f"Its RSA key has {key.key_size} bits; {LEAST_RSA_BITS} are the least.")
    elif isinstance(key, ec.EllipticCurvePublicKey) and key.key_size < LEAST_EC_BITS:
        yield finding("weak-key", subject, f"Its EC key has {key.key_size} bits; {LEAST_EC_BITS} are the least.")
    elif isinstance(key, dsa.DSAPublicKey):
        yield finding("weak-key", subject, "Its key is for DSA, which no TLS 1.3 client takes.")
    weak = WEAK_SIGNATURES.get(certificate.signature_algorithm_oid)
    if weak and not of_anchor:
        yield finding("weak-hash", subject, f"It is signed with {weak}, which can be forged.")


def moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def span(length: timedelta) -> str:
    """A length of time as people say it: its two largest units are enough."""
    minutes = int(length.total_seconds() // 60)
    days, hours = minutes // 1440, minutes // 60 % 24
    if days >= 3:
        return f"{days} days"
    if days or hours:
        return f"{days * 24 + hours} h {minutes % 60:02} min"
    return f"{minutes} min" if minutes else f"{int(length.total_seconds())} s"
