"""What is in a proxy file, for people."""

import os
from datetime import datetime
from pathlib import Path

import msgspec
from cryptography import x509

from spinor.x509.chain import verify_chain
from spinor.x509.dn import shown_dn
from spinor.x509.proxy import Credential
from spinor.x509.proxy_rules import Language, proxy_info
from spinor.x509.refusals import CredentialRefused, TrustUnreadable
from spinor.x509.trust import TrustStore
from spinor.x509.voms import attribute_certificates, verify_attributes


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """As voms-proxy-info tells it. `verified` says whether chain and attributes hold by the authorities found here."""

    subject: str
    issuer: str
    identity: str
    type: str
    strength: str
    path: str
    timeleft_s: int
    expires_at: datetime
    verified: str
    vo: str = ""
    fqans: list[str] = []
    attributes_from: str = ""
    attributes_until: datetime | None = None


def described(credential: Credential, path: Path, certificates: Path, now: datetime) -> Description:
    """A description of a proxy or certificate, whether or not it still holds."""
    leaf = credential.leaf
    own = next((each for each in credential.chain if proxy_info(each) is None), credential.chain[-1])
    found = [each for proxy in credential.chain for each in attribute_certificates(proxy)]
    first = found[0] if found else None
    return Description(
        subject=shown_dn(leaf.subject),
        issuer=shown_dn(leaf.issuer),
        identity=shown_dn(own.subject),
        type=_type(credential.chain),
        strength=f"{getattr(leaf.public_key(), 'key_size', 0)} bits",
        path=str(path),
        timeleft_s=max(0, int((credential.not_after - now).total_seconds())),
        expires_at=credential.not_after,
        verified=_verified(credential, certificates, now),
        vo=first.vo if first else "",
        fqans=list(first.fqans) if first else [],
        attributes_from=first.uri if first else "",
        attributes_until=first.not_after if first else None,
    )


def _type(chain: tuple[x509.Certificate, ...]) -> str:
    infos = [info for info in map(proxy_info, chain) if info is not None]
    if not infos:
        return "certificate"
    limited = any(info.language is Language.LIMITED for info in infos)
    return "RFC 3820 proxy, limited" if limited else "RFC 3820 proxy"


def _verified(credential: Credential, certificates: Path, now: datetime) -> str:
    try:
        trust = TrustStore(certificates)
        chain = verify_chain(credential.chain, trust, now)
        vomsdir = Path(os.environ.get("X509_VOMS_DIR") or "/etc/grid-security/vomsdir")
        verify_attributes(chain, trust, vomsdir, now)
    except (CredentialRefused, TrustUnreadable) as error:
        return f"no: {error.message}"
    return "yes"
