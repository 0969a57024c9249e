"""Proxies that people delegate to us: the key is made here, they sign for it, and it never was anywhere else."""

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from spinor.access import Caller
from spinor.db import Tx
from spinor.errors import BadInput, Conflict, Denied, NotFound, SpinorError
from spinor.identity import store as identity_store
from spinor.identity.delegation import rules, store
from spinor.identity.delegation.certificates import Call, Certificates
from spinor.identity.delegation.models import (
    LEAST_LEFT_S,
    STORED_AT_MOST,
    ProxyRefusal,
    ProxyRequest,
    RemovedProxies,
    RequestProxy,
    SignedChain,
    StoredProxy,
)
from spinor.identity.delegation.service.giving import new_key
from spinor.identity.delegation.store import SealedProxy
from spinor.identity.keys import KeyRing
from spinor.identity.models import Issued, IssuedKind
from spinor.x509.chain import VerifiedChain, verify_chain
from spinor.x509.proxy import Credential, PrivateKey, make_request, parse_chain
from spinor.x509.proxy_rules import ProxyInfo, proxy_info
from spinor.x509.refusals import CredentialRefused
from spinor.x509.voms import attribute_certificates


class TooManyRequests(SpinorError):
    """You have begun many delegations and not completed them; wait ten minutes."""

    status, code, retry = 429, "too-many-proxy-requests", False


class TooManyProxies(Conflict):
    """You have as many proxies stored as one may have; remove some."""

    code = "too-many-proxies"


class NoSuchRequest(NotFound):
    """There is no such request of yours, or it has expired; begin the upload again."""

    code = "unknown-proxy-request"


class NoSuchProxy(NotFound):
    """There is no such stored proxy of yours, or it has expired."""

    code = "unknown-proxy"


class ProxyRejected(BadInput):
    """This chain cannot be stored."""

    code = "proxy-rejected"


class NotYourCertificate(Denied):
    """The certificate is not linked to you."""

    code = "not-your-certificate"


async def request_proxy(call: Call, wanted: RequestProxy) -> ProxyRequest:
    """Make a key and ask for a signature over it."""
    key = await new_key(wanted.key)
    key_id = uuid4()
    csr = make_request(key).public_bytes(Encoding.PEM).decode()
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    user_id = call.caller.user_id
    sealed = call.keys.seal.close(der, rules.sealed_about(key_id, user_id))
    async with call.db.transaction() as tx:
        expires_at = await store.insert_proxy_request(tx, key_id, user_id, sealed)
    if expires_at is None:
        raise TooManyRequests
    return ProxyRequest(request_id=key_id, csr=csr, expires_at=expires_at)


async def store_proxy(call: Call, request_id: UUID, signed: SignedChain) -> StoredProxy:
    """Keep the proxy that was signed for a request's key, in place of a former one of the same certificate."""
    caller = call.caller
    async with call.db.transaction() as tx:
        request = await store.find_proxy_request(tx, request_id, caller.user_id)
    if request is None:
        raise NoSuchRequest
    key = _open_key(call.keys, request.sealed_key, request_id, caller.user_id)
    chain = await asyncio.to_thread(_verified, call.parts, key, signed)
    async with call.db.transaction() as tx:
        if not await store.is_identity_of(tx, chain.issuer_dn, chain.subject_dn, caller.user_id):
            raise NotYourCertificate(
                f"The certificate {chain.subject_dn} of {chain.issuer_dn} is not linked to you; "
                "run `spinor proxy link`.",
                subject=chain.subject_dn,
            )
        proxy = SealedProxy(
            proxy_id=uuid4(),
            user_id=caller.user_id,
            chain=_pem(chain),
            key_id=request_id,
            sealed_key=request.sealed_key,
            is_limited=chain.is_limited,
            expires_at=chain.not_after,
            subject=chain.subject_dn,
            issuer=chain.issuer_dn,
        )
        proxy_id = await store.store_proxy(tx, caller, proxy, only_this_vo=signed.only_this_vo)
        if proxy_id is None:
            raise NoSuchRequest
        if await store.count_proxies(tx, caller.user_id) > STORED_AT_MOST:
            raise TooManyProxies
        await identity_store.insert_issued(tx, _issued(call, proxy_id, chain))
        found = [each for each in await store.list_proxies(tx, caller) if each.proxy_id == proxy_id]
    return found[0]


async def list_proxies(tx: Tx, caller: Caller) -> list[StoredProxy]:
    """The caller's own, those of other VOs left out."""
    return await store.list_proxies(tx, caller)


async def remove_proxies(tx: Tx, caller: Caller, ids: list[UUID]) -> RemovedProxies:
    """Forget stored proxies. Those that were given out of them live on until they end."""
    done = await store.remove_proxies(tx, caller, ids)
    refused = [
        ProxyRefusal(proxy_id=each, code=NoSuchProxy.code, reason=NoSuchProxy().message)
        for each in dict.fromkeys(ids)
        if each not in done
    ]
    return RemovedProxies(done=done, refused=refused)


def opened(keys: KeyRing, proxy: SealedProxy) -> Credential:
    """The stored proxy with its key."""
    key = _open_key(keys, proxy.sealed_key, proxy.key_id, proxy.user_id)
    return Credential(parse_chain(proxy.chain.encode()), key)


def _open_key(keys: KeyRing, sealed: bytes, key_id: UUID, user_id: int) -> PrivateKey:
    der = keys.seal.open(sealed, rules.sealed_about(key_id, user_id))
    key = serialization.load_der_private_key(der, password=None)
    assert isinstance(key, PrivateKey)
    return key


def _verified(parts: Certificates, key: PrivateKey, signed: SignedChain) -> VerifiedChain:
    try:
        certificates = parse_chain(signed.chain.encode())
        if certificates[0].public_key() != key.public_key():
            raise ProxyRejected("The first certificate was not made for the key of this request; begin again.")
        now = parts.clock()
        chain = verify_chain(certificates, parts.trust, now, parts.crl)
    except CredentialRefused as error:
        # Whoever sends it is signed in, so it is the body that is refused and not the caller.
        raise ProxyRejected(error.message, rule=error.code) from None
    if chain.proxy_depth == 0:
        raise ProxyRejected("The first certificate is no proxy; sign the request with `spinor proxy upload`.")
    if chain.is_limited and not signed.limited:
        raise ProxyRejected("The proxy is limited; a stored one gives less then. Say `limited` if that is meant.")
    if any(attribute_certificates(each) for each in chain.path):
        # They would be in each proxy made from it, whichever group asks for one.
        raise ProxyRejected("The proxy carries VOMS attributes; sign with a proxy without them, or the certificate.")
    left = chain.not_after - now
    if left < timedelta(seconds=LEAST_LEFT_S):
        raise ProxyRejected(f"The proxy ends at {chain.not_after:%Y-%m-%d %H:%M} UTC, which is too soon to store it.")
    lengths = [info.path_length - depth for depth, info in _proxies(chain) if info.path_length is not None]
    if lengths and min(lengths) < 1:
        raise ProxyRejected("The proxy allows no proxy below itself, so nothing could be made from it.")
    return chain


def _proxies(chain: VerifiedChain) -> list[tuple[int, ProxyInfo]]:
    """How many proxies are below each, and what it says of itself."""
    return [(depth, info) for depth, each in enumerate(chain.path) if (info := proxy_info(each)) is not None]


def _pem(chain: VerifiedChain) -> str:
    """Without the trusted authority, which each service has of its own."""
    kept: list[x509.Certificate] = [each for each in chain.path if each.issuer != each.subject]
    return b"".join(each.public_bytes(Encoding.PEM) for each in kept).decode()


def _issued(call: Call, proxy_id: UUID, chain: VerifiedChain) -> Issued:
    caller = call.caller
    return Issued(
        kind=IssuedKind.PROXY_STORED,
        vo_id=caller.vo_id,
        user_id=caller.user_id,
        session_id=caller.session_id,
        name=f"{chain.leaf.serial_number:x}",
        expires_at=chain.not_after,
        address=call.origin.address,
        facts={"proxy_id": str(proxy_id), "dn": chain.subject_dn, "limited": chain.is_limited},
    )
