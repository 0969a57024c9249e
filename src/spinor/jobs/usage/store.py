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


async def insert_heartbeats(tx: Tx, pilot: Caller, points: Sequence[tuple[Held, int]]) -> None:
    columns: dict[str, Any] = {
        "job_ids": array_text(each.job_id for each, _ in points),
        "attempts": array_text(each.attempt for each, _ in points),
        "slots_s": array_text(slot_s for _, slot_s in points),
        "wall_s": [each.wall_s for each, _ in points],
        "cpu_s": [each.cpu_s for each, _ in points],
        "rss_bytes": array_text(each.rss_bytes or each.max_rss_bytes for each, _ in points),
        "disk_bytes": array_text(each.disk_bytes for each, _ in points),
        "read_bytes": array_text(each.read_bytes for each, _ in points),
        "written_bytes": array_text(each.written_bytes for each, _ in points),
    }
    await execute(tx, Q.insert_heartbeats, {"vo_id": pilot.vo_id, "pilot_id": pilot.pilot_id, **columns})


async def thin_heartbeats(tx: Tx, vo_id: int, attempts: Sequence[tuple[int, int, int]]) -> None:
    """`attempts` are (job, attempt, width of a slot)."""
    job_ids, numbers, widths_s = (list(column) for column in zip(*attempts, strict=True))
    parameters = {"vo_id": vo_id, "job_ids": job_ids, "attempts": numbers, "widths_s": widths_s}
    await execute(tx, Q.thin_heartbeats, parameters)


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


async def take_peeks(tx: Tx, pilot: Caller, lifetime_s: int) -> list[PeekAsked]:
    parameters = {"vo_id": pilot.vo_id, "pilot_id": pilot.pilot_id, "lifetime_s": lifetime_s}
    return await fetch(tx, PeekAsked, Q.take_peeks, parameters)


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
