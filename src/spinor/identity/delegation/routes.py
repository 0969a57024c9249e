"""Addresses of proxies and of the online CA."""

import asyncio
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from spinor.access import Caller, Scope
from spinor.db import Database, Tx
from spinor.http import Public, Routes, State
from spinor.identity.delegation import service
from spinor.identity.delegation.certificates import Call, Certificates
from spinor.identity.delegation.models import (
    CertificateRequest,
    DelegateProxy,
    GivenCertificate,
    GivenProxy,
    LinkCertificate,
    LinkedCertificate,
    NewProxy,
    ProxyIds,
    ProxyRequest,
    RemovedProxies,
    RequestProxy,
    SignedChain,
    StoredProxy,
)
from spinor.identity.keys import KeyRing
from spinor.identity.oauth.endpoint import origin_of
from spinor.settings import Settings

routes = Routes("identity")


def _call(db: Database, state: State, caller: Caller, request: Request) -> Call:
    return Call(db=db, keys=state[KeyRing], parts=state[Certificates], caller=caller, origin=origin_of(request))


@routes.post("/api/proxies/requests", scope=Scope.PROXIES_USE, status=201)
async def request_proxy(
    db: Database, state: State, caller: Caller, request: Request, body: RequestProxy
) -> ProxyRequest:
    """Begin a delegation: the service makes a key and asks for your signature over it."""
    return await service.request_proxy(_call(db, state, caller, request), body)


@routes.put("/api/proxies/requests/{request_id}", scope=Scope.PROXIES_USE)
async def store_proxy(
    db: Database, state: State, caller: Caller, request: Request, request_id: UUID, body: SignedChain
) -> StoredProxy:
    """Complete a delegation with the signed chain. A former proxy of the same certificate is replaced."""
    return await service.store_proxy(_call(db, state, caller, request), request_id, body)


@routes.get("/api/proxies", scope=Scope.PROXIES_USE)
async def list_proxies(tx: Tx, caller: Caller) -> list[StoredProxy]:
    """Your stored proxies, the longest-lived first."""
    return await service.list_proxies(tx, caller)


@routes.post("/api/proxies/remove", scope=Scope.PROXIES_USE)
async def remove_proxies(tx: Tx, caller: Caller, body: ProxyIds) -> RemovedProxies:
    """Forget stored proxies of yours."""
    return await service.remove_proxies(tx, caller, body.ids)


@routes.post("/api/proxies/{proxy_id}/delegate", scope=Scope.PROXIES_USE)
async def delegate_proxy(
    db: Database, state: State, caller: Caller, request: Request, proxy_id: UUID, body: DelegateProxy
) -> GivenProxy:
    """Get a proxy below a stored one of yours: for your certificate request, or with a key made here."""
    return await service.delegate_proxy(_call(db, state, caller, request), proxy_id, body)


@routes.post("/api/proxies/new", scope=Scope.PROXIES_USE)
async def new_proxy(db: Database, state: State, caller: Caller, request: Request, body: NewProxy) -> GivenProxy:
    """Get a proxy with its key in one step, from a stored one of yours or from the online CA."""
    return await service.new_proxy(_call(db, state, caller, request), body)


@routes.post("/api/payload/proxy", scope=Scope.PAYLOAD_PROXY)
async def new_payload_proxy(db: Database, state: State, caller: Caller, request: Request, body: NewProxy) -> GivenProxy:
    """Get a limited proxy of the job's owner, for its payload."""
    return await service.new_proxy(_call(db, state, caller, request), msgspec.structs.replace(body, limited=True))


@routes.post("/api/x509/certificates", scope=Scope.PROXIES_USE)
async def issue_certificate(
    db: Database, state: State, caller: Caller, request: Request, body: CertificateRequest
) -> GivenCertificate:
    """Get a short certificate of the online CA for the key of your certificate request."""
    return await service.issue_certificate(_call(db, state, caller, request), body)


@routes.post("/api/x509/link", scope=Scope.SELF_WRITE)
async def link_certificate(db: Database, state: State, caller: Caller, body: LinkCertificate) -> LinkedCertificate:
    """Link a certificate to you, by an assertion that its key has signed; from then on it signs you in."""
    audience = f"{state[Settings].url}/api/x509/link"
    return await service.link_certificate(db, state[Certificates], caller, body.assertion, audience)


@routes.get("/api/x509/ca.pem", scope=Public.DESCRIPTION)
async def online_ca_certificate(db: Database, state: State) -> Response:
    """The certificate of the online CA, for services that are to trust it."""
    ca = await service.published_ca(db, state[Certificates])
    return Response(ca.pem(), media_type="application/x-pem-file")


@routes.get("/api/x509/crl", scope=Public.DESCRIPTION)
async def online_ca_crl(db: Database, state: State) -> Response:
    """The revocation list of the online CA (DER)."""
    found = await service.crl(db, state[Certificates])
    return Response(found, headers={"cache-control": "max-age=60"}, media_type="application/pkix-crl")


@routes.get("/api/x509/signing_policy", scope=Public.DESCRIPTION)
async def online_ca_signing_policy(db: Database, state: State) -> Response:
    """What the online CA may sign, as Globus writes it: <hash>.signing_policy."""
    return Response((await service.published_ca(db, state[Certificates])).signing_policy(), media_type="text/plain")


@routes.get("/api/x509/namespaces", scope=Public.DESCRIPTION)
async def online_ca_namespaces(db: Database, state: State) -> Response:
    """What the online CA may sign, as EUGridPMA writes it: <hash>.namespaces."""
    return Response((await service.published_ca(db, state[Certificates])).namespaces(), media_type="text/plain")


@routes.get("/api/x509/lsc", scope=Public.DESCRIPTION)
async def attribute_authority_lsc(db: Database, state: State) -> Response:
    """Who signs VOMS attributes here: the content of vomsdir/<vo>/<this host>.lsc."""
    parts = state[Certificates]
    ca = await service.published_ca(db, parts)
    text = await asyncio.to_thread(ca.lsc, parts.host, parts.clock())  # It may have to make a key.
    return Response(text, media_type="text/plain")
