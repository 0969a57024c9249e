"""The output of payloads, while they run and after."""

import msgspec

from spinor.access import Caller
from spinor.db import Tx
from spinor.errors import BodyTooLarge, Conflict
from spinor.jobs import rules
from spinor.jobs.attempts import store as attempts
from spinor.jobs.errors import StaleReport, UnknownJob
from spinor.jobs.logs import store
from spinor.jobs.models import LogChunk, LogPart, LogQuery

LIMIT_BYTES = 64 * 1024 * 1024  # Of one stream of one attempt.
MAX_CHUNK_BYTES = 1024 * 1024
_CHUNKS = 16
NOTICE = f"\n[spinor: the log ends here, as it is longer than {LIMIT_BYTES // 1024**2} MiB]\n".encode()


class LogGap(Conflict):
    """Bytes before this chunk are missing; send them first, from the position given here."""

    code = "log-gap"


class ChunkTooLarge(BodyTooLarge):
    """A chunk of a log has at most 1 MiB; send it in parts."""

    code = "chunk-too-large"


async def append_log(tx: Tx, pilot: Caller, chunk: LogChunk) -> int:
    """Keep bytes of a running payload; the position after them.

    What is already there is skipped, so a repeated chunk is harmless; LogGap when bytes are missing before it. Beyond
    64 MiB everything is accepted and dropped, after a last line that says so.
    """
    if len(chunk.data) > MAX_CHUNK_BYTES:
        raise ChunkTooLarge(limit_bytes=MAX_CHUNK_BYTES)
    end = await store.find_log_end(tx, pilot, chunk)
    if end is None:
        raise StaleReport(job_id=chunk.job_id, attempt=chunk.attempt)
    after = chunk.position + len(chunk.data)
    if end >= LIMIT_BYTES:
        return after
    if chunk.position > end:
        raise LogGap(position=end, job_id=chunk.job_id)
    fresh = chunk.data[end - chunk.position :]
    if end + len(fresh) > LIMIT_BYTES:
        fresh = fresh[: LIMIT_BYTES - end] + NOTICE
    if fresh:
        await store.insert_log(tx, pilot.vo_id, msgspec.structs.replace(chunk, position=end, data=fresh))
    return max(after, end)


async def read_log(tx: Tx, caller: Caller, job_id: int, query: LogQuery) -> LogPart:
    """Stored bytes from a position on, at most some MiB at a time, and whether more can come."""
    job = await attempts.find_attempt(tx, caller.vo_id, job_id)
    if job is None:
        raise UnknownJob(f"There is no job {job_id} in your VO.", job_id=job_id)
    attempt = job.attempt if query.attempt is None else query.attempt
    chunks = await store.read_log(tx, caller.vo_id, (job_id, attempt), query.stream, query.position, _CHUNKS)
    data = b"".join(part[max(0, query.position - start) :] for start, part in chunks)
    if query.attempt is None:
        ended = job.status in rules.FINAL  # Otherwise another attempt may follow.
    else:
        ended = attempt < job.attempt or job.status not in rules.HELD
    return LogPart(
        data=data,
        position=query.position + len(data),
        attempt=attempt,
        ended=ended and len(chunks) < _CHUNKS,
    )
