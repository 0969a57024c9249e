"""What every way to a proxy or certificate shares: keys, requests, and the bound on how many."""

import asyncio

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from spinor.db import Tx
from spinor.errors import BadInput, SpinorError
from spinor.identity.delegation import store
from spinor.identity.delegation.models import GIVEN_AT_MOST, KeyKind
from spinor.x509.proxy import PrivateKey, generate_key


class TooManyGiven(SpinorError):
    """You have got very many proxies in the last minutes; keep one for as long as it lasts, or wait ten minutes."""

    status, code = 429, "too-many-proxies-given"


class RequestMalformed(BadInput):
    """This is no certificate request that is accepted."""

    code = "bad-certificate-request"


async def new_key(kind: KeyKind) -> PrivateKey:
    """Made in a thread, since an RSA key takes a tenth of a second."""
    if kind is KeyKind.EC:
        return ec.generate_private_key(ec.SECP256R1())
    return await asyncio.to_thread(generate_key)


def request_of(pem: str) -> x509.CertificateSigningRequest:
    try:
        return x509.load_pem_x509_csr(pem.encode())
    except ValueError:
        raise RequestMalformed("`csr` must be a certificate request in PEM (BEGIN CERTIFICATE REQUEST).") from None


async def check_rate(tx: Tx, user_id: int) -> None:
    """TooManyGiven when the user has got very many in the last minutes."""
    if await store.count_given(tx, user_id) >= GIVEN_AT_MOST:
        raise TooManyGiven
