"""Name constraints (RFC 5280, 4.2.1.10): which names an authority's certificate lets the certificates below it have."""

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from cryptography import x509

_Matcher = Callable[[Any, Any], bool]


def violates(constraints: x509.NameConstraints, certificate: x509.Certificate) -> str | None:
    """The first name of the certificate that the constraints exclude or do not permit, or None.

    A constraint on a kind of name that is not understood here excludes every name of this kind.
    """
    permitted = list(constraints.permitted_subtrees or ())
    excluded = list(constraints.excluded_subtrees or ())
    for name in _names(certificate):
        kind = type(name)
        matches = _MATCHERS.get(kind)
        inside = [tree for tree in permitted if isinstance(tree, kind)]
        outside = [tree for tree in excluded if isinstance(tree, kind)]
        if not inside and not outside:
            continue
        if matches is None or any(matches(name.value, tree.value) for tree in outside):
            return str(name.value)
        if inside and not any(matches(name.value, tree.value) for tree in inside):
            return str(name.value)
    return None


def _names(certificate: x509.Certificate) -> Iterable[x509.GeneralName]:
    if certificate.subject.rdns:
        yield x509.DirectoryName(certificate.subject)
    emails = certificate.subject.get_attributes_for_oid(x509.NameOID.EMAIL_ADDRESS)
    for email in emails:
        yield x509.RFC822Name(str(email.value).encode("ascii", "replace").decode())
    try:
        yield from certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return


def _directory_matches(name: x509.Name, tree: x509.Name) -> bool:
    return name.rdns[: len(tree.rdns)] == tree.rdns


def _dns_matches(name: str, tree: str) -> bool:
    name, tree = name.lower().rstrip("."), tree.lower().strip(".")
    return not tree or name == tree or name.endswith(f".{tree}")


def _email_matches(name: str, tree: str) -> bool:
    name, tree = name.lower(), tree.lower()
    host = name.rpartition("@")[2]
    if "@" in tree:
        return name == tree
    return host.endswith(tree) if tree.startswith(".") else host == tree


def _address_matches(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, tree: ipaddress.IPv4Network | ipaddress.IPv6Network
) -> bool:
    return address in tree


_MATCHERS: Mapping[type[x509.GeneralName], _Matcher] = {
    x509.DirectoryName: _directory_matches,
    x509.DNSName: _dns_matches,
    x509.RFC822Name: _email_matches,
    x509.IPAddress: _address_matches,
}
