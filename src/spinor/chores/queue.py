"""The queue as the rest of Spinor sees it: enqueue inside a transaction, count, look at what failed.

The library is PgQueuer (ADR 0004). Only this package knows it; its tables lie in the PostgreSQL schema `chores`, and
their definition is part of Spinor's own schema (`schema.sql`).
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
from pgqueuer.adapters.drivers.psycopg import PsycopgDriver
from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment, QueryQueueBuilder, QuerySchedulerBuilder
from pgqueuer.domain.models import Job, TableChangedEvent, TracebackRecord, utc_now
from pgqueuer.domain.settings import DBSettings, Durability
from pgqueuer.domain.types import Channel, JobId
from pgqueuer.queries import Queries as QueueQueries
from psycopg.pq import TransactionStatus

from spinor.chores.models import ChoreCount, FailedChore, FailingChore
from spinor.db import Queries, Tx, fetch, fetch_rows
from spinor.errors import SpinorError

Q = Queries("spinor.chores")

# Every name is given, since the library would otherwise look for each of them in the environment.
NAMES = DBSettings(
    prefix="",
    db_schema="chores",
    channel=Channel("spinor_chores"),
    function="announce",
    statistics_table="statistics",
    queue_status_type="queue_status",
    queue_table="queue",
    queue_table_log="log",
    trigger="announce",
    schedules_table="schedules",
    durability=Durability.durable,
    widen_id=True,
)


class OutsideTransaction(SpinorError):
    """A chore is enqueued inside the transaction of the change that asks for it."""

    code = "outside-transaction"


class AnnouncingQueries(QueueQueries):
    """The library's statements; those that put a chore back also wake the workers, who else look only now and then."""

    async def retry_job(self, job: Job, delay: timedelta, traceback_record: TracebackRecord | None) -> None:
        await super().retry_job(job, delay, traceback_record)
        await self._announce()

    async def requeue_jobs(self, ids: list[JobId]) -> None:
        await super().requeue_jobs(ids)
        await self._announce()

    async def _announce(self) -> None:
        event = TableChangedEvent(
            channel=NAMES.channel, sent_at=utc_now(), type="table_changed_event", operation="update", table="queue"
        )
        await self.driver.notify(NAMES.channel, event.model_dump_json(exclude={"received_at"}))


def library(driver: PsycopgDriver) -> AnnouncingQueries:
    """The library's statements, bound to our table names."""
    return AnnouncingQueries(
        driver, qbe=QueryBuilderEnvironment(NAMES), qbq=QueryQueueBuilder(NAMES), qbs=QuerySchedulerBuilder(NAMES)
    )


async def enqueue(
    tx: Tx,
    name: str,
    payload: dict[str, Any] | None = None,
    *,
    delay_s: float = 0,
    dedupe_key: str | None = None,
    priority: int = 0,
) -> None:
    """Ask for a chore; it can start once the caller's transaction is committed, and `delay_s` seconds later.

    As long as a chore of this name and `dedupe_key` waits, asking again adds none; that one then starts after this
    transaction too, so it sees this change, but keeps its own delay and payload. Once it runs, asking again adds one.
    Higher priorities start first.
    """
    keys = [None if dedupe_key is None else f"{name}:{dedupe_key}"]
    await _insert(tx, [name], [payload or {}], delay_s=delay_s, keys=keys, priority=priority)


async def enqueue_many(
    tx: Tx, name: str, payloads: Sequence[dict[str, Any]], *, delay_s: float = 0, priority: int = 0
) -> None:
    """Ask for one chore per payload, in one statement."""
    keys = [None] * len(payloads)
    await _insert(tx, [name] * len(payloads), payloads, delay_s=delay_s, keys=keys, priority=priority)


async def enqueue_ticks(tx: Tx, names: Sequence[str]) -> None:
    """Ask for one run of each periodic chore; a tick whose predecessor still waits adds nothing."""
    ordered = sorted(names)
    keys: list[str | None] = [f"{name}:tick" for name in ordered]
    payloads: list[dict[str, Any]] = [{}] * len(ordered)
    await _insert(tx, ordered, payloads, keys=keys, headers={"tick": "yes"})


async def _insert(
    tx: Tx,
    names: Sequence[str],
    payloads: Sequence[dict[str, Any]],
    *,
    keys: Sequence[str | None],
    delay_s: float = 0,
    priority: int = 0,
    headers: dict[str, str] | None = None,
) -> None:
    if tx.info.transaction_status is not TransactionStatus.INTRANS:
        raise OutsideTransaction(chores=list(names))
    if not names:
        return
    # With "update_priority" a duplicate locks the waiting chore until our caller commits. Were it merely skipped, a
    # worker could start that chore before the change is visible, and the change would then have no chore at all.
    # Its cost grows with the square of the batch, so chores without keys go the other way.
    await library(PsycopgDriver(tx)).enqueue(
        list(names),
        [msgspec.json.encode(payload) for payload in payloads],
        [priority] * len(names),
        [timedelta(seconds=delay_s)] * len(names),
        list(keys),
        [headers] * len(names),
        on_conflict="update_priority" if any(keys) else "raise",
    )


async def count_chores(tx: Tx) -> list[ChoreCount]:
    """What is in the queue, by kind and state. Reads the whole queue."""
    return await fetch(tx, ChoreCount, Q.count_chores)


async def failed_chores(tx: Tx, *, limit: int = 100) -> list[FailedChore]:
    """The chores that used up their retries, newest first. Of a periodic chore only the last failure is kept."""
    return await fetch(tx, FailedChore, Q.failed_chores, {"limit": limit})


async def failing_chores(tx: Tx) -> list[FailingChore]:
    """The chores of short periods that fail, by name; the next turn is their retry."""
    return await fetch(tx, FailingChore, Q.failing_chores)


async def retry_failed(tx: Tx, ids: Sequence[int]) -> None:
    """Put failed chores back with all their retries; ids that are not failed are passed over."""
    await library(PsycopgDriver(tx)).requeue_jobs([JobId(chore_id) for chore_id in ids])


async def forget_failed(tx: Tx, ids: Sequence[int]) -> list[int]:
    """Throw failed chores away; the ids that were."""
    return [row[0] for row in await fetch_rows(tx, Q.forget_failed_chores, {"ids": list(ids)})]
