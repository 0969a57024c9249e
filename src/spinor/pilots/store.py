"""The rows of pilots: one short function per query."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from psycopg import sql

from spinor.access import Caller
from spinor.db import Queries, Tx, array_text, execute, fetch, fetch_one, fetch_rows, fetch_value
from spinor.errors import SpinorError
from spinor.jobs.models import Offer
from spinor.pilots.models import (
    Census,
    ElementPilots,
    Ending,
    Enrolment,
    Finding,
    Followed,
    IdlePilots,
    NodeMask,
    Pilot,
    PilotStatus,
    Purpose,
    Record,
    SeenOffer,
    Trouble,
)
from spinor.search.fields import Field, FieldKind, Fields
from spinor.search.page import Page

Q = Queries("spinor.pilots")
LISTS = Queries("spinor.pilots", "search.sql")

ERRORS: dict[str, type[SpinorError]] = {}

_SIZES = ("cores", "memory_bytes", "disk_bytes", "wall_s")

FIELDS = Fields(
    [
        Field("pilot_id", sql.SQL("pilot.pilot_id"), FieldKind.INTEGER),
        Field("status", sql.SQL("pilot.status"), FieldKind.ENUM, values=tuple(status.value for status in PilotStatus)),
        Field("computing_element", sql.SQL("ce.name"), FieldKind.TEXT),
        Field("site", sql.SQL("site.name"), FieldKind.TEXT),
        Field("external_id", sql.SQL("pilot.external_id"), FieldKind.TEXT, nullable=True),
        Field("hostname", sql.SQL("pilot.hostname"), FieldKind.TEXT),
        Field("jobs_taken", sql.SQL("pilot.jobs_taken"), FieldKind.INTEGER),
        Field("created_at", sql.SQL("pilot.created_at"), FieldKind.TIMESTAMP),
        Field("submitted_at", sql.SQL("pilot.submitted_at"), FieldKind.TIMESTAMP, nullable=True),
        Field("enrolled_at", sql.SQL("pilot.enrolled_at"), FieldKind.TIMESTAMP, nullable=True),
        Field("last_seen_at", sql.SQL("pilot.last_seen_at"), FieldKind.TIMESTAMP, nullable=True),
        Field("ended_at", sql.SQL("pilot.ended_at"), FieldKind.TIMESTAMP, nullable=True),
        Field("reason", sql.SQL("pilot.reason"), FieldKind.TEXT),
        Field("purpose", sql.SQL("pilot.purpose"), FieldKind.ENUM, values=tuple(each.value for each in Purpose)),
        Field("hs23_per_core", sql.SQL("pilot.hs23_per_core"), FieldKind.FLOAT, nullable=True),
        Field("drain_reason", sql.SQL("pilot.drain_reason"), FieldKind.TEXT),
        Field("cpu_model", sql.SQL("pilot.node ->> 'cpu_model'"), FieldKind.TEXT, nullable=True),
        Field("kernel", sql.SQL("pilot.node ->> 'kernel'"), FieldKind.TEXT, nullable=True),
        Field("is_unfit", sql.SQL("(pilot.diagnosis IS NOT NULL)"), FieldKind.BOOLEAN),
    ]
)


class InsertedPilot(msgspec.Struct, frozen=True, kw_only=True):
    pilot_id: int
    vo_id: int
    vo: str
    secret_hash: bytes


class EnrolmentState(msgspec.Struct, frozen=True, kw_only=True):
    status: PilotStatus
    enrolled: bool
    known: bool


class SlotOfPilot(msgspec.Struct, frozen=True, kw_only=True):
    pilot_id: int
    site: str
    site_id: int
    ce: str
    ce_id: int
    vo_id: int
    ended: bool
    drains: bool = False  # It is to take no more jobs.


class SeenPilot(msgspec.Struct, frozen=True, kw_only=True):
    pilot_id: int
    vo_id: int
    ce_id: int
    ce: str
    purpose: Purpose
    drain_reason: str


class UnfitPilot(msgspec.Struct, frozen=True, kw_only=True):
    ce_id: int
    ce: str
    hostname: str
    purpose: Purpose


class UnfitCount(msgspec.Struct, frozen=True, kw_only=True):
    """Within a while: reports from one node, and nodes of the element from which there were any."""

    on_node: int
    nodes: int


class HostOfPilot(msgspec.Struct, frozen=True, kw_only=True):
    pilot_id: int
    ce_id: int
    ce: str
    hostname: str


class AliveCount(msgspec.Struct, frozen=True, kw_only=True):
    computing_element: str
    site: str
    status: PilotStatus
    pilots: int


class TroubleOfElement(msgspec.Struct, frozen=True, kw_only=True):
    computing_element: str
    site: str
    failures: int
    reason: str
    last_at: datetime
    next_try_at: datetime


class PilotState(msgspec.Struct, frozen=True, kw_only=True):
    pilot_id: int
    status: PilotStatus


# --------------------------------------------------------------------------------------------------- the factory


async def take_turn(tx: Tx) -> bool:
    return bool(await fetch_value(tx, Q.take_turn))


async def insert_pilots(
    tx: Tx, pilots: Sequence[tuple[int, int, bytes]], purpose: Purpose = Purpose.WORK
) -> list[InsertedPilot]:
    """`pilots` are (VO, computing element, SHA-256 of the secret)."""
    vo_ids, ce_ids, hashes = (list(column) for column in zip(*pilots, strict=True))
    parameters = {"vo_ids": vo_ids, "ce_ids": ce_ids, "secret_hashes": hashes, "purpose": purpose}
    return await fetch(tx, InsertedPilot, Q.insert_pilots, parameters)


async def record_submissions(tx: Tx, external_ids: dict[int, str]) -> None:
    """`external_ids` by pilot."""
    parameters = {"pilot_ids": list(external_ids), "external_ids": list(external_ids.values())}
    await execute(tx, Q.record_submissions, parameters)


async def list_census(tx: Tx) -> list[Census]:
    return await fetch(tx, Census, Q.list_census)


async def list_idle(tx: Tx, fresh_s: float) -> list[IdlePilots]:
    return await fetch(tx, IdlePilots, Q.list_idle, {"fresh_s": fresh_s})


async def list_seen_offers(tx: Tx) -> list[SeenOffer]:
    return await fetch(tx, SeenOffer, Q.list_seen_offers)


async def list_trouble(tx: Tx) -> list[Trouble]:
    return await fetch(tx, Trouble, Q.list_trouble)


async def note_trouble(tx: Tx, told: Sequence[tuple[int, int, str]]) -> None:
    """`told` are (computing element, VO, reason), each pair once."""
    ce_ids, vo_ids, reasons = (list(column) for column in zip(*told, strict=True))
    await execute(tx, Q.note_trouble, {"ce_ids": ce_ids, "vo_ids": vo_ids, "reasons": reasons})


async def fold_tally(tx: Tx) -> None:
    await execute(tx, Q.fold_tally)


async def settle_pilots(tx: Tx, pilot_ids: Sequence[int]) -> None:
    await execute(tx, Q.settle_pilots, {"pilot_ids": list(pilot_ids)})


async def list_records(tx: Tx) -> list[Record]:
    return await fetch(tx, Record, Q.list_records)


async def list_followed(tx: Tx) -> list[Followed]:
    return await fetch(tx, Followed, Q.list_followed)


async def set_waiting(tx: Tx, pilot_ids: Sequence[int]) -> None:
    await execute(tx, Q.set_waiting, {"pilot_ids": list(pilot_ids)})


async def end_pilots(tx: Tx, endings: Sequence[tuple[PilotStatus, Ending]]) -> list[int]:
    """The pilots that were still in the state given with each ending, and have ended now."""
    parameters = {
        "pilot_ids": [ending.pilot_id for _, ending in endings],
        "sources": [source.value for source, _ in endings],
        "statuses": [ending.status.value for _, ending in endings],
        "reasons": [ending.reason for _, ending in endings],
    }
    return [row[0] for row in await fetch_rows(tx, Q.end_pilots, parameters)]


async def insert_outputs(tx: Tx, texts: dict[int, bytes]) -> None:
    await execute(tx, Q.insert_outputs, {"pilot_ids": list(texts), "texts": list(texts.values())})


# ------------------------------------------------------------------------------------------------ a pilot's life


async def enrol(tx: Tx, asked: Enrolment, secret_hash: bytes, hostname: str) -> str | None:
    """The pilot's VO, or None when the secret is wrong or spent, or the pilot's time is over."""
    parameters = {
        "pilot_id": asked.pilot_id,
        "secret_hash": secret_hash,
        "offer": _json(asked.offer),
        "hostname": hostname,
        # What it has left changes; what it came with stays.
        "node": _json({**asked.node, **{name: getattr(asked.offer, name) for name in _SIZES}}),
    }
    vo: str | None = await fetch_value(tx, Q.enrol, parameters)
    if vo is not None:
        await execute(tx, Q.note_seen_offer, {"pilot_id": asked.pilot_id})
        await execute(tx, Q.forget_trouble, {"pilot_id": asked.pilot_id})
    return vo


async def find_mask(tx: Tx, pilot_id: int) -> str | None:
    """Why the node of this pilot is masked, if it is."""
    reason: str | None = await fetch_value(tx, Q.find_mask, {"pilot_id": pilot_id})
    return reason


async def find_enrolment(tx: Tx, pilot_id: int, secret_hash: bytes) -> EnrolmentState | None:
    parameters = {"pilot_id": pilot_id, "secret_hash": secret_hash}
    return await fetch_one(tx, EnrolmentState, Q.find_enrolment, parameters)


async def find_slot(tx: Tx, caller: Caller) -> SlotOfPilot | None:
    return await fetch_one(tx, SlotOfPilot, Q.find_slot, _who(caller))


async def lock_slots(tx: Tx, pilot_ids: Sequence[int]) -> list[SlotOfPilot]:
    """Those of the pilots that have not ended; they cannot end before the transaction does."""
    return await fetch(tx, SlotOfPilot, Q.lock_slots, {"pilot_ids": list(pilot_ids)})


async def note_offers(tx: Tx, offers: Sequence[tuple[int, Offer, int]]) -> None:
    """`offers` are (pilot, what it has left, jobs that it has just taken)."""
    parameters = {
        "pilot_ids": array_text([pilot_id for pilot_id, _, _ in offers]),
        "offers": array_text([_json(offer) for _, offer, _ in offers]),
        "taken": array_text([taken for _, _, taken in offers]),
    }
    await execute(tx, Q.note_offers, parameters)


async def note_seen(tx: Tx, pilot_ids: Sequence[int]) -> list[SeenPilot]:
    """Those of the pilots that have not ended."""
    return await fetch(tx, SeenPilot, Q.note_seen, {"pilot_ids": list(pilot_ids)})


async def report_unfit(tx: Tx, caller: Caller, reason: str, diagnosis: Sequence[Finding]) -> UnfitPilot | None:
    """None when the pilot has ended already."""
    parameters = {**_who(caller), "reason": reason, "diagnosis": _json(list(diagnosis))}
    return await fetch_one(tx, UnfitPilot, Q.report_unfit, parameters)


async def count_unfit(tx: Tx, ce_id: int, hostname: str, window_s: float) -> UnfitCount:
    found = await fetch_one(tx, UnfitCount, Q.count_unfit, {"ce_id": ce_id, "hostname": hostname, "window_s": window_s})
    assert found is not None
    return found


async def mask_node(tx: Tx, ce_id: int, hostname: str, *, reason: str, actor: str, lasting_s: float) -> list[int]:
    """Give no more jobs to this node's pilots; those that are there now, and must hear of it."""
    parameters = {"ce_id": ce_id, "hostname": hostname, "reason": reason, "actor": actor, "lasting_s": lasting_s}
    await execute(tx, Q.mask_node, parameters)
    rows = await fetch_rows(tx, Q.drain_node, {"ce_id": ce_id, "hostname": hostname, "reason": reason})
    return [row[0] for row in rows]


async def unmask_nodes(tx: Tx, name: str, hostnames: Sequence[str]) -> list[str]:
    rows = await fetch_rows(tx, Q.unmask_nodes, {"name": name, "hostnames": list(hostnames)})
    return [row[0] for row in rows]


async def list_masks(tx: Tx, vo_id: int, name: str) -> list[NodeMask]:
    return await fetch(tx, NodeMask, Q.list_masks, {"vo_id": vo_id, "name": name})


async def is_masked(tx: Tx, ce_id: int, hostname: str) -> bool:
    return bool(await fetch_value(tx, Q.is_masked, {"ce_id": ce_id, "hostname": hostname}))


async def count_masks(tx: Tx, ce_id: int) -> int:
    return int(await fetch_value(tx, Q.count_masks, {"ce_id": ce_id}))


async def withdraw_pilots(tx: Tx, ce_ids: Sequence[int], reason: str) -> list[int]:
    return [row[0] for row in await fetch_rows(tx, Q.withdraw_pilots, {"ce_ids": list(ce_ids), "reason": reason})]


async def list_hosts(tx: Tx, pilot_ids: Sequence[int]) -> list[HostOfPilot]:
    return await fetch(tx, HostOfPilot, Q.list_hosts, {"pilot_ids": list(pilot_ids)})


async def say_goodbye(tx: Tx, caller: Caller, reason: str) -> bool:
    return bool(await fetch_rows(tx, Q.say_goodbye, {**_who(caller), "reason": reason}))


async def find_log_end(tx: Tx, caller: Caller) -> int | None:
    end: int | None = await fetch_value(tx, Q.find_log_end, _who(caller))
    return end


async def insert_log(tx: Tx, caller: Caller, position: int, data: bytes) -> None:
    await execute(tx, Q.insert_log, {**_who(caller), "position": position, "data": data})


def _who(caller: Caller) -> dict[str, Any]:
    return {"pilot_id": caller.pilot_id, "vo_id": caller.vo_id}


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


# ---------------------------------------------------------------------------------------------------- for people


async def search_pilots(tx: Tx, vo_id: int, page: Page) -> list[tuple[Any, ...]]:
    query = sql.SQL(LISTS.search_pilots).format(**page.parts)
    return await fetch_rows(tx, query, {**page.params, "vo_id": vo_id})


async def find_pilot(tx: Tx, vo_id: int, pilot_id: int) -> Pilot | None:
    return await fetch_one(tx, Pilot, Q.find_pilot, {"vo_id": vo_id, "pilot_id": pilot_id})


async def read_log(tx: Tx, vo_id: int, pilot_id: int, position: int, limit: int) -> list[tuple[int, bytes]]:
    parameters = {"vo_id": vo_id, "pilot_id": pilot_id, "position": position, "limit": limit}
    return [(row[0], bytes(row[1])) for row in await fetch_rows(tx, Q.read_log, parameters)]


async def cancel_pilots(tx: Tx, vo_id: int, pilot_ids: Sequence[int], reason: str) -> list[int]:
    parameters = {"vo_id": vo_id, "pilot_ids": list(pilot_ids), "reason": reason}
    return [row[0] for row in await fetch_rows(tx, Q.cancel_pilots, parameters)]


async def list_states(tx: Tx, vo_id: int, pilot_ids: Sequence[int]) -> list[PilotState]:
    return await fetch(tx, PilotState, Q.list_states, {"vo_id": vo_id, "pilot_ids": list(pilot_ids)})


async def count_alive(tx: Tx, vo_id: int) -> list[AliveCount]:
    return await fetch(tx, AliveCount, Q.count_alive, {"vo_id": vo_id})


async def summarise_ended(tx: Tx, vo_id: int, since: datetime) -> list[ElementPilots]:
    return await fetch(tx, ElementPilots, Q.summarise_ended, {"vo_id": vo_id, "since": since})


async def list_trouble_of_vo(tx: Tx, vo_id: int) -> list[TroubleOfElement]:
    return await fetch(tx, TroubleOfElement, Q.list_trouble_of_vo, {"vo_id": vo_id})
