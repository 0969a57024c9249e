"""The rows of logs and of events."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from spinor.access import Caller
from spinor.db import Queries, Tx, execute, fetch, fetch_one, fetch_rows, fetch_value
from spinor.jobs.attempts.store import held_by
from spinor.jobs.logs.rules import Packed, Part
from spinor.jobs.models import JobEvent, LogChunk, LogStream

Q = Queries("spinor.jobs.logs")


class Log(NamedTuple):
    """One stream of one attempt."""

    job_id: int
    attempt: int
    stream: LogStream

    @property
    def parameters(self) -> dict[str, Any]:
        return {"job_id": self.job_id, "attempt": self.attempt, "stream": self.stream.value}


class KeptLog(msgspec.Struct, frozen=True, kw_only=True):
    head_bytes: int
    tail_position: int
    frames: list[int]
    data: bytes | None
    blob: str | None


class EndedLog(msgspec.Struct, frozen=True, kw_only=True):
    """A log to be moved."""

    job_id: int
    attempt: int
    stream: LogStream
    vo_id: int
    size_bytes: int

    @property
    def key(self) -> Log:
        return Log(self.job_id, self.attempt, self.stream)


class JobRange(msgspec.Struct, frozen=True):
    array_id: int
    first: int
    last: int


async def find_log_end(tx: Tx, pilot: Caller, chunk: LogChunk) -> int | None:
    """Where the stored bytes of the stream end; None when the pilot does not hold the attempt."""
    end: int | None = await fetch_value(
        tx, Q.find_log_end, {**held_by(pilot, chunk.job_id, chunk.attempt), "stream": chunk.stream.value}
    )
    return end


async def insert_log(tx: Tx, vo_id: int, chunk: LogChunk, parts: Sequence[Part]) -> None:
    await execute(
        tx,
        Q.insert_log,
        {
            **Log(chunk.job_id, chunk.attempt, chunk.stream).parameters,
            "vo_id": vo_id,
            "positions": [start for start, _ in parts],
            "data": [data for _, data in parts],
        },
    )


async def trim_log(tx: Tx, vo_id: int, chunk: LogChunk, before: int, head_bytes: int) -> None:
    """Forget what lies between the head and a position."""
    log = Log(chunk.job_id, chunk.attempt, chunk.stream).parameters
    await execute(tx, Q.trim_log, {**log, "vo_id": vo_id, "head_bytes": head_bytes, "before": before})


async def read_log(tx: Tx, vo_id: int, log: Log, position: int, limit: int) -> list[Part]:
    """Stored chunks from the one that holds `position` on."""
    rows = await fetch_rows(tx, Q.read_log, {**log.parameters, "vo_id": vo_id, "position": position, "limit": limit})
    return [(row[0], bytes(row[1])) for row in rows]


async def find_kept_log(tx: Tx, vo_id: int, log: Log) -> KeptLog | None:
    return await fetch_one(tx, KeptLog, Q.find_kept_log, {**log.parameters, "vo_id": vo_id})


async def read_tail(tx: Tx, vo_id: int, log: Log) -> bytes:
    return bytes(await fetch_value(tx, Q.read_tail, {**log.parameters, "vo_id": vo_id}) or b"")


async def list_ended_logs(tx: Tx, limit: int) -> list[EndedLog]:
    return await fetch(tx, EndedLog, Q.list_ended_logs, {"limit": limit})


async def read_whole_logs(tx: Tx, logs: Sequence[EndedLog]) -> dict[Log, list[Part]]:
    found: dict[Log, list[Part]] = defaultdict(list)
    for job_id, attempt, stream, position, data in await fetch_rows(tx, Q.read_whole_logs, _columns(logs)):
        found[Log(job_id, attempt, LogStream(stream))].append((position, bytes(data)))
    return found


async def keep_logs(tx: Tx, rows: Sequence[tuple[EndedLog, Packed, bytes | None, str | None]]) -> None:
    """Each with its compressed bytes, or with the name of the blob that has them; the rows that it had go."""
    logs = [log for log, _, _, _ in rows]
    await execute(
        tx,
        Q.keep_logs,
        {
            **_columns(logs),
            "vo_ids": [log.vo_id for log in logs],
            "heads": [whole.head_bytes for _, whole, _, _ in rows],
            "tails": [whole.tail_position for _, whole, _, _ in rows],
            "ends": [whole.end_position for _, whole, _, _ in rows],
            "frames": ["{" + ",".join(map(str, whole.frames)) + "}" for _, whole, _, _ in rows],
            "last": [whole.last for _, whole, _, _ in rows],
            "data": [data for _, _, data, _ in rows],
            "blobs": [blob for _, _, _, blob in rows],
        },
    )
    await execute(tx, Q.delete_logs, _columns(logs))


def _columns(logs: Sequence[EndedLog]) -> dict[str, Any]:
    return {
        "job_ids": [log.job_id for log in logs],
        "attempts": [log.attempt for log in logs],
        "streams": [log.stream.value for log in logs],
    }


async def list_ranges(tx: Tx, vo_id: int, job_ids: Sequence[int], array_ids: Sequence[int]) -> list[JobRange]:
    """The jobs as ranges, each with its array."""
    parameters = {"vo_id": vo_id, "job_ids": list(job_ids), "array_ids": list(array_ids)}
    return await fetch(tx, JobRange, Q.list_ranges, parameters)


async def list_events_of_jobs(tx: Tx, vo_id: int, after: dict[int, datetime], limit: int) -> list[JobEvent]:
    """The changes of each job after its moment."""
    parameters = {"vo_id": vo_id, "job_ids": list(after), "after": list(after.values()), "limit": limit}
    return await fetch(tx, JobEvent, Q.list_events_of_jobs, parameters)


async def list_events_since(
    tx: Tx, vo_id: int, ranges: Sequence[JobRange] | None, after: datetime, limit: int
) -> list[JobEvent]:
    """The changes of all jobs of the VO, or of those in the ranges, after a moment."""
    parameters = {
        "vo_id": vo_id,
        "all": ranges is None,
        "firsts": [each.first for each in ranges or ()],
        "lasts": [each.last for each in ranges or ()],
        "after": after,
        "limit": limit,
    }
    return await fetch(tx, JobEvent, Q.list_events_since, parameters)


async def have_ended(tx: Tx, vo_id: int, ranges: Sequence[JobRange], final: Sequence[str]) -> bool:
    parameters = {
        "vo_id": vo_id,
        "firsts": [each.first for each in ranges],
        "lasts": [each.last for each in ranges],
        "final": list(final),
    }
    return bool(await fetch_value(tx, Q.have_ended, parameters))
