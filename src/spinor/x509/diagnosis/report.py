"""A report on one certificate: what it is, what is wrong with it, and what others say of it."""

import socket
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from spinor.x509.diagnosis import Case, Finding, diagnose, host_first
from spinor.x509.diagnosis.findings import finding
from spinor.x509.diagnosis.keys import exposure_findings, key_findings
from spinor.x509.diagnosis.looking import (
    NoAnswer,
    Place,
    Verdict,
    addresses,
    openssl_verdict,
    other_names,
    python_verdict,
    sent_chain,
)
from spinor.x509.diagnosis.trusting import Trust, open_trust, read_chain, usual_trust
from spinor.x509.dn import shown_dn
from spinor.x509.names import a_labels, as_address, asked_name, host_names
from spinor.x509.trust import CRLPolicy


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What whoever asks for a report wants to be looked at."""

    name: str | None = None
    is_alias: bool = False
    ca: Path | None = None
    crl: CRLPolicy = CRLPolicy.IF_PRESENT
    key: Path | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    source: str  # The file, or the host with its port and address.
    name: str | None
    subject: str
    names: list[str]
    issuer: str
    not_before: datetime
    not_after: datetime
    key: str
    chain_length: int
    trust: str | None  # The file or directory of CAs by which it was judged.
    findings: list[Finding]
    verdicts: list[Verdict]

    @property
    def faults(self) -> list[Finding]:
        return [each for each in self.findings if each.is_fault]


def report_on_file(file: Path, wishes: Wishes, now: datetime | None = None) -> Report:
    chain = read_chain(file)
    report = _report(str(file), chain, wishes, None, now or datetime.now(UTC))
    extra: list[Finding] = []
    if wishes.key is not None:
        extra += key_findings(host_first(chain)[0], wishes.key)
    elif b"PRIVATE KEY-----" in file.read_bytes():
        extra += exposure_findings(file, file.stat().st_mode)
    return msgspec.structs.replace(report, findings=[*report.findings, *extra])


def reports_on_host(host: str, port: int, wishes: Wishes, now: datetime | None = None) -> list[Report]:
    """One report; for an alias, one for each address behind it. NoAnswer when no address answers."""
    name = wishes.name or host
    asked = str(asked_name(name))
    found: list[Report] = []
    refused: list[NoAnswer] = []
    # The resolver's own idea of international names is of 2003, when ß was still written as ss.
    for address in addresses(host if as_address(host) else a_labels(host), port):
        place = Place(address, port, asked)
        try:
            chain = sent_chain(place)
        except NoAnswer as error:
            refused.append(error)
            continue
        found.append(_report(f"{host}:{port} ({address})", chain, wishes, place, now or datetime.now(UTC)))
        if not wishes.is_alias:
            break
    if not found:
        raise refused[0]
    return found


def _report(source: str, chain: list[x509.Certificate], wishes: Wishes, place: Place | None, now: datetime) -> Report:
    host = host_first(chain)[0]
    name = place.name if place else wishes.name
    trusted = wishes.ca or usual_trust()
    trust = open_trust(trusted) if trusted else None
    case = Case(
        chain=chain,
        now=now,
        name=name,
        known_as=_known_as(name, place) if wishes.is_alias else (),
        trust=trust,
        trust_place=str(trusted),
        crl=wishes.crl,
    )
    findings = diagnose(case)
    verdicts = _verdicts(case, trust, place, trusted)
    if not any(each.is_fault for each in findings):
        subject = shown_dn(host.subject)
        refusals = [verdict for verdict in verdicts if verdict.accepts is False]
        findings += [finding(each.code, subject, f"{each.by} refuses it: {each.says}.") for each in refusals]
    return Report(
        source=source,
        name=name,
        subject=shown_dn(host.subject),
        names=host_names(host).listed(),
        issuer=shown_dn(host.issuer),
        not_before=host.not_valid_before_utc,
        not_after=host.not_valid_after_utc,
        key=_key(host),
        chain_length=len(chain),
        trust=str(trusted) if trusted else None,
        findings=findings,
        verdicts=verdicts,
    )


def _verdicts(case: Case, trust: Trust | None, place: Place | None, trusted: Path | None) -> list[Verdict]:
    if trust is None:
        return []
    found = [python_verdict(place, trusted)] if place else []
    said = openssl_verdict(case.chain, trust, case.name, case.now, with_crls=case.crl is CRLPolicy.REQUIRED)
    return [*found, *([said] if said else [])]


def _known_as(name: str | None, place: Place | None) -> list[str]:
    found = other_names(name) if name else []
    if place and as_address(place.address) is not None:
        try:
            canonical, aliases, _ = socket.gethostbyaddr(place.address)
            found += [canonical, *aliases]
        except OSError:
            pass  # An address without a name tells nothing about the alias.
    return list(dict.fromkeys(found))


def _key(certificate: x509.Certificate) -> str:
    try:
        key = certificate.public_key()
    except ValueError:
        return "unknown"
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    return f"EC {key.curve.name}" if isinstance(key, ec.EllipticCurvePublicKey) else type(key).__name__
