"""The rows of commands, and of what keeps jobs from their queue."""

from collections.abc import Sequence
from typing import Any

from spinor.access import Caller
from spinor.db import Queries, Tx, execute, fetch, fetch_rows, fetch_value
from spinor.jobs import rules
from spinor.jobs.models import JobStatus
from spinor.jobs.rows import (
    Change,
    ChosenJob,
    Dependency,
    DueNotification,
    LockedJob,
    StoredArrayRange,
    UndueNotification,
)

Q = Queries("spinor.jobs.control")


async def lock_jobs(tx: Tx, vo_id: int, job_ids: Sequence[int]) -> list[LockedJob]:
    """Lock jobs, and read them as they are then."""
    parameters = {"vo_id": vo_id, "job_ids": list(job_ids)}
    await execute(tx, Q.lock_jobs, parameters)
    return await fetch(tx, LockedJob, Q.read_locked_jobs, parameters)


async def list_arrays(
    tx: Tx, vo_id: int, array_ids: Sequence[int], job_groups: Sequence[str]
) -> list[StoredArrayRange]:
    parameters = {"vo_id": vo_id, "array_ids": list(array_ids), "job_groups": list(job_groups)}
    return await fetch(tx, StoredArrayRange, Q.list_arrays, parameters)


async def change_jobs(
    tx: Tx, vo_id: int, job_ids: Sequence[int], sources: Sequence[JobStatus], change: Change
) -> list[int]:
    """The jobs that were in one of the states `sources`, and changed. Lock them before, by another statement."""
    parameters: dict[str, Any] = {
        "vo_id": vo_id,
        "job_ids": list(job_ids),
        "sources": [status.value for status in sources],
        "status": change.status.value,
        "minor_status": change.minor_status,
        "final": change.status in rules.FINAL,
        "anew": change.anew,
        "attempt_status": change.attempt_status.value,
        "source": change.source,
        "step_statuses": [status.value for status, _, _ in change.steps],
        "step_minors": [minor for _, minor, _ in change.steps],
        "step_reasons": [reason for _, _, reason in change.steps],
    }
    return [row[0] for row in await fetch_rows(tx, Q.change_jobs, parameters)]


async def prioritise_jobs(tx: Tx, caller: Caller, job_ids: Sequence[int], priority: int, reason: str) -> list[int]:
    parameters = {
        "vo_id": caller.vo_id,
        "job_ids": list(job_ids),
        "priority": priority,
        "final": [status.value for status in rules.FINAL],
        "source": caller.user,
        "reason": reason,
    }
    return [row[0] for row in await fetch_rows(tx, Q.prioritise_jobs, parameters)]


async def lock_due_jobs(tx: Tx, limit: int) -> list[ChosenJob]:
    return await fetch(tx, ChosenJob, Q.lock_due_jobs, {"limit": limit})


async def lock_late_jobs(tx: Tx, limit: int) -> list[ChosenJob]:
    return await fetch(tx, ChosenJob, Q.lock_late_jobs, {"limit": limit})


async def forget_deadlines(tx: Tx) -> None:
    await execute(tx, Q.forget_deadlines)


async def lock_open_dependencies(tx: Tx) -> list[Dependency]:
    return await fetch(tx, Dependency, Q.lock_open_dependencies)


async def find_first_open(
    tx: Tx, vo_id: int, jobs: tuple[int, int], wished: Sequence[JobStatus]
) -> tuple[int, JobStatus] | None:
    """The first job of a range that is in none of the wished states."""
    parameters = {"vo_id": vo_id, "first": jobs[0], "last": jobs[1], "wished": [each.value for each in wished]}
    rows = await fetch_rows(tx, Q.find_first_open, parameters)
    return (rows[0][0], JobStatus(rows[0][1])) if rows else None


async def list_ended_among(tx: Tx, vo_id: int, jobs: tuple[int, int]) -> list[tuple[int, JobStatus]]:
    parameters = {"vo_id": vo_id, "first": jobs[0], "last": jobs[1]}
    return [(row[0], JobStatus(row[1])) for row in await fetch_rows(tx, Q.list_ended_among, parameters)]


async def set_dependency(tx: Tx, dependency: Dependency, open_from: int, *, fulfilled: bool) -> None:
    parameters = {
        "vo_id": dependency.vo_id,
        "array_id": dependency.array_id,
        "first_job_id": dependency.first_job_id,
        "open_from": open_from,
        "fulfilled": fulfilled,
    }
    await execute(tx, Q.set_dependency, parameters)


async def count_open_dependencies(tx: Tx, vo_id: int, array_id: int) -> int:
    return int(await fetch_value(tx, Q.count_open_dependencies, {"vo_id": vo_id, "array_id": array_id}))


async def lock_dependents(tx: Tx, vo_id: int, jobs: tuple[int, int], minor_status: str, limit: int) -> list[ChosenJob]:
    parameters = {
        "vo_id": vo_id, "first": jobs[0], "last": jobs[1], "minor_status": minor_status, "limit": limit,
    }  # fmt: skip
    return await fetch(tx, ChosenJob, Q.lock_dependents, parameters)


async def list_undue_notifications(tx: Tx, limit: int) -> list[UndueNotification]:
    return await fetch(tx, UndueNotification, Q.list_undue_notifications, {"limit": limit})


async def set_due(tx: Tx, notification_ids: Sequence[int]) -> None:
    await execute(tx, Q.set_due, {"notification_ids": list(notification_ids)})


async def drop_impossible(tx: Tx, notification_ids: Sequence[int]) -> None:
    await execute(tx, Q.drop_impossible, {"notification_ids": list(notification_ids)})


async def lock_due_notifications(tx: Tx, limit: int) -> list[DueNotification]:
    return await fetch(tx, DueNotification, Q.lock_due_notifications, {"limit": limit})


async def note_sent(tx: Tx, notification_id: int) -> None:
    await execute(tx, Q.note_sent, {"notification_id": notification_id})


async def note_not_sent(tx: Tx, notification_id: int, error: str) -> None:
    await execute(tx, Q.note_not_sent, {"notification_id": notification_id, "error": error[:1000]})


async def end_storage_pauses(tx: Tx, minor_status: str) -> int:
    return len(await fetch_rows(tx, Q.end_storage_pauses, {"minor_status": minor_status}))
