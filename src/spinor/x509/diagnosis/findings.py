"""What can be wrong with a host certificate: one code, one rule and one remedy each."""

from enum import StrEnum

import msgspec

_NAMES = "RFC 9525 section 6.3"
_ADDRESSES = "RFC 9525 section 6.4"
_ASK_FOR_NAMES = "Ask your CA for a certificate whose subjectAltName lists every name that clients use."
_ASK_FOR_NEW = "Ask your CA for a new certificate, and install it."
_CRL = "RFC 5280 section 6.3.3"
_FETCH_CRL = "Run fetch-crl where this trust directory lies, and see that it runs every few hours."


class Severity(StrEnum):
    FAULT = "fault"  # Some client of today refuses the certificate.
    WARNING = "warning"


class Rule(msgspec.Struct, frozen=True):
    """A rule that a certificate can break: where it stands, and what whoever runs the host can do."""

    source: str
    remedy: str
    severity: Severity = Severity.FAULT


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    code: str
    severity: Severity
    subject: str  # Whose fault it is: the certificate, as a grid DN, or a file.
    sentence: str
    remedy: str
    rule: str

    @property
    def is_fault(self) -> bool:
        return self.severity is Severity.FAULT


RULES: dict[str, Rule] = {
    # Names.
    "no-names": Rule("RFC 9525 section 2", _ASK_FOR_NAMES),
    "names-unreadable": Rule("RFC 5280 section 4.2.1.6", _ASK_FOR_NAMES),
    "name-missing": Rule(_NAMES, _ASK_FOR_NAMES),
    "address-missing": Rule(_ADDRESSES, "Use a name that the certificate is for, or ask for an iPAddress entry."),
    "alias-missing": Rule(
        _NAMES, "Ask for a certificate that lists the alias as well, and install it on every host behind it."
    ),
    "wildcard-misused": Rule(_NAMES, "Ask for a certificate that lists the names themselves."),
    "wildcard-too-shallow": Rule(_NAMES, "Ask for a certificate that lists the name itself: `*` is one label."),
    "ip-as-dns-name": Rule(_ADDRESSES, "Ask for a certificate that has the address as an iPAddress entry."),
    "name-malformed": Rule("RFC 5280 section 4.2.1.6", _ASK_FOR_NAMES, Severity.WARNING),
    # Time.
    "expired": Rule("RFC 5280 section 6.1.3 (a)(2)", _ASK_FOR_NEW),
    "not-yet-valid": Rule(
        "RFC 5280 section 6.1.3 (a)(2)",
        "If that time has passed, this machine's clock is behind: set it by NTP (chrony or systemd-timesyncd). "
        "If not, wait, or ask for a certificate that begins earlier.",
    ),
    "clock-behind": Rule(
        "RFC 5280 section 6.1.3 (a)(2)", "Set this machine's clock by NTP (chrony or systemd-timesyncd)."
    ),
    "ends-soon": Rule("RFC 5280 section 4.1.2.5", _ASK_FOR_NEW, Severity.WARNING),
    "lifetime-too-long": Rule(
        "CA/Browser Forum Baseline Requirements, section 6.3.2",
        "Browsers refuse it if its CA is a public one; ask for at most 398 days.",
        Severity.WARNING,
    ),
    # What the certificate is for.
    "not-for-servers": Rule(
        "RFC 5280 section 4.2.1.12", "Ask for a host certificate (extended key usage serverAuth), not a personal one."
    ),
    "may-not-sign": Rule(
        "RFC 8446 section 4.4.2.2", "Ask for a certificate whose key usage has digitalSignature: TLS 1.3 needs it."
    ),
    "is-a-ca": Rule(
        "RFC 5280 section 4.2.1.9", "Ask for a host certificate; a CA's own belongs on no host.", Severity.WARNING
    ),
    "is-a-proxy": Rule("RFC 3820 section 3.5", "Install the host certificate itself; a proxy is for its own clients."),
    "critical-extension": Rule("RFC 5280 section 4.2", "Ask for a certificate without that extension."),
    # Strength.
    "weak-key": Rule("RFC 9325 section 4.5", "Make a new key (RSA of 2048 bits or more, or EC P-256), and ask anew."),
    "weak-hash": Rule("RFC 8446 section 4.4.2.4", "Ask for a certificate that is signed with SHA-256 or stronger."),
    # The way to the CA.
    "self-signed": Rule("RFC 5280 section 6.1.1 (d)", "Have the key certified by a CA that your clients trust."),
    "ca-unknown": Rule(
        "RFC 5280 section 6.1.1 (d)",
        "Use a certificate of a CA that your clients trust, or name that CA's file or directory with --ca. "
        "If the issuer is an intermediate CA, append its certificate to the server's file.",
    ),
    "chain-incomplete": Rule(
        "RFC 8446 section 4.4.2",
        "Append the certificate of the intermediate CA to the server's file, after its own, and reload the server.",
    ),
    "chain-disordered": Rule(
        "RFC 5246 section 7.4.2", "Order the server's file: its own certificate, then each issuer.", Severity.WARNING
    ),
    "signature-wrong": Rule("RFC 5280 section 6.1.3 (a)(1)", _ASK_FOR_NEW),
    "issuer-not-a-ca": Rule("RFC 5280 section 6.1.4 (k)", "Ask a CA for a certificate: only a CA can issue one."),
    "issuer-may-not-sign": Rule("RFC 5280 section 6.1.4 (n)", "Tell the CA: its certificate lacks keyCertSign."),
    "path-too-long": Rule("RFC 5280 section 6.1.4 (l)", "Tell the CA: it may not have this CA below it."),
    "issuer-expired": Rule("RFC 5280 section 6.1.3 (a)(2)", "Get the CA's new certificate into the trust directory."),
    "signing-policy": Rule(
        "the CA's signing_policy file (EACL)", "Ask the CA that your name belongs to, or update the trust directory."
    ),
    "name-constraint": Rule("RFC 5280 section 6.1.3 (b)", "Ask a CA that may issue this name."),
    # Revocation.
    "crl-missing": Rule(_CRL, _FETCH_CRL),
    "crl-expired": Rule(_CRL, _FETCH_CRL),
    "crl-unusable": Rule(_CRL, _FETCH_CRL),
    "revoked": Rule("RFC 5280 section 6.1.3 (a)(3)", "Make a new key, and ask for a new certificate at once."),
    # The key of a file.
    "key-unreadable": Rule("RFC 5958 section 2", "Give the server a PEM key without a passphrase that it can read."),
    "key-foreign": Rule("RFC 8446 section 4.4.3", "Install the key that the certificate was requested with."),
    "key-exposed": Rule("IGTF: private keys are readable by their owner alone", "Run `chmod 600` on it."),
    # What only others found.
    "refused-by-python": Rule("OpenSSL's verification in Python", "Read its message; no rule of ours explains it."),
    "refused-by-openssl": Rule("OpenSSL's verification", "Read its message; no rule of ours explains it."),
}


def finding(
    code: str, subject: str, sentence: str, *, remedy: str | None = None, severity: Severity | None = None
) -> Finding:
    rule = RULES[code]
    return Finding(
        code=code,
        severity=severity or rule.severity,
        subject=subject,
        sentence=sentence,
        remedy=remedy or rule.remedy,
        rule=rule.source,
    )
