"""Everything that is wrong with a host certificate, each finding with the rule that it breaks and the remedy.

What verifies a chain stops at the first fault; whoever mends a host wants to hear of all of them.
"""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from cryptography import x509

from spinor.x509.diagnosis.findings import RULES, Finding, Severity, finding
from spinor.x509.diagnosis.keys import key_findings
from spinor.x509.diagnosis.naming import name_findings
from spinor.x509.diagnosis.path import find_path, host_first, path_findings
from spinor.x509.diagnosis.substance import strength_findings, time_findings, usage_findings
from spinor.x509.diagnosis.trusting import Bundle, Trust
from spinor.x509.dn import shown_dn
from spinor.x509.trust import CRLPolicy

__all__ = [
    "RULES",
    "Bundle",
    "CRLPolicy",
    "Case",
    "Finding",
    "Severity",
    "Trust",
    "diagnose",
    "host_first",
    "key_findings",
]


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A host certificate and what it is judged by."""

    chain: Sequence[x509.Certificate]  # As a server sends it or a file has it: the host's own certificate first.
    now: datetime
    name: str | None = None  # What clients ask for; None when only the certificate itself is judged.
    known_as: Sequence[str] = ()  # Other names of the same host.
    trust: Trust | None = None  # None leaves out the way to a CA.
    trust_place: str = "the trust directory"
    crl: CRLPolicy = CRLPolicy.IF_PRESENT


def diagnose(case: Case) -> list[Finding]:
    """Every finding, the host certificate's own first; empty when all is well."""
    chain = host_first(case.chain)
    host, subject = chain[0], shown_dn(chain[0].subject)
    found = []
    if host is not case.chain[0]:
        sentence = f"The CA {shown_dn(case.chain[0].subject)} comes first, which the server takes for its own."
        found.append(finding("chain-disordered", subject, sentence, severity=Severity.FAULT))
    found += [
        *name_findings(host, subject, case.name, case.known_as),
        *time_findings(host, subject, case.now),
        *usage_findings(host, subject),
        *strength_findings(host, subject),
    ]
    if case.trust is not None:
        path = find_path(chain, case.trust, case.trust_place)
        found += path_findings(path, chain, case.trust, case.now, case.crl)
    return found
