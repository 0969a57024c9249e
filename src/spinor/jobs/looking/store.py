"""The rows of looking at jobs."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from psycopg import sql

from spinor.db import Queries, Tx, fetch, fetch_one, fetch_rows, fetch_value
from spinor.jobs.models import FailureCount, HistoryEntry, StatisticsQuery, StatisticsRow, TaskQueue, TaskQueueQuery
from spinor.jobs.rows import KnownId, StoredJob
from spinor.search.page import Page
from spinor.search.summary import Summary

Q = Queries("spinor.jobs.looking")
LISTS = Queries("spinor.jobs.looking", "search.sql")


async def search_jobs(tx: Tx, vo_id: int, page: Page) -> list[tuple[Any, ...]]:
    query = sql.SQL(LISTS.search_jobs).format(**page.parts)
    return await fetch_rows(tx, query, {**page.params, "vo_id": vo_id})


async def summarise_jobs(
    tx: Tx, vo_id: int, summary: Summary, where: sql.Composable, parameters: dict[str, Any]
) -> list[tuple[Any, ...]]:
    query = sql.SQL(LISTS.summarise_jobs).format(**summary.parts, where=where)
    return await fetch_rows(tx, query, {**parameters, "vo_id": vo_id})


async def summarise_tally(
    tx: Tx, vo_id: int, summary: Summary, where: sql.Composable, parameters: dict[str, Any]
) -> list[tuple[Any, ...]]:
    query = sql.SQL(LISTS.summarise_tally).format(**summary.parts, where=where)
    return await fetch_rows(tx, query, {**parameters, "vo_id": vo_id})


async def list_chosen(
    tx: Tx, vo_id: int, where: sql.Composable, parameters: dict[str, Any], after: int, limit: int
) -> list[int]:
    query = sql.SQL(LISTS.list_chosen).format(where=where)
    return [
        row[0] for row in await fetch_rows(tx, query, {**parameters, "vo_id": vo_id, "after": after, "limit": limit})
    ]


async def find_job(tx: Tx, vo_id: int, job_id: int) -> StoredJob | None:
    return await fetch_one(tx, StoredJob, Q.find_job, {"vo_id": vo_id, "job_id": job_id})


async def find_retried(tx: Tx, vo_id: int, job_id: int) -> list[int] | None:
    found: list[int] | None = await fetch_value(tx, Q.find_retried, {"vo_id": vo_id, "job_id": job_id})
    return found


async def list_history(tx: Tx, vo_id: int, job_id: int) -> list[HistoryEntry]:
    return await fetch(tx, HistoryEntry, Q.list_history, {"vo_id": vo_id, "job_id": job_id})


async def count_jobs(tx: Tx, vo_id: int, job_ids: Sequence[int], array_ids: Sequence[int]) -> dict[str, int]:
    parameters = {"vo_id": vo_id, "job_ids": list(job_ids), "array_ids": list(array_ids)}
    return {str(row[0]): int(row[1]) for row in await fetch_rows(tx, Q.count_jobs, parameters)}


async def list_known_ids(tx: Tx, vo_id: int, job_ids: Sequence[int], array_ids: Sequence[int]) -> list[KnownId]:
    parameters = {"vo_id": vo_id, "job_ids": list(job_ids), "array_ids": list(array_ids)}
    return await fetch(tx, KnownId, Q.list_known_ids, parameters)


class Sum(StatisticsRow, frozen=True, kw_only=True):
    is_total: bool  # Of all values.

    def plain(self) -> StatisticsRow:
        return StatisticsRow(**{name: getattr(self, name) for name in StatisticsRow.__struct_fields__})


async def sum_up_jobs(tx: Tx, vo_id: int, asked: StatisticsQuery, since: datetime) -> list[Sum]:
    parameters = {"vo_id": vo_id, "by": asked.by.value, "owner": asked.owner, "since": since}
    return await fetch(tx, Sum, Q.sum_up_jobs, parameters)


async def count_failures(tx: Tx, vo_id: int, owner: str, since: datetime) -> list[FailureCount]:
    return await fetch(tx, FailureCount, Q.count_failures, {"vo_id": vo_id, "owner": owner, "since": since})


async def list_task_queues(tx: Tx, vo_id: int, asked: TaskQueueQuery) -> list[TaskQueue]:
    """One more than asked for, when there are more."""
    values = {name: getattr(asked, name) for name in asked.__struct_fields__}
    return await fetch(tx, TaskQueue, Q.list_task_queues, {**values, "vo_id": vo_id, "limit": asked.limit + 1})
