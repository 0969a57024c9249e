"""Findings about the names of a host certificate."""

from collections.abc import Iterator, Sequence

from cryptography import x509

from spinor.x509.diagnosis.findings import Finding, Severity, finding
from spinor.x509.names import (
    HostNames,
    as_address,
    asked_name,
    common_names,
    dns_name_fault,
    host_names,
    wildcard_fault,
)


def name_findings(
    certificate: x509.Certificate, subject: str, name: str | None, known_as: Sequence[str] = ()
) -> Iterator[Finding]:
    """`name` is what clients ask for; `known_as` are other names of the same host, to explain an alias."""
    names = host_names(certificate)
    if not names.is_readable:
        yield finding("names-unreadable", subject, "The subjectAltName cannot be decoded, so it names nothing.")
    elif not names:
        common = ", ".join(map(repr, common_names(certificate)))
        only = f"; the common name {common} does not count" if common else ""
        yield finding("no-names", subject, f"The certificate has no subjectAltName with a host name{only}.")
    is_covered = name is None or names.cover(name)
    if names and name is not None and not is_covered:
        yield _why_not(names, certificate, subject, name, known_as)
    yield from _malformed(names, subject, name)


def _why_not(
    names: HostNames, certificate: x509.Certificate, subject: str, name: str, known_as: Sequence[str]
) -> Finding:
    asked = asked_name(name)
    if not isinstance(asked, str):
        if any(as_address(entry) == asked for entry in names.dns):
            return finding(
                "ip-as-dns-name", subject, f"The address {asked} is written as a dNSName, where no client looks for it."
            )
        return finding("address-missing", subject, f"The certificate is for {names}, but not for the address {asked}.")
    for pattern in names.dns:
        if "*" in pattern and (fault := wildcard_fault(pattern)) and _means(pattern, asked):
            return finding("wildcard-misused", subject, f"{pattern!r} does not stand for {asked}: {fault}.")
        parent = pattern.removeprefix("*.").lower()
        if pattern.startswith("*.") and (asked == parent or asked.endswith(f".{parent}")):
            return finding(
                "wildcard-too-shallow", subject, f"{pattern!r} stands for one label below {parent}, not for {asked}."
            )
    for other in known_as:
        if names.cover(other):
            sentence = f"{asked} is an alias of {other}, which the certificate is for; it does not list the alias."
            return finding("alias-missing", subject, f"{sentence} It lists {names}.")
    common = [text for text in common_names(certificate) if text.lower() == asked]
    also = "; that it is the common name does not count" if common else ""
    return finding("name-missing", subject, f"The certificate is for {names}, but not for {asked}{also}.")


def _malformed(names: HostNames, subject: str, name: str | None) -> Iterator[Finding]:
    """Entries that help nobody. They are warnings, since another entry may be the right one."""
    asked = asked_name(name) if name is not None else None
    for entry in names.dns:
        fault = wildcard_fault(entry)
        if fault and not (isinstance(asked, str) and _means(entry, asked) and not names.cover(asked)):
            severity = Severity.WARNING if asked is not None else None
            yield finding("wildcard-misused", subject, f"{entry!r} stands for no host: {fault}.", severity=severity)
        elif not fault and (wrong := dns_name_fault(entry)):
            address = as_address(entry)
            if address is None:
                yield finding("name-malformed", subject, f"The dNSName {entry!r} {wrong}.")
            elif address not in names.addresses and asked != address:
                severity = Severity.WARNING if asked is not None else None
                yield finding("ip-as-dns-name", subject, f"The dNSName {entry!r} {wrong}.", severity=severity)


def _means(pattern: str, asked: str) -> bool:
    """Whether whoever wrote the pattern may have thought of this name."""
    from fnmatch import fnmatchcase

    return fnmatchcase(asked, pattern.lower().replace("[", "[[]").replace("?", "[?]"))
