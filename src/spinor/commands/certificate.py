"""What `spinor server` asks of its own certificate, at its start and whenever the files change."""

import logging
import urllib.parse
from datetime import datetime
from pathlib import Path

from spinor.errors import SpinorError
from spinor.x509.diagnosis import Case, diagnose, key_findings
from spinor.x509.diagnosis.trusting import NoSuchFile, read_chain

log = logging.getLogger(__name__)
# With one of these no client of today would talk to the server; the rest is for `spinor doctor cert` to tell.
_UNBEARABLE = frozenset(
    {
        "no-names", "names-unreadable", "name-missing", "address-missing", "wildcard-misused", "wildcard-too-shallow",
        "ip-as-dns-name", "chain-disordered", "expired", "not-yet-valid", "key-unreadable", "key-foreign",
    }
)  # fmt: skip


class HostCertificateRefused(SpinorError):
    """The server's certificate would be refused by its clients; see `spinor doctor cert`."""

    code = "host-certificate-refused"


def refuse_faulty(certificate: Path, key: Path, url: str, now: datetime) -> None:
    """Raise HostCertificateRefused when clients that ask for the host of this URL must refuse the certificate."""
    host = urllib.parse.urlsplit(url).hostname or ""
    try:
        chain = read_chain(certificate)
    except (NoSuchFile, OSError) as error:
        raise HostCertificateRefused(f"The host certificate (SPINOR_TLS_CERT) cannot be used: {error}") from None
    found = [*diagnose(Case(chain=chain, now=now, name=host)), *key_findings(chain[0], key)]
    for each in found:
        if each.is_fault and each.code in _UNBEARABLE:
            raise HostCertificateRefused(
                f"The host certificate {certificate} cannot serve {url} ({each.code}, {each.rule}): "
                f"{each.sentence} {each.remedy}"
            )
        log.warning("host certificate: %s", each.sentence, extra={"finding": each.code, "remedy": each.remedy})
