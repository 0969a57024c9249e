"""The worker: takes chores from the queue, runs them, keeps the periodic ones going."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import msgspec
import psycopg
from pgqueuer.core.qm import QueueManager
from pgqueuer.domain.errors import RetryRequested
from pgqueuer.domain.models import Job

from spinor.chores.driver import ListeningDriver, connect
from spinor.chores.models import Chore, ChoreContext, chore
from spinor.chores.periodic import RECONNECT_S, is_short, keep_enqueuing, keep_leading
from spinor.chores.queue import NAMES, Q, library
from spinor.chores.run import Line, in_time, pause, told
from spinor.db import execute, fetch_value
from spinor.errors import SpinorError
from spinor.logs import bind

# A chore whose worker died runs again after at most the silence plus one poll, and the beats of a live one are half the
# silence apart.
SILENCE = timedelta(seconds=15)
POLL = timedelta(seconds=5)
LOST_WORKERS_ALLOWED = 3
LONGEST_BACKOFF_S = 300.0


class WorkersLost(SpinorError):
    """Several workers died while they ran this chore, so it is not tried again."""

    code = "workers-lost"


async def run_worker(
    context: ChoreContext, chores: Sequence[Chore], *, stop: asyncio.Event, drain_s: float = 60
) -> None:
    """Run chores until `stop` is set; any number of workers may do so at the same time.

    After `stop` no chore is taken any more; those that still run after `drain_s` seconds are interrupted and go back
    to the queue, as they do when this coroutine is cancelled. Survives the database's absence.
    """
    kinds = [*chores, TRIM_LOG]
    if len({kind.name for kind in kinds}) < len(kinds):
        raise ValueError("two chores have the same name")
    short = [kind for kind in kinds if is_short(kind)]
    long = [kind for kind in kinds if kind.every_s is not None and not is_short(kind)]
    async with asyncio.TaskGroup() as group:
        group.create_task(keep_leading(context, short, stop, drain_s))
        group.create_task(keep_enqueuing(context, long, stop))
        group.create_task(_keep_consuming(context, kinds, stop, drain_s))


async def _keep_consuming(context: ChoreContext, kinds: Sequence[Chore], stop: asyncio.Event, drain_s: float) -> None:
    while not stop.is_set():
        try:
            async with connect(context.db.url) as driver:
                await _Shift(context, driver, stop, drain_s).work(kinds)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            context.log.warning("chore-worker-disconnected", extra={"error": str(error).strip()})
            await pause(stop, RECONNECT_S)


class _Shift:
    """The work on one connection, until `stop` is set or the connection is lost."""

    def __init__(self, context: ChoreContext, driver: ListeningDriver, stop: asyncio.Event, drain_s: float) -> None:
        self.context = context
        self.driver = driver
        self.stop = stop
        self.drain_s = drain_s
        self.running: set[asyncio.Task[Any]] = set()
        self.over = False

    async def work(self, kinds: Sequence[Chore]) -> None:
        manager = QueueManager(library(self.driver), channel=NAMES.channel)
        for kind in kinds:
            self._register(manager, kind)
        # A kind that has as many chores running as it may is passed over, and one batch has room for all the others
        # together: so the backlog of one kind cannot keep another from starting.
        run = asyncio.create_task(
            manager.run(
                batch_size=sum(kind.concurrency for kind in kinds),
                dequeue_timeout=POLL,
                heartbeat_timeout=SILENCE,
                log_aggregation_interval=timedelta(0),
            )
        )
        stopped, lost = asyncio.create_task(self.stop.wait()), asyncio.create_task(self.driver.until_lost())
        try:
            await asyncio.wait((run, stopped, lost), return_when=asyncio.FIRST_COMPLETED)
            manager.shutdown.set()
            await asyncio.wait((run, lost), timeout=self.drain_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Without a connection there are no beats, so others will take our chores: ours must end at once.
            manager.shutdown.set()
            self.over = True
            for task in (stopped, lost, *self.running):
                task.cancel()
            await asyncio.wait((run,))
        await run

    def _register(self, manager: QueueManager, kind: Chore) -> None:
        async def run(job: Job) -> None:
            await self._perform(kind, job)

        manager.entrypoint(kind.name, concurrency_limit=kind.concurrency, accepts_context=False, on_failure="hold")(run)

    async def _perform(self, kind: Chore, job: Job) -> None:
        """Run one chore. What it raises tells the library what becomes of it."""
        task = asyncio.current_task()
        assert task is not None
        with bind(chore=kind.name, chore_id=job.id, attempt=job.attempts + 1):
            async with self._logged(job, kind):
                self.running.add(task)
                try:
                    if self.over:
                        raise RetryRequested(timedelta(0), "interrupted")
                    await self._run(kind, job)
                except asyncio.CancelledError:
                    # The library would throw a cancelled chore away.
                    task.uncancel()
                    raise RetryRequested(timedelta(0), "interrupted") from None
                finally:
                    self.running.discard(task)

    async def _run(self, kind: Chore, job: Job) -> None:
        async with self.context.db.transaction() as tx:
            workers_lost = await fetch_value(tx, Q.start_chore, {"id": job.id})
        if workers_lost is None:
            return  # Another worker took it over and ended it.
        if workers_lost > LOST_WORKERS_ALLOWED:
            raise WorkersLost
        await in_time(self.context, kind, msgspec.json.decode(job.payload or b"{}", type=dict[str, Any]))

    @contextlib.asynccontextmanager
    async def _logged(self, job: Job, kind: Chore) -> AsyncIterator[None]:
        """One line per attempt, and the decision whether there is another."""
        line = Line(self.context)
        try:
            yield
        except RetryRequested:
            line.write("warning", "interrupted")
            raise
        except Exception as error:
            facts = {"error": told(error)}
            if job.attempts < kind.retries and not isinstance(error, WorkersLost):
                delay_s = min(2.0**job.attempts, LONGEST_BACKOFF_S)
                line.write("warning", "retry", again_in_s=delay_s, **facts)
                raise RetryRequested(timedelta(seconds=delay_s), facts["error"]) from error
            line.write("error", "failed", **facts)
            await self._forget_failed_ticks(kind, job)
            raise
        else:
            line.write("info" if kind.every_s is None else "debug", "done")

    async def _forget_failed_ticks(self, kind: Chore, job: Job) -> None:
        """Of a periodic chore that always fails only the last failure is kept, or they would fill the queue."""
        if kind.every_s is not None:
            async with self.context.db.transaction() as tx:
                await execute(tx, Q.forget_failed_ticks, {"name": kind.name, "id": job.id})


async def _trim_log(context: ChoreContext, _payload: dict[str, Any]) -> None:
    async with context.db.transaction() as tx:
        await execute(tx, Q.trim_log)


TRIM_LOG = chore("chores.trim_log", _trim_log, every_s=3600, timeout_s=100, retries=1, concurrency=1)
