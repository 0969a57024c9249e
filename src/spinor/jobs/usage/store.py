"""The rows of use, attempts and peeks."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from spinor.access import Caller
from spinor.db import Queries, Tx, array_text, execute, fetch, fetch_one, fetch_rows, fetch_value
from spinor.jobs.models import Attempt, Held, JobStatus, PeekAnswer, PeekAsked, PeekQuery, UsagePoint

Q = Queries("spinor.jobs.usage")


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    peek_id: int
    job_id: int
    attempt: int
    pilot_id: int


async def insert_heartbeats(tx: Tx, points: Sequence[tuple[Caller, Held, int]]) -> None:
    """`points` are (pilot, what it tells, start of the slot)."""
    held = [each for _, each, _ in points]
    columns: dict[str, Any] = {
        "job_ids": array_text(each.job_id for each in held),
        "attempts": array_text(each.attempt for each in held),
        "pilot_ids": array_text(pilot.pilot_id for pilot, _, _ in points),
        "vo_ids": array_text(pilot.vo_id for pilot, _, _ in points),
        "slots_s": array_text(slot_s for _, _, slot_s in points),
        "wall_s": [each.wall_s for each in held],
        "cpu_s": [each.cpu_s for each in held],
        "rss_bytes": array_text(each.rss_bytes or each.max_rss_bytes for each in held),
        "disk_bytes": array_text(each.disk_bytes for each in held),
        "read_bytes": array_text(each.read_bytes for each in held),
        "written_bytes": array_text(each.written_bytes for each in held),
    }
    await execute(tx, Q.insert_heartbeats, columns)


async def thin_heartbeats(tx: Tx, attempts: Sequence[tuple[int, int, int]]) -> None:
    """`attempts` are (job, attempt, width of a slot)."""
    job_ids, numbers, widths_s = (list(column) for column in zip(*attempts, strict=True))
    await execute(tx, Q.thin_heartbeats, {"job_ids": job_ids, "attempts": numbers, "widths_s": widths_s})


async def list_heartbeats(tx: Tx, vo_id: int, job_id: int, attempt: int) -> list[UsagePoint]:
    return await fetch(tx, UsagePoint, Q.list_heartbeats, {"vo_id": vo_id, "job_id": job_id, "attempt": attempt})


async def forget_heartbeats(tx: Tx, before: datetime, limit: int) -> int:
    return await execute(tx, Q.forget_heartbeats, {"before": before, "limit": limit})


async def insert_peek(tx: Tx, vo_id: int, job_id: int, query: PeekQuery) -> Asked | None:
    parameters = {
        "vo_id": vo_id,
        "job_id": job_id,
        "path": query.path,
        "position": query.position,
        "size_bytes": query.size_bytes,
    }
    return await fetch_one(tx, Asked, Q.insert_peek, parameters)


async def take_peeks(tx: Tx, pilot_ids: Sequence[int], lifetime_s: int) -> list[tuple[int, PeekAsked]]:
    """With the pilot that is asked."""
    rows = await fetch_rows(tx, Q.take_peeks, {"pilot_ids": list(pilot_ids), "lifetime_s": lifetime_s})
    names = ("peek_id", "job_id", "attempt", "path", "position", "size_bytes")
    return [(row[0], PeekAsked(**dict(zip(names, row[1:], strict=True)))) for row in rows]


async def answer_peek(tx: Tx, pilot: Caller, job_id: int, answer: PeekAnswer, lifetime_s: int) -> bool:
    parameters = {
        "vo_id": pilot.vo_id,
        "pilot_id": pilot.pilot_id,
        "job_id": job_id,
        "attempt": answer.attempt,
        "peek_id": answer.peek_id,
        "answer": msgspec.json.encode(answer).decode(),
        "lifetime_s": lifetime_s,
    }
    return bool(await fetch_rows(tx, Q.answer_peek, parameters))


async def find_peek_answer(tx: Tx, vo_id: int, peek_id: int) -> PeekAnswer | None:
    text = await fetch_value(tx, Q.find_peek_answer, {"vo_id": vo_id, "peek_id": peek_id})
    return None if text is None else msgspec.json.decode(text, type=PeekAnswer)


async def delete_peek(tx: Tx, vo_id: int, peek_id: int) -> None:
    await execute(tx, Q.delete_peek, {"vo_id": vo_id, "peek_id": peek_id})


async def forget_peeks(tx: Tx) -> int:
    return await execute(tx, Q.forget_peeks)


class JobLimits(msgspec.Struct, frozen=True, kw_only=True):
    attempt: int
    memory_bytes: int
    disk_bytes: int
    cores: int


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    owner_id: int
    status: JobStatus
    minor_status: str


async def list_attempts(tx: Tx, vo_id: int, job_id: int) -> list[Attempt]:
    return await fetch(tx, Attempt, Q.list_attempts, {"vo_id": vo_id, "job_id": job_id})


async def find_job_limits(tx: Tx, vo_id: int, job_id: int) -> JobLimits | None:
    return await fetch_one(tx, JobLimits, Q.find_job_limits, {"vo_id": vo_id, "job_id": job_id})


async def find_owner(tx: Tx, vo_id: int, job_id: int) -> Owner | None:
    return await fetch_one(tx, Owner, Q.find_owner, {"vo_id": vo_id, "job_id": job_id})


async def is_held(tx: Tx, pilot: Caller, job_id: int, attempt: int) -> bool:
    parameters = {"vo_id": pilot.vo_id, "pilot_id": pilot.pilot_id, "job_id": job_id, "attempt": attempt}
    return bool(await fetch_value(tx, Q.is_held, parameters))
