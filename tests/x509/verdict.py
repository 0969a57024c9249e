"""What `verify_chain` says of a chain, as one word."""

from collections.abc import Sequence

from cryptography import x509

from spinor.x509.chain import Purpose, verify_chain
from spinor.x509.refusals import CredentialRefused
from spinor.x509.trust import CRLPolicy, TrustStore
from tests.x509.pki import NOW, Extension, name

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
