"""The rows of delegated proxies, of VOMS and of the online CA."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from psycopg.types.json import Jsonb

from spinor.access import Caller
from spinor.db import Queries, Tx, execute, fetch, fetch_one, fetch_rows, fetch_value
from spinor.identity.delegation.models import (
    GIVEN_WITHIN_S,
    REMIND_BEFORE_S,
    REQUEST_LIFETIME_S,
    REQUESTS_AT_MOST,
    VOMS_MEMBERSHIP_S,
    OnlineCASetting,
    StoredProxy,
    Voms,
)

Q = Queries("spinor.identity.delegation")


class SealedRequest(msgspec.Struct, frozen=True, kw_only=True):
    key_id: UUID
    sealed_key: bytes


class SealedProxy(msgspec.Struct, frozen=True, kw_only=True):
    proxy_id: UUID
    user_id: int
    chain: str
    key_id: UUID
    sealed_key: bytes
    is_limited: bool
    expires_at: datetime
    subject: str
    issuer: str


class EndingProxy(msgspec.Struct, frozen=True, kw_only=True):
    user: str
    subject: str
    expires_at: datetime


class OnlineCARow(msgspec.Struct, frozen=True, kw_only=True):
    is_enabled: bool = False
    longest_s: int = OnlineCASetting().longest_s
    fingerprint: bytes | None = None
    crl: bytes | None = None
    crl_number: int = 0
    crl_signed_at: datetime | None = None
    signs_attributes: bool = False  # Whether it certifies an attribute authority too.


class Revoked(msgspec.Struct, frozen=True, kw_only=True):
    serial: str
    revoked_at: datetime


# ------------------------------------------------------------------------------ operations data


async def sync_voms(tx: Tx, voms: Sequence[Voms]) -> None:
    await execute(tx, Q.remove_voms, {"vos": [each.vo for each in voms]})
    await execute(tx, Q.put_voms, {"voms": Jsonb(list(voms))})
    await execute(tx, Q.end_unmapped_voms_memberships)
    await execute(tx, Q.end_voms_memberships)


async def sync_online_ca(tx: Tx, setting: OnlineCASetting) -> None:
    await execute(tx, Q.put_online_ca, msgspec.structs.asdict(setting))


async def find_voms(tx: Tx, vo_id: int) -> Voms | None:
    return await fetch_one(tx, Voms, Q.find_voms, {"vo_id": vo_id})


async def list_voms_by_name(tx: Tx, names: Sequence[str]) -> list[Voms]:
    return await fetch(tx, Voms, Q.list_voms_by_name, {"names": list(names)})


# ------------------------------------------------------------------------------ who is who


async def grant_voms_memberships(tx: Tx, user: str, groups: Sequence[tuple[str, str]]) -> None:
    """`groups` are pairs of a VO and a group of it."""
    vos, names = [vo for vo, _ in groups], [group for _, group in groups]
    parameters = {"user": user, "vos": vos, "groups": names, "lifetime_s": VOMS_MEMBERSHIP_S}
    await execute(tx, Q.grant_voms_memberships, parameters)


async def end_voms_memberships(tx: Tx) -> None:
    await execute(tx, Q.end_voms_memberships)


async def is_identity_of(tx: Tx, issuer: str, subject: str, user_id: int) -> bool:
    parameters = {"issuer": issuer, "subject": subject, "user_id": user_id}
    found: bool = await fetch_value(tx, Q.is_identity_of, parameters)
    return found


async def link_identity(tx: Tx, issuer: str, subject: str, user_id: int) -> bool:
    """False when it is somebody else's."""
    parameters = {"issuer": issuer, "subject": subject, "user_id": user_id}
    return await fetch_value(tx, Q.link_identity, parameters) is not None


# ------------------------------------------------------------------------------ proxies


async def insert_proxy_request(tx: Tx, key_id: UUID, user_id: int, sealed_key: bytes) -> datetime | None:
    """When it expires; None when there are too many already."""
    parameters = {"key_id": key_id, "user_id": user_id, "sealed_key": sealed_key}
    bounds = {"lifetime_s": REQUEST_LIFETIME_S, "at_most": REQUESTS_AT_MOST}
    found: datetime | None = await fetch_value(tx, Q.insert_proxy_request, {**parameters, **bounds})
    return found


async def find_proxy_request(tx: Tx, key_id: UUID, user_id: int) -> SealedRequest | None:
    return await fetch_one(tx, SealedRequest, Q.find_proxy_request, {"key_id": key_id, "user_id": user_id})


async def store_proxy(tx: Tx, caller: Caller, proxy: SealedProxy, *, only_this_vo: bool) -> UUID | None:
    """The id, which a renewal keeps; None when the request is gone."""
    parameters = {
        **{name: getattr(proxy, name) for name in ("proxy_id", "key_id", "chain", "is_limited", "expires_at")},
        "subject": proxy.subject,
        "issuer": proxy.issuer,
        "user_id": caller.user_id,
        "vo_id": caller.vo_id,
        "only_this_vo": only_this_vo,
    }
    found: UUID | None = await fetch_value(tx, Q.store_proxy, parameters)
    return found


async def count_proxies(tx: Tx, user_id: int) -> int:
    found: int = await fetch_value(tx, Q.count_proxies, {"user_id": user_id})
    return found


async def list_proxies(tx: Tx, caller: Caller) -> list[StoredProxy]:
    parameters = {"user_id": caller.user_id, "vo_id": caller.vo_id, "remind_before_s": REMIND_BEFORE_S}
    return await fetch(tx, StoredProxy, Q.list_proxies, parameters)


async def remove_proxies(tx: Tx, caller: Caller, ids: Sequence[UUID]) -> list[UUID]:
    parameters = {"ids": list(ids), "user_id": caller.user_id, "vo_id": caller.vo_id}
    return [row[0] for row in await fetch_rows(tx, Q.remove_proxies, parameters)]


async def find_proxy(tx: Tx, caller: Caller, proxy_id: UUID) -> SealedProxy | None:
    parameters = {"proxy_id": proxy_id, "user_id": caller.user_id, "vo_id": caller.vo_id}
    return await fetch_one(tx, SealedProxy, Q.find_proxy, parameters)


async def longest_proxy(tx: Tx, caller: Caller, *, limited_too: bool) -> SealedProxy | None:
    parameters = {"user_id": caller.user_id, "vo_id": caller.vo_id, "limited_too": limited_too}
    return await fetch_one(tx, SealedProxy, Q.longest_proxy, parameters)


async def still_stored(tx: Tx, caller: Caller, proxy: SealedProxy) -> bool:
    parameters = {"proxy_id": proxy.proxy_id, "key_id": proxy.key_id, "user_id": caller.user_id, "vo_id": caller.vo_id}
    found: bool = await fetch_value(tx, Q.still_stored, parameters)
    return found


async def count_given(tx: Tx, user_id: int) -> int:
    found: int = await fetch_value(tx, Q.count_given, {"user_id": user_id, "within_s": GIVEN_WITHIN_S})
    return found


async def delete_ended_proxies(tx: Tx) -> int:
    deleted: int = await fetch_value(tx, Q.delete_ended_proxies)
    return deleted


async def remind_of_proxies(tx: Tx) -> list[EndingProxy]:
    return await fetch(tx, EndingProxy, Q.remind_of_proxies, {"remind_before_s": REMIND_BEFORE_S})


# ------------------------------------------------------------------------------ online CA


async def find_online_ca(tx: Tx) -> OnlineCARow:
    return await fetch_one(tx, OnlineCARow, Q.find_online_ca) or OnlineCARow()


async def lock_online_ca(tx: Tx) -> OnlineCARow:
    """The row, which nobody else changes until the transaction ends."""
    found = await fetch_one(tx, OnlineCARow, Q.lock_online_ca)
    assert found is not None
    return found


async def keep_fingerprint(tx: Tx, fingerprint: bytes) -> None:
    await execute(tx, Q.keep_fingerprint, {"fingerprint": fingerprint})


async def keep_crl(tx: Tx, crl: bytes, number: int) -> None:
    await execute(tx, Q.keep_crl, {"crl": crl, "number": number})


async def common_name(tx: Tx, user_id: int, proposed: str) -> str:
    """What the online CA calls a person; the proposed name when it is the first time."""
    found: str = await fetch_value(tx, Q.common_name, {"user_id": user_id, "common_name": proposed})
    return found


async def insert_certificate(tx: Tx, caller: Caller, serial: str, expires_at: datetime) -> None:
    parameters = {"serial": serial, "vo_id": caller.vo_id, "user_id": caller.user_id, "expires_at": expires_at}
    await execute(tx, Q.insert_certificate, parameters)


async def revoke_of_suspended(tx: Tx) -> int:
    return await execute(tx, Q.revoke_of_suspended)


async def list_revoked(tx: Tx) -> list[Revoked]:
    return await fetch(tx, Revoked, Q.list_revoked)


async def delete_ended_certificates(tx: Tx) -> int:
    return await execute(tx, Q.delete_ended_certificates)
