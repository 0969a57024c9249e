"""Proxies that are given to their owners: below a stored one, or below a fresh certificate of the online CA."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from spinor.db import Tx
from spinor.errors import BadInput, NotFound
from spinor.identity import store as identity_store
from spinor.identity.delegation import rules, store
from spinor.identity.delegation.certificates import Call
from spinor.identity.delegation.models import DelegateProxy, GivenProxy, NewProxy, Source, Voms
from spinor.identity.delegation.service import certifying
from spinor.identity.delegation.service.attributes import attributes_for
from spinor.identity.delegation.service.giving import RequestMalformed, check_rate, new_key, request_of
from spinor.identity.delegation.service.uploads import NoSuchProxy, opened
from spinor.identity.delegation.store import SealedProxy
from spinor.identity.models import Issued, IssuedKind
from spinor.identity.service.members import member_of
from spinor.x509.dn import slash_dn
from spinor.x509.proxy import Credential, issue_proxy, sign_request
from spinor.x509.proxy_rules import Language, proxy_info
from spinor.x509.refusals import RequestRefused


class ProxyTooShort(BadInput):
    """The stored proxy does not last that long."""

    code = "proxy-too-short"


class NothingToStartFrom(NotFound):
    """There is nothing that a proxy could be made from."""

    code = "no-proxy-source"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A proxy that was found to be allowed."""

    wanted: DelegateProxy
    csr: x509.CertificateSigningRequest | None
    limited: bool
    voms: Voms | None


async def delegate_proxy(call: Call, proxy_id: UUID, wanted: DelegateProxy) -> GivenProxy:
    """A proxy below a stored one of the caller's, never fuller than that one and than the group may have."""
    async with call.db.transaction() as tx:
        proxy = await store.find_proxy(tx, call.caller, proxy_id)
        if proxy is None:
            raise NoSuchProxy
        plan = await _plan(tx, call, wanted, stored=proxy.is_limited)
    return await _below_stored(call, proxy, plan)


async def new_proxy(call: Call, wanted: NewProxy) -> GivenProxy:
    """A proxy with its key in one step, from whatever there is: for notebooks, and for people without certificates."""
    asked = DelegateProxy(lifetime_s=wanted.lifetime_s, limited=wanted.limited, voms=wanted.voms, key=wanted.key)
    async with call.db.transaction() as tx:
        stored = await _source(tx, call, wanted)
        plan = await _plan(tx, call, asked, stored=stored is not None and stored.is_limited)
    if stored is not None:
        return await _below_stored(call, stored, plan)
    credential = await certifying.own_credential(call, timedelta(seconds=wanted.lifetime_s))
    given, issued = await _signed(call, credential, plan, {"source": Source.ONLINE_CA.value})
    async with call.db.transaction() as tx:
        await identity_store.insert_issued(tx, issued)
    return given


async def _source(tx: Tx, call: Call, wanted: NewProxy) -> SealedProxy | None:
    """The stored proxy to start from; None: the online CA."""
    if wanted.source is Source.ONLINE_CA:
        return None
    stored = await store.longest_proxy(tx, call.caller, limited_too=wanted.limited)
    if wanted.source is Source.STORED and stored is not None:
        return stored
    if stored is not None and _left_s(stored, call.parts.clock()) >= wanted.lifetime_s:
        return stored
    if wanted.source is Source.ANY and await certifying.is_enabled(tx):
        return None
    if stored is None:
        online = "" if wanted.source is Source.STORED else " and this service's online CA is off"
        raise NothingToStartFrom(
            f"No such proxy of yours is stored here{online}; run `spinor proxy upload` where your certificate is."
        )
    return stored


async def _plan(tx: Tx, call: Call, wanted: DelegateProxy, *, stored: bool) -> Plan:
    caller = call.caller
    csr = request_of(wanted.csr) if wanted.csr else None
    await check_rate(tx, caller.user_id)
    member = await member_of(tx, caller.vo_id, caller.user_id, caller.group_id)
    limited = rules.is_limited(member.properties, caller.group, asked=wanted.limited, stored=stored)
    return Plan(wanted=wanted, csr=csr, limited=limited, voms=await store.find_voms(tx, caller.vo_id))


def _left_s(proxy: SealedProxy, now: datetime) -> float:
    return (proxy.expires_at - now).total_seconds()


async def _below_stored(call: Call, proxy: SealedProxy, plan: Plan) -> GivenProxy:
    left_s, lifetime_s = _left_s(proxy, call.parts.clock()), plan.wanted.lifetime_s
    if lifetime_s > left_s:
        raise ProxyTooShort(
            f"The stored proxy ends in {max(0, int(left_s))} s, and {lifetime_s} s were asked for; renew it with "
            "`spinor proxy upload`, or ask for less.",
            left_s=int(left_s),
        )
    facts = {"source": Source.STORED.value, "proxy_id": str(proxy.proxy_id)}
    given, issued = await _signed(call, opened(call.keys, proxy), plan, facts)
    async with call.db.transaction() as tx:
        # It may have been removed or replaced while a VOMS server was asked.
        if not await store.still_stored(tx, call.caller, proxy):
            raise NoSuchProxy
        await identity_store.insert_issued(tx, issued)
    return given


async def _signed(call: Call, credential: Credential, plan: Plan, facts: dict[str, str]) -> tuple[GivenProxy, Issued]:
    """The proxy, and its line for the audit log, which has to be written before the proxy is given."""
    parts, wanted = call.parts, plan.wanted
    lifetime = timedelta(seconds=wanted.lifetime_s)
    extensions, fqans = await attributes_for(call, wanted.voms, plan.voms, credential, lifetime)
    common: dict[str, Any] = {
        "lifetime": lifetime, "limited": plan.limited, "extensions": extensions, "now": parts.clock(),
    }  # fmt: skip
    if plan.csr is None:
        key = await new_key(wanted.key)
        leaf = issue_proxy(credential.chain, credential.key, key.public_key(), **common)
        pem = Credential((leaf, *credential.chain), key).pem()
    else:
        try:
            leaf = await asyncio.to_thread(sign_request, plan.csr, credential.chain, credential.key, **common)
        except RequestRefused as error:
            raise RequestMalformed(error.message) from None
        pem = b"".join(each.public_bytes(Encoding.PEM) for each in (leaf, *credential.chain))
    info = proxy_info(leaf)
    is_limited = info is not None and info.language is Language.LIMITED
    assert is_limited or not plan.limited
    end_entity = next(each for each in credential.chain if proxy_info(each) is None)
    given = GivenProxy(
        pem=pem.decode(),
        subject=slash_dn(leaf.subject),
        identity=slash_dn(end_entity.subject),
        issuer=slash_dn(end_entity.issuer),
        is_limited=is_limited,
        fqans=fqans,
        expires_at=leaf.not_valid_after_utc,
    )
    return given, _issued(call, given, f"{leaf.serial_number:x}", {"lifetime_s": wanted.lifetime_s, **facts})


def _issued(call: Call, given: GivenProxy, serial: str, facts: dict[str, Any]) -> Issued:
    caller = call.caller
    about = {"dn": given.identity, "limited": given.is_limited, "fqans": given.fqans, "group": caller.group}
    return Issued(
        kind=IssuedKind.PROXY,
        vo_id=caller.vo_id,
        user_id=caller.user_id,
        session_id=caller.session_id,
        name=serial,
        expires_at=given.expires_at,
        address=call.origin.address,
        facts={**about, **facts},
    )
