"""The rows of pilots: one short function per query."""

from collections.abc import Sequence
from typing import Any

import msgspec
from psycopg import sql

from spinor.access import Caller
from spinor.db import Queries, Tx, array_text, execute, fetch, fetch_one, fetch_rows, fetch_value
from spinor.errors import SpinorError
from spinor.jobs.models import Offer
from spinor.pilots.models import AlivePilot, Ending, Followed, Pilot, PilotStatus, Record
from spinor.search.fields import Field, FieldKind, Fields
from spinor.search.page import Page

Q = Queries("spinor.pilots")
LISTS = Queries("spinor.pilots", "search.sql")

ERRORS: dict[str, type[SpinorError]] = {}

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
    ]
)


class InsertedPilot(msgspec.Struct, frozen=True, kw_only=True):
    pilot_id: int
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


class PilotState(msgspec.Struct, frozen=True, kw_only=True):
    pilot_id: int
    status: PilotStatus


# --------------------------------------------------------------------------------------------------- the factory


async def take_turn(tx: Tx) -> bool:
    return bool(await fetch_value(tx, Q.take_turn))


async def insert_pilots(tx: Tx, pilots: Sequence[tuple[int, int, bytes]]) -> list[InsertedPilot]:
    """`pilots` are (VO, computing element, SHA-256 of the secret)."""
    vo_ids, ce_ids, hashes = (list(column) for column in zip(*pilots, strict=True))
    parameters = {"vo_ids": vo_ids, "ce_ids": ce_ids, "secret_hashes": hashes}
    return await fetch(tx, InsertedPilot, Q.insert_pilots, parameters)


async def record_submissions(tx: Tx, external_ids: dict[int, str]) -> None:
    """`external_ids` by pilot."""
    parameters = {"pilot_ids": list(external_ids), "external_ids": list(external_ids.values())}
    await execute(tx, Q.record_submissions, parameters)


async def list_alive(tx: Tx, fresh_s: float) -> list[AlivePilot]:
    return await fetch(tx, AlivePilot, Q.list_alive, {"fresh_s": fresh_s})


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


async def enrol(tx: Tx, pilot_id: int, secret_hash: bytes, offer: Offer, hostname: str) -> str | None:
    """The pilot's VO, or None when the secret is wrong or spent, or the pilot's time is over."""
    vo: str | None = await fetch_value(
        tx,
        Q.enrol,
        {"pilot_id": pilot_id, "secret_hash": secret_hash, "offer": _json(offer), "hostname": hostname},
    )
    return vo


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
        "offers": [_json(offer) for _, offer, _ in offers],
        "taken": array_text([taken for _, _, taken in offers]),
    }
    await execute(tx, Q.note_offers, parameters)


async def note_seen(tx: Tx, caller: Caller) -> bool:
    return bool(await fetch_rows(tx, Q.note_seen, _who(caller)))


async def say_goodbye(tx: Tx, caller: Caller, reason: str) -> bool:
    return bool(await fetch_rows(tx, Q.say_goodbye, {**_who(caller), "reason": reason}))


async def find_log_end(tx: Tx, caller: Caller) -> int | None:
    end: int | None = await fetch_value(tx, Q.find_log_end, _who(caller))
    return end


async def insert_log(tx: Tx, caller: Caller, position: int, data: bytes) -> None:
    await execute(tx, Q.insert_log, {**_who(caller), "position": position, "data": data})


def _who(caller: Caller) -> dict[str, Any]:
    return {"pilot_id": caller.pilot_id, "vo_id": caller.vo_id}


def _json(offer: Offer) -> str:
    return msgspec.json.encode(offer).decode()


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
