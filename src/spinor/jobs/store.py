"""The rows of jobs: one short function per query."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from psycopg import sql

from spinor.access import Caller
from spinor.db import Queries, Tx, array_text, execute, fetch, fetch_one, fetch_rows, fetch_value
from spinor.errors import Conflict, NotFound, SpinorError
from spinor.jobs import rules
from spinor.jobs.models import (
    Demand,
    FinishReport,
    HistoryEntry,
    JobStatus,
    LogChunk,
    LogStream,
    OutputSandbox,
    Sandbox,
    Slot,
)
from spinor.jobs.rows import (
    Attempt,
    Head,
    HeldJob,
    Ids,
    KnownId,
    LockedJob,
    NewArray,
    NotRenewed,
    PayloadRow,
    PilotCount,
    PlaceInQueue,
    Released,
    SandboxOfArray,
    StoredArray,
    StoredJob,
    SuspendedJob,
)
from spinor.search.page import Page
from spinor.search.summary import Summary

Q = Queries("spinor.jobs")
LISTS = Queries("spinor.jobs", "search.sql")


class UnknownSandbox(NotFound):
    """There is no such sandbox of yours; upload it again (`PUT /api/sandboxes`)."""

    code = "unknown-sandbox"


class SubmittedTwice(Conflict):
    """The same submission is being stored by another request; ask again for its answer."""

    code, retry = "submitted-twice", True


ERRORS: dict[str, type[SpinorError]] = {
    "array_sandbox_sandbox_id_fkey": UnknownSandbox,
    "output_sandbox_sandbox_id_fkey": UnknownSandbox,
    "job_array_idempotency": SubmittedTwice,
}


async def insert_arrays(tx: Tx, caller: Caller, arrays: Sequence[NewArray]) -> list[Ids]:
    """Store everything, or nothing: an empty answer says that a task queue is missing or the key is taken."""
    values = []
    if any(array.parameters for array in arrays):
        values = [each for array in arrays for each in array.parameters or ["null"] * array.size]
    return await fetch(
        tx,
        Ids,
        Q.insert_arrays,
        {
            "vo_id": caller.vo_id,
            "owner_id": caller.user_id,
            "group_id": caller.group_id,
            "source": caller.user,
            "distinct_digests": array_text({array.digest for array in arrays}),
            "names": array_text(array.name for array in arrays),
            "sizes": array_text(array.size for array in arrays),
            "specs": array_text(array.spec.decode() for array in arrays),
            "keys": array_text(array.key for array in arrays),
            "digests": array_text(array.digest for array in arrays),
            "priorities": array_text(array.priority for array in arrays),
            "sandbox_ordinals": array_text(n for n, array in enumerate(arrays, 1) for _ in array.sandbox_ids),
            "sandbox_ids": array_text(sandbox_id for array in arrays for sandbox_id in array.sandbox_ids),
            "parameters": f"[{','.join(values)}]",
        },
    )


async def insert_task_queues(tx: Tx, vo_id: int, queues: Sequence[rules.Requirements]) -> None:
    distinct = {queue.digest: queue for queue in queues}
    await execute(
        tx,
        Q.insert_task_queues,
        {
            "vo_id": vo_id,
            "queues": [msgspec.json.encode(queue).decode() for queue in distinct.values()],
            "digests": list(distinct),
        },
    )


async def find_arrays_by_key(tx: Tx, caller: Caller, keys: Sequence[str]) -> list[StoredArray]:
    parameters = {"vo_id": caller.vo_id, "owner_id": caller.user_id, "keys": list(keys)}
    return await fetch(tx, StoredArray, Q.find_arrays_by_key, parameters)


async def list_id_ranges(tx: Tx, vo_id: int, array_ids: Sequence[int]) -> list[Ids]:
    return await fetch(tx, Ids, Q.list_id_ranges, {"vo_id": vo_id, "array_ids": list(array_ids)})


async def list_waiting_heads(tx: Tx, depth: int) -> list[Head]:
    return await fetch(tx, Head, Q.list_waiting_heads, {"depth": depth})


async def claim_jobs(tx: Tx, vo_id: int, slot: Slot, wishes: Sequence[tuple[int, int]]) -> list[HeldJob]:
    """`wishes` are (task queue, number of jobs)."""
    return await fetch(
        tx,
        HeldJob,
        Q.claim_jobs,
        {
            "vo_id": vo_id,
            "task_queue_ids": [queue for queue, _ in wishes],
            "counts": [count for _, count in wishes],
            "pilot_id": slot.pilot_id,
            "site_id": slot.site_id,
            "lease_s": rules.LEASE_S,
            "source": source_of(slot.pilot_id),
        },
    )


def source_of(pilot_id: int) -> str:
    """What the history calls a pilot."""
    return f"pilot {pilot_id}"


async def count_demand(tx: Tx, bound: int) -> list[Demand]:
    return await fetch(tx, Demand, Q.count_demand, {"bound": bound})


def _held_by(pilot: Caller, job_id: int, attempt: int) -> dict[str, Any]:
    assert pilot.pilot_id is not None
    return {
        "vo_id": pilot.vo_id,
        "pilot_id": pilot.pilot_id,
        "job_id": job_id,
        "attempt": attempt,
        "source": source_of(pilot.pilot_id),
    }


async def start_job(tx: Tx, pilot: Caller, job_id: int, attempt: int) -> bool:
    return bool(await fetch_rows(tx, Q.start_job, _held_by(pilot, job_id, attempt)))


async def find_attempt(tx: Tx, vo_id: int, job_id: int) -> Attempt | None:
    return await fetch_one(tx, Attempt, Q.find_attempt, {"vo_id": vo_id, "job_id": job_id})


async def lock_held_job(tx: Tx, pilot: Caller, job_id: int, attempt: int) -> HeldJob | None:
    parameters = {**_held_by(pilot, job_id, attempt), "held": [status.value for status in rules.HELD]}
    return await fetch_one(tx, HeldJob, Q.lock_held_job, parameters)


async def was_reported(tx: Tx, pilot: Caller, job_id: int, attempt: int) -> bool:
    return bool(await fetch_value(tx, Q.was_reported, _held_by(pilot, job_id, attempt)))


async def renew_leases(tx: Tx, pilot: Caller, job_ids: list[int], attempts: list[int]) -> list[NotRenewed]:
    parameters = {
        "vo_id": pilot.vo_id,
        "pilot_id": pilot.pilot_id,
        "job_ids": job_ids,
        "attempts": attempts,
        "lease_s": rules.LEASE_S,
    }
    return await fetch(tx, NotRenewed, Q.renew_leases, parameters)


async def record_usage(tx: Tx, pilot: Caller, columns: dict[str, list[Any]]) -> None:
    await execute(tx, Q.record_usage, {"vo_id": pilot.vo_id, "pilot_id": pilot.pilot_id, **columns})


async def end_job(
    tx: Tx, vo_id: int, job: HeldJob, report: FinishReport, verdict: rules.Verdict, source: str
) -> int | None:
    """The job's array, or None when its state did not allow this end."""
    done = verdict.status is JobStatus.DONE
    array_id: int | None = await fetch_value(
        tx,
        Q.end_job,
        {
            "vo_id": vo_id,
            "job_id": job.job_id,
            "attempt": job.attempt,
            "status": verdict.status.value,
            "minor_status": verdict.minor_status,
            "reason": verdict.reason[:10_000],
            "source": source,
            "sources": rules.sources_of(verdict.status),
            "exit_code": report.exit_code,
            "cpu_s": report.cpu_s,
            "wall_s": report.wall_s,
            "max_rss_bytes": report.max_rss_bytes,
            "sandbox_id": report.output_sandbox_id,
            "missing": report.missing,
            "lfns": [output.lfn for output in report.outputs] if done else [],
        },
    )
    return array_id


async def lock_expired_jobs(tx: Tx, now: datetime, limit: int) -> list[int]:
    return [row[0] for row in await fetch_rows(tx, Q.lock_expired_jobs, {"now": now, "limit": limit})]


async def lock_jobs_of_pilot(tx: Tx, pilot_id: int) -> list[int]:
    return [row[0] for row in await fetch_rows(tx, Q.lock_jobs_of_pilot, {"pilot_id": pilot_id})]


async def release_jobs(
    tx: Tx, job_ids: list[int], source: str, reason: str, before: datetime | None = None
) -> list[Released]:
    """`before`: only those whose lease ended before it."""
    parameters = {
        "job_ids": job_ids,
        "before": before,
        "source": source,
        "reason": reason,
        "sources": rules.sources_of(JobStatus.STALLED),
    }
    return await fetch(tx, Released, Q.release_jobs, parameters)


async def lock_jobs(tx: Tx, vo_id: int, job_ids: Sequence[int], array_ids: Sequence[int]) -> list[LockedJob]:
    parameters = {"vo_id": vo_id, "job_ids": list(job_ids), "array_ids": list(array_ids)}
    return await fetch(tx, LockedJob, Q.lock_jobs, parameters)


async def lock_suspended_jobs(tx: Tx, limit: int) -> list[SuspendedJob]:
    return await fetch(tx, SuspendedJob, Q.lock_suspended_jobs, {"limit": limit})


async def find_payload(tx: Tx, vo: str, job_id: int, attempt: int) -> PayloadRow | None:
    return await fetch_one(tx, PayloadRow, Q.find_payload, {"vo": vo, "job_id": job_id, "attempt": attempt})


async def note_progress(tx: Tx, caller: Caller, text: str) -> bool:
    parameters = {"vo_id": caller.vo_id, "job_id": caller.job_id, "attempt": caller.attempt, "text": text}
    return await execute(tx, Q.note_progress, parameters) > 0


async def kill_jobs(tx: Tx, caller: Caller, job_ids: Sequence[int], reason: str) -> list[int]:
    parameters = _command(caller, job_ids, reason, JobStatus.KILLED)
    return [row[0] for row in await fetch_rows(tx, Q.kill_jobs, parameters)]


async def reschedule_jobs(tx: Tx, caller: Caller, job_ids: Sequence[int], reason: str) -> list[int]:
    parameters = _command(caller, job_ids, reason, JobStatus.RESCHEDULED)
    return [row[0] for row in await fetch_rows(tx, Q.reschedule_jobs, parameters)]


def _command(caller: Caller, job_ids: Sequence[int], reason: str, wanted: JobStatus) -> dict[str, Any]:
    return {
        "vo_id": caller.vo_id,
        "job_ids": list(job_ids),
        "source": caller.user,
        "reason": reason,
        "sources": rules.sources_of(wanted),
    }


async def find_log_end(tx: Tx, pilot: Caller, chunk: LogChunk) -> int | None:
    """Where the stored bytes of the stream end; None when the pilot does not hold the attempt."""
    end: int | None = await fetch_value(
        tx, Q.find_log_end, {**_held_by(pilot, chunk.job_id, chunk.attempt), "stream": chunk.stream.value}
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


async def lock_blob(tx: Tx, name: str) -> None:
    await execute(tx, Q.lock_blob, {"name": name})


async def insert_sandbox(tx: Tx, vo_id: int, owner_id: int, sha256: str, size_bytes: int) -> int:
    parameters = {"vo_id": vo_id, "owner_id": owner_id, "sha256": sha256, "size_bytes": size_bytes}
    return int(await fetch_value(tx, Q.insert_sandbox, parameters))


async def find_sandboxes(tx: Tx, vo_id: int, sandbox_ids: Sequence[int]) -> list[Sandbox]:
    return await fetch(tx, Sandbox, Q.find_sandboxes, {"vo_id": vo_id, "sandbox_ids": list(sandbox_ids)})


async def list_sandboxes_of_arrays(tx: Tx, vo_id: int, array_ids: Sequence[int]) -> list[SandboxOfArray]:
    parameters = {"vo_id": vo_id, "array_ids": list(array_ids)}
    return await fetch(tx, SandboxOfArray, Q.list_sandboxes_of_arrays, parameters)


async def find_sandbox_of_attempt(tx: Tx, pilot: Caller, job: tuple[int, int], sandbox_id: int) -> Sandbox | None:
    parameters = {**_held_by(pilot, *job), "sandbox_id": sandbox_id}
    return await fetch_one(tx, Sandbox, Q.find_sandbox_of_attempt, parameters)


async def find_output_sandbox(tx: Tx, vo_id: int, job_id: int) -> OutputSandbox | None:
    return await fetch_one(tx, OutputSandbox, Q.find_output_sandbox, {"vo_id": vo_id, "job_id": job_id})


async def delete_unused_sandboxes(tx: Tx, before: datetime) -> int:
    return await execute(tx, Q.delete_unused_sandboxes, {"before": before})


async def list_known_blobs(tx: Tx, blobs: Sequence[tuple[str, int, int, str]]) -> set[str]:
    """Which of these blobs, (name, VO, owner, SHA-256), have a row."""
    names, vo_ids, owner_ids, sha256s = (list(column) for column in zip(*blobs, strict=True))
    parameters = {"names": names, "vo_ids": vo_ids, "owner_ids": owner_ids, "sha256s": sha256s}
    return {row[0] for row in await fetch_rows(tx, Q.list_known_blobs, parameters)}


async def search_jobs(tx: Tx, vo_id: int, page: Page) -> list[tuple[Any, ...]]:
    query = sql.SQL(LISTS.search_jobs).format(**page.parts)
    return await fetch_rows(tx, query, {**page.params, "vo_id": vo_id})


async def summarise_jobs(
    tx: Tx, vo_id: int, summary: Summary, where: sql.Composable, parameters: dict[str, Any]
) -> list[tuple[Any, ...]]:
    query = sql.SQL(LISTS.summarise_jobs).format(**summary.parts, where=where)
    return await fetch_rows(tx, query, {**parameters, "vo_id": vo_id})


async def find_job(tx: Tx, vo_id: int, job_id: int) -> StoredJob | None:
    return await fetch_one(tx, StoredJob, Q.find_job, {"vo_id": vo_id, "job_id": job_id})


async def list_history(tx: Tx, vo_id: int, job_id: int) -> list[HistoryEntry]:
    return await fetch(tx, HistoryEntry, Q.list_history, {"vo_id": vo_id, "job_id": job_id})


async def count_jobs(tx: Tx, vo_id: int, job_ids: Sequence[int], array_ids: Sequence[int]) -> dict[str, int]:
    parameters = {"vo_id": vo_id, "job_ids": list(job_ids), "array_ids": list(array_ids)}
    return {str(row[0]): int(row[1]) for row in await fetch_rows(tx, Q.count_jobs, parameters)}


async def list_known_ids(tx: Tx, vo_id: int, job_ids: Sequence[int], array_ids: Sequence[int]) -> list[KnownId]:
    parameters = {"vo_id": vo_id, "job_ids": list(job_ids), "array_ids": list(array_ids)}
    return await fetch(tx, KnownId, Q.list_known_ids, parameters)


async def find_place_in_queue(tx: Tx, vo_id: int, job_id: int) -> PlaceInQueue | None:
    return await fetch_one(tx, PlaceInQueue, Q.find_place_in_queue, {"vo_id": vo_id, "job_id": job_id})


async def count_pilots_alive(tx: Tx, vo_id: int) -> list[PilotCount]:
    return await fetch(tx, PilotCount, Q.count_pilots_alive, {"vo_id": vo_id})
