"""Which names a certificate is for, and whether the one that was asked for is among them (RFC 9525).

Only subjectAltName counts. The common name of the subject is free text, and nothing here looks at it. What is accepted
is what OpenSSL accepts too, so that a certificate which passes here passes at the clients.
"""

import ipaddress
import re
from ipaddress import IPv4Address, IPv6Address

import msgspec
from cryptography import x509
from cryptography.x509.oid import NameOID

from spinor.errors import BadInput

Address = IPv4Address | IPv6Address
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
# Underscores are in no host name of the standards, and in some of the sites.
_ASKED_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)


class NotAName(BadInput):
    """This is neither a name of the DNS nor an IP address."""

    code = "not-a-host-name"


class HostNames(msgspec.Struct, frozen=True, kw_only=True):
    """What subjectAltName says about hosts: dNSName and iPAddress."""

    dns: tuple[str, ...] = ()
    addresses: tuple[Address, ...] = ()
    is_readable: bool = True  # False when the extension cannot be decoded, which is as good as none.

    def __bool__(self) -> bool:
        return bool(self.dns or self.addresses)

    def __str__(self) -> str:
        return ", ".join(self.listed())

    def listed(self) -> list[str]:
        return [*map(_printable, self.dns), *map(str, self.addresses)]

    def cover(self, name: str) -> bool:
        """Whether a client that asks for this name accepts the certificate."""
        asked = asked_name(name)
        if isinstance(asked, str):
            return any(dns_matches(pattern, asked) for pattern in self.dns)
        return asked in self.addresses


def host_names(certificate: x509.Certificate) -> HostNames:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return HostNames()
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return HostNames(is_readable=False)
    addresses = found.get_values_for_type(x509.IPAddress)
    return HostNames(
        dns=tuple(found.get_values_for_type(x509.DNSName)),
        # A network (of a CA's name constraints) has no place in a host's certificate and is no address.
        addresses=tuple(address for address in addresses if isinstance(address, IPv4Address | IPv6Address)),
    )


def common_names(certificate: x509.Certificate) -> list[str]:
    """Of the subject. For sentences only: no name is ever matched against them."""
    return [str(attribute.value) for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]


def asked_name(name: str) -> str | Address:
    """The name a client asks for, as it is compared: an address, or lower-case A-labels without the root's dot."""
    literal = name.strip().removeprefix("[").removesuffix("]")
    if (address := as_address(literal)) is not None:
        return address
    try:
        found = a_labels(literal.rstrip(".") if literal.count("..") == 0 else literal)
    except UnicodeError as error:
        raise NotAName(f"{name!r} is not a name of the DNS: {error}.") from None
    if len(found) > 253 or not all(_ASKED_LABEL.fullmatch(label) for label in found.split(".")):
        raise NotAName(f"{name!r} is neither a name of the DNS nor an IP address.")
    return found


def a_labels(name: str) -> str:
    """The name as it stands in certificates: lower case, and international labels in their ASCII form (IDNA 2008)."""
    if name.isascii():
        return name.lower()
    import idna

    return idna.encode(name, uts46=True, std3_rules=False).decode().lower()


def as_address(text: str) -> Address | None:
    """The IP address that is written here; None for anything else."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    # The zone of a link-local address is this machine's matter and in no certificate.
    return IPv6Address(found.packed) if isinstance(found, IPv6Address) else found


def dns_matches(pattern: str, asked: str) -> bool:
    """Whether a dNSName stands for a name, as `asked_name` gives it (section 6.3)."""
    pattern = pattern.lower()
    if "*" not in pattern:
        return pattern == asked and as_address(pattern) is None
    if wildcard_fault(pattern):
        return False
    label, _, parent = asked.partition(".")
    return pattern[2:] == parent and _LABEL.fullmatch(label) is not None


def wildcard_fault(pattern: str) -> str | None:
    """Why no client takes this wildcard, or None. A good one is a whole label, the leftmost, below two others."""
    if "*" not in pattern:
        return None
    label, _, parent = pattern.partition(".")
    if "*" in parent:
        return "a wildcard may stand only for the leftmost label"
    if label != "*":
        return "a wildcard must be the whole leftmost label, not a part of it"
    if as_address(parent) is not None or parent.replace(".", "").isdigit():
        return "a wildcard cannot stand for a part of an IP address"
    if "." not in parent:
        return f"a wildcard directly below {parent or 'the root'} would stand for foreign domains"
    return None


def dns_name_fault(name: str) -> str | None:
    """Why a dNSName is written wrongly (RFC 5280 section 4.2.1.6), wildcards aside; None when it is not."""
    if as_address(name) is not None:
        return "is an IP address, which belongs into an iPAddress entry"
    if name != name.strip() or "://" in name or "/" in name or ":" in name:
        return "is more than a host name; blanks, schemes, ports and paths do not belong into it"
    if name.endswith("."):
        return "ends in a dot"
    labels = name.lower().removeprefix("*.").split(".")
    if "*" not in name and not all(_LABEL.fullmatch(label) for label in labels):
        return "is not a host name: labels of letters, digits and inner hyphens"
    return None


def _printable(name: str) -> str:
    return name if name.isprintable() else ascii(name)
