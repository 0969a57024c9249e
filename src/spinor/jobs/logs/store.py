"""The rows of logs."""

from spinor.access import Caller
from spinor.db import Queries, Tx, execute, fetch_rows, fetch_value
from spinor.jobs.attempts.store import held_by
from spinor.jobs.models import LogChunk, LogStream

Q = Queries("spinor.jobs.logs")


async def find_log_end(tx: Tx, pilot: Caller, chunk: LogChunk) -> int | None:
    """Where the stored bytes of the stream end; None when the pilot does not hold the attempt."""
    end: int | None = await fetch_value(
        tx, Q.find_log_end, {**held_by(pilot, chunk.job_id, chunk.attempt), "stream": chunk.stream.value}
    )
    return end


async def find_stored_log_end(tx: Tx, vo_id: int, job: tuple[int, int], stream: LogStream) -> int:
    job_id, attempt = job
    parameters = {"vo_id": vo_id, "job_id": job_id, "attempt": attempt, "stream": stream.value}
    return await fetch_value(tx, Q.find_stored_log_end, parameters) or 0


async def insert_log(tx: Tx, vo_id: int, chunk: LogChunk) -> None:
    await execute(
        tx,
        Q.insert_log,
        {
            "vo_id": vo_id,
            "job_id": chunk.job_id,
            "attempt": chunk.attempt,
            "stream": chunk.stream.value,
            "position": chunk.position,
            "data": chunk.data,
        },
    )


async def read_log(
    tx: Tx, vo_id: int, job: tuple[int, int], stream: LogStream, position: int, limit: int
) -> list[tuple[int, bytes]]:
    """Stored chunks from the one that holds `position` on; `job` is (job, attempt)."""
    log = {"vo_id": vo_id, "job_id": job[0], "attempt": job[1], "stream": stream.value}
    rows = await fetch_rows(tx, Q.read_log, {**log, "position": position, "limit": limit})
    return [(row[0], bytes(row[1])) for row in rows]
