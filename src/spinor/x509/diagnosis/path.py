"""Findings about the way from a host certificate to a CA that is trusted."""

from collections.abc import Iterator, Sequence
from datetime import datetime

import msgspec
from cryptography import x509
from cryptography.x509.oid import ExtensionOID, NameOID

from spinor.x509.constraints import violates
from spinor.x509.diagnosis.findings import Finding, Severity, finding
from spinor.x509.diagnosis.substance import extension, extension_findings, moment, span, strength_findings
from spinor.x509.diagnosis.trusting import Trust, is_signed_by
from spinor.x509.dn import shown_dn
from spinor.x509.refusals import ChainCRLUnusable, DNAmbiguous
from spinor.x509.trust import CRLPolicy

_LONGEST_PATH = 16
# By these attributes the certificates of one organization are told from others'.
_ORGANIZATION = (NameOID.ORGANIZATION_NAME, NameOID.DOMAIN_COMPONENT)


class Path(msgspec.Struct, frozen=True, kw_only=True):
    """Certificates from the host's up, each signed by the next; the last is trusted unless something was missing."""

    steps: tuple[x509.Certificate, ...]
    from_trust: frozenset[int] = frozenset()  # Which steps lay in the trust directory.
    missing: tuple[Finding, ...] = ()


def find_path(sent: Sequence[x509.Certificate], trust: Trust, place: str) -> Path:
    """Up from the host's own certificate, the first of `sent`; what is trusted goes before what was sent."""
    steps, from_trust = [sent[0]], set[int]()
    while True:
        last, subject = steps[-1], shown_dn(steps[-1].subject)
        anchors = trust.anchors_for(last.issuer)
        if last.subject == last.issuer:
            if last not in anchors:
                return Path(
                    steps=tuple(steps), from_trust=frozenset(from_trust), missing=(_untrusted_root(steps, place),)
                )
            return Path(steps=tuple(steps), from_trust=frozenset({*from_trust, len(steps) - 1}))
        offered = [each for each in sent[1:] if each.subject == last.issuer]
        issuer = next((each for each in [*anchors, *offered] if is_signed_by(last, each) is not False), None)
        if issuer is None or len(steps) == _LONGEST_PATH:
            if issuer is not None:
                lack = finding("path-too-long", subject, f"There is no end to its chain after {_LONGEST_PATH} issuers.")
            elif anchors or offered:
                lack = _wrong_signature(subject, last)
            else:
                lack = _no_issuer(sent, last, trust, place)
            return Path(steps=tuple(steps), from_trust=frozenset(from_trust), missing=(lack,))
        if issuer in anchors:
            from_trust.add(len(steps))
        steps.append(issuer)


def host_first(chain: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """The chain with the host's own certificate in front, should somebody have put a CA there."""
    issuers = {each.issuer for each in chain if each.issuer != each.subject}
    if chain[0].subject not in issuers:
        return list(chain)
    host = next((each for each in chain if each.subject not in issuers), chain[0])
    return [host, *(each for each in chain if each is not host)]


def path_findings(
    path: Path, sent: Sequence[x509.Certificate], trust: Trust, now: datetime, crl: CRLPolicy
) -> Iterator[Finding]:
    yield from path.missing
    yield from _completeness_findings(path, sent)
    for depth, ca in enumerate(path.steps[1:], start=1):
        issued = path.steps[depth - 1]
        yield from _issuer_findings(ca, depth, now, of_anchor=ca.subject == ca.issuer)
        if depth in path.from_trust and not _is_allowed(ca, issued, trust):
            sentence = f"The signing policy of {shown_dn(ca.subject)} does not allow it to issue this name."
            yield finding("signing-policy", shown_dn(issued.subject), sentence)
        yield from _constraint_findings(ca, path.steps[:depth])
        if crl is not CRLPolicy.IGNORE:
            yield from _revocation_findings(issued, ca, trust, now, crl)


def _is_allowed(ca: x509.Certificate, issued: x509.Certificate, trust: Trust) -> bool:
    try:
        return trust.policy_allows(ca, issued.subject)
    except DNAmbiguous:  # What could be read as another name is allowed by no policy.
        return False


def _untrusted_root(steps: Sequence[x509.Certificate], place: str) -> Finding:
    root = shown_dn(steps[-1].subject)
    if len(steps) == 1:
        return finding("self-signed", root, f"It signed itself, and {place} does not hold it.")
    return finding("ca-unknown", shown_dn(steps[0].subject), f"Its chain ends in {root}, which {place} does not hold.")


def _wrong_signature(subject: str, last: x509.Certificate) -> Finding:
    issuer = shown_dn(last.issuer)
    sentence = f"It names {issuer} as its issuer, and was not signed with the key of the certificate of that name."
    return finding("signature-wrong", subject, sentence)


def _no_issuer(sent: Sequence[x509.Certificate], last: x509.Certificate, trust: Trust, place: str) -> Finding:
    """The issuer's certificate is nowhere. Whether it is an intermediate or an unknown CA, only its name hints at."""
    subject, issuer = shown_dn(last.subject), shown_dn(last.issuer)
    count = len(sent)
    sentence = f"Its issuer {issuer} is neither in {place} nor among the {count} certificate{'s'[: count > 1]} given."
    parent = _same_organization(last.issuer, trust)
    if parent is None:
        return finding("ca-unknown", subject, sentence)
    known = f" {shown_dn(parent)} is trusted, so the issuer is an intermediate CA of that organization."
    return finding("chain-incomplete", subject, sentence + known)


def _same_organization(issuer: x509.Name, trust: Trust) -> x509.Name | None:
    """A trusted name of the same organization."""
    own = {(each.oid, each.value) for each in issuer if each.oid in _ORGANIZATION}
    for anchor in trust.anchors():
        theirs = {(each.oid, each.value) for each in anchor.subject if each.oid in _ORGANIZATION}
        if own and own == theirs:
            return anchor.subject
    return None


def _completeness_findings(path: Path, sent: Sequence[x509.Certificate]) -> Iterator[Finding]:
    subject = shown_dn(sent[0].subject)
    own = [step for step in path.steps if step in sent]
    strangers = [each for each in sent if each not in path.steps]
    if not path.missing:
        for depth in sorted(path.from_trust):
            step = path.steps[depth]
            if step.subject != step.issuer and step not in sent:
                sentence = (
                    f"The intermediate CA {shown_dn(step.subject)} was not given. It is in the trust directory here, "
                    "but a client that has only root CAs finds no way."
                )
                yield finding("chain-incomplete", subject, sentence, severity=Severity.WARNING)
    if [each for each in sent if each in path.steps] != own:
        yield finding("chain-disordered", subject, "The certificates are not given in the order of issuing.")
    if strangers and not path.missing:
        names = ", ".join(shown_dn(each.subject) for each in strangers)
        yield finding("chain-disordered", subject, f"Certificates that do not belong to its chain are given: {names}.")


def _constraint_findings(ca: x509.Certificate, below: Sequence[x509.Certificate]) -> Iterator[Finding]:
    constraints = extension(ca, ExtensionOID.NAME_CONSTRAINTS)
    if constraints is None or not isinstance(constraints.value, x509.NameConstraints):
        return
    for certificate in below:
        try:
            name = violates(constraints.value, certificate)
        except ValueError:
            continue  # Names that cannot be decoded are told of already.
        if name is not None:
            sentence = f"{shown_dn(ca.subject)} may not issue the name {name} (its nameConstraints)."
            yield finding("name-constraint", shown_dn(certificate.subject), sentence)


def _issuer_findings(ca: x509.Certificate, depth: int, now: datetime, *, of_anchor: bool) -> Iterator[Finding]:
    subject = shown_dn(ca.subject)
    constraints = extension(ca, ExtensionOID.BASIC_CONSTRAINTS)
    value = constraints.value if constraints else None
    if not isinstance(value, x509.BasicConstraints) or not value.ca:
        yield finding("issuer-not-a-ca", subject, "It issued a certificate, and is not a CA (basicConstraints).")
    elif value.path_length is not None and depth - 1 > value.path_length:
        sentence = f"It allows {value.path_length} CAs below it, and there are {depth - 1}."
        yield finding("path-too-long", subject, sentence)
    usage = extension(ca, ExtensionOID.KEY_USAGE)
    if usage and isinstance(usage.value, x509.KeyUsage) and not usage.value.key_cert_sign:
        yield finding("issuer-may-not-sign", subject, "Its key usage lacks keyCertSign.")
    begins, ends = ca.not_valid_before_utc, ca.not_valid_after_utc
    if now > ends:
        yield finding("issuer-expired", subject, f"This CA's certificate expired on {moment(ends)}.")
    elif now < begins:
        clock = f"this machine's clock says {moment(now)}, {span(begins - now)} earlier"
        yield finding("not-yet-valid", subject, f"This CA is valid only from {moment(begins)} on; {clock}.")
    yield from strength_findings(ca, subject, of_anchor=of_anchor)
    yield from extension_findings(ca, subject)


def _revocation_findings(
    issued: x509.Certificate, ca: x509.Certificate, trust: Trust, now: datetime, use: CRLPolicy
) -> Iterator[Finding]:
    subject, issuer = shown_dn(issued.subject), shown_dn(ca.subject)
    try:
        crl = trust.crl_for(ca)
    except ChainCRLUnusable as error:
        yield finding("crl-unusable", subject, error.message)
        return
    if crl is None:
        if use is CRLPolicy.REQUIRED:
            yield finding("crl-missing", subject, f"There is no CRL of {issuer}, and one is required.")
        return
    published, due = crl.last_update_utc, crl.next_update_utc
    if published > now:
        late = f"this machine's clock says {moment(now)}, {span(published - now)} earlier"
        yield finding("clock-behind", issuer, f"Its CRL was published at {moment(published)}; {late}.")
    if due is not None and due < now:
        sentence = f"The CRL of {issuer} was to be renewed by {moment(due)}, {span(now - due)} ago."
        yield finding("crl-expired", subject, sentence)
    entry = crl.get_revoked_certificate_by_serial_number(issued.serial_number)
    if entry is not None:
        reason = _reason(entry)
        sentence = f"{issuer} revoked it on {moment(entry.revocation_date_utc)}{reason}."
        yield finding("revoked", subject, sentence)


def _reason(entry: x509.RevokedCertificate) -> str:
    try:
        reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    except (x509.ExtensionNotFound, ValueError):
        return ""
    return f" ({reason.value})"
