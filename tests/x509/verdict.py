"""What `verify_chain` and OpenSSL say of a chain."""

import subprocess
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from spinor.x509.chain import Purpose, verify_chain
from spinor.x509.refusals import CredentialRefused
from spinor.x509.trust import CRLPolicy, TrustStore
from tests.x509.pki import NOW, Extension, Pki, name

Chain = Sequence[x509.Certificate]
ADA = name("DC=test,DC=grid,CN=Ada Lovelace")
PLAIN: Extension = (x509.BasicConstraints(ca=False, path_length=None), True)
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4.5"), b"\x05\x00")


def code(chain: Chain, trust: TrustStore, crl: CRLPolicy = CRLPolicy.IF_PRESENT, **options: Purpose) -> str:
    """`accepted`, or the code of the broken rule."""
    try:
        verify_chain(chain, trust, NOW, crl, **options)
    except CredentialRefused as error:
        return error.code
    return "accepted"


def openssl(pki: Pki, chain: Chain, *options: str) -> "subprocess.CompletedProcess[str]":
    """`openssl verify` of a chain, with the root as the only authority."""
    parts = {"leaf": chain[:1], "rest": [*chain[1:], pki.authority.certificate], "root": [pki.root.certificate]}
    for stem, certificates in parts.items():
        pem = b"".join(each.public_bytes(Encoding.PEM) for each in certificates)
        (pki.home / f"openssl-{stem}.pem").write_bytes(pem)
    argv = ["openssl", "verify", "-allow_proxy_certs", "-CAfile", "openssl-root.pem", "-no-CApath", "-no-CAstore"]
    argv += ["-untrusted", "openssl-rest.pem", *options, "openssl-leaf.pem"]
    return subprocess.run(argv, cwd=pki.home, capture_output=True, text=True, check=False)
