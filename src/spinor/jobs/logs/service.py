"""The output of payloads, while they run and after."""

from typing import NamedTuple

from spinor.access import Caller
from spinor.blobs import Blobs
from spinor.db import Database, Tx
from spinor.errors import BodyTooLarge, Conflict
from spinor.jobs import rules as states
from spinor.jobs.attempts import store as attempts
from spinor.jobs.errors import StaleReport, UnknownJob
from spinor.jobs.logs import rules, store
from spinor.jobs.models import LogChunk, LogPart, LogQuery, LogStream
from spinor.jobs.rows import Attempt

_CHUNKS = 16
_FRAMES = 4


class LogGap(Conflict):
    """Bytes before this chunk are missing; send them first, from the position given here."""

    code = "log-gap"


class ChunkTooLarge(BodyTooLarge):
    """A chunk of a log has at most 1 MiB; send it in parts."""

    code = "chunk-too-large"


async def append_log(tx: Tx, pilot: Caller, chunk: LogChunk) -> int:
    """Keep bytes of a running payload; the position after them.

    What is already there is skipped, so a repeated chunk is harmless; LogGap when bytes of the log's beginning are
    missing before it. Beyond that, only the newest bytes are kept, and a chunk may leave some out.
    """
    if len(chunk.data) > rules.MAX_CHUNK_BYTES:
        raise ChunkTooLarge(limit_bytes=rules.MAX_CHUNK_BYTES)
    end = await store.find_log_end(tx, pilot, chunk)
    if end is None:
        raise StaleReport(job_id=chunk.job_id, attempt=chunk.attempt)
    if chunk.position > end and end < rules.HEAD_BYTES:
        raise LogGap(position=end, job_id=chunk.job_id)
    start, after = max(chunk.position, end), chunk.position + len(chunk.data)
    parts = rules.split(start, chunk.data[start - chunk.position :])
    if not parts:
        return max(after, end)
    await store.insert_log(tx, pilot.vo_id, chunk, parts)
    if after - rules.HEAD_BYTES > rules.TAIL_BYTES + rules.MAX_CHUNK_BYTES:
        # No chunk is longer than this, so each that begins before this point ends before the tail.
        before = after - rules.TAIL_BYTES - rules.MAX_CHUNK_BYTES
        await store.trim_log(tx, pilot.vo_id, chunk, before, rules.HEAD_BYTES)
    return after


async def read_log(db: Database, blobs: Blobs, caller: Caller, job_id: int, query: LogQuery) -> LogPart:
    """Stored bytes from a position on, at most some MiB at a time, and whether more can come."""
    return (await look(db, blobs, caller, job_id, query)).part


class Look(NamedTuple):
    """Bytes of a log, and what the job was when they were read, or a moment before."""

    part: LogPart
    job: Attempt


async def look(db: Database, blobs: Blobs, caller: Caller, job_id: int, query: LogQuery) -> Look:
    """The same, beside the job's newest attempt."""
    async with db.transaction() as tx:
        job = await attempts.find_attempt(tx, caller.vo_id, job_id)
        if job is None:
            raise UnknownJob(f"There is no job {job_id} in your VO.", job_id=job_id)
        attempt = job.attempt if query.attempt is None else query.attempt
        log = store.Log(job_id, attempt, query.stream)
        parts = await store.read_log(tx, caller.vo_id, log, query.position, _CHUNKS)
        kept = None if parts else await store.find_kept_log(tx, caller.vo_id, log)
    if query.attempt is None:
        ended = job.status in states.FINAL  # Otherwise another attempt may follow.
    else:
        ended = attempt < job.attempt or job.status not in states.HELD
    is_last = len(parts) < _CHUNKS
    if kept is not None:
        parts, is_last = await _kept_parts(blobs, kept, query.position)
    data, position = rules.assembled(parts, query.position)
    return Look(LogPart(data=data, position=position, attempt=attempt, ended=ended and is_last), job)


async def read_tail(tx: Tx, caller: Caller, job_id: int, attempt: int, stream: LogStream) -> bytes:
    """The last bytes of a log, at most 4 kB."""
    return (await store.read_tail(tx, caller.vo_id, store.Log(job_id, attempt, stream)))[-rules.LAST_BYTES :]


async def _kept_parts(blobs: Blobs, kept: store.KeptLog, position: int) -> tuple[list[rules.Part], bool]:
    """Some frames of a kept log, and whether they are its last."""
    place = rules.span(kept.head_bytes, kept.tail_position, kept.frames, position, _FRAMES)
    if place is None:
        return [], True
    if kept.data is not None:
        data = kept.data[place.start : place.end]
    else:
        assert kept.blob is not None
        data = b"".join([part async for part in blobs.place.read(kept.blob, place.start, place.end)])
    parts = rules.unpacked(kept.head_bytes, kept.tail_position, kept.frames, place, data)
    return parts, place.last == len(kept.frames)
