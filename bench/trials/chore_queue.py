"""Trial of two PostgreSQL task-queue libraries for Spinor's chores: pgqueuer, and procrastinate as the peer.

`python bench/trials/chore_queue.py [--peer-python PYTHON] [--backlog 100000]` starts its own PostgreSQL, gives each
library a database there, and prints one JSON object per figure; it ends within three minutes. PYTHON is an interpreter
that has procrastinate and psycopg with its pool; without it a throw-away virtual environment is made. A value of null
means: it did not happen within the time given in the metric's name, or that library has no such thing.
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import psycopg

if TYPE_CHECKING:
    from spinor.embedded.postgres import Cluster

Connection = psycopg.AsyncConnection[Any]
Figures = dict[str, float | None]
UNITS = {"_per_s": "1/s", "_ms": "ms", "_s": "s"}
KILL_WATCH_S = 45
PERIODIC_S = 15


class Side(Protocol):
    """One library, made to do the same things as the other."""

    async def install(self) -> None: ...
    async def enqueue(self, conn: Connection, kind: str, count: int = 1, priority: int = 0) -> None: ...
    async def work(self, mode: str) -> None: ...
    async def rescue(self) -> bool: ...

    waiting: str  # SQL that counts the waiting no-op chores.
    kept_failed: str  # SQL that counts the failed chores that an operator can still find.
    empty: str  # SQL that throws every chore away.
    modes: tuple[str, ...]  # Worker modes whose drain rate is of interest.


async def autocommit(url: str) -> Connection:
    return await psycopg.AsyncConnection.connect(url, autocommit=True)


async def perform(conn: Connection, kind: str) -> None:
    """What a chore of each kind does, for both libraries: all but the no-op note that they started."""
    if kind != "noop":
        await conn.execute("INSERT INTO marks (kind, pid) VALUES (%s, %s)", (kind, os.getpid()))
    if kind == "slow":
        await asyncio.sleep(600)
    if kind == "failing":
        raise ValueError("this chore always fails")


class PgQueuerSide:
    waiting = "SELECT count(*) FROM pgqueuer WHERE entrypoint = 'noop'"
    kept_failed = "SELECT count(*) FROM pgqueuer WHERE status = 'failed'"
    empty = "TRUNCATE pgqueuer, pgqueuer_log"
    modes: tuple[str, ...] = ("unlimited", "limited", "limited_listening_apart")

    def __init__(self, url: str) -> None:
        self.url = url

    async def install(self) -> None:
        from pgqueuer.queries import Queries

        conn = await autocommit(self.url)
        await Queries.from_psycopg_connection(conn).install()

    async def enqueue(self, conn: Connection, kind: str, count: int = 1, priority: int = 0) -> None:
        from pgqueuer.queries import Queries

        await Queries.from_psycopg_connection(conn).enqueue([kind] * count, [b"{}"] * count, [priority] * count)

    async def work(self, mode: str) -> None:
        """`limited`: each kind has a limit of 4 at a time over all workers, and a batch has room for all kinds.

        `limited_listening_apart`: the same with a connection of its own for notifications, as Spinor uses it.
        """
        from pgqueuer import PgQueuer
        from pgqueuer.db import PsycopgDriver
        from pgqueuer.executors import DatabaseRetryEntrypointExecutor
        from pgqueuer.models import Job, Schedule

        from spinor.chores.driver import ListeningDriver

        async def run(job: Job) -> None:
            await perform(conn, job.entrypoint)

        async def run_tick(_: Schedule) -> None:
            await perform(conn, "tick")

        conn = await autocommit(self.url)
        driver = PsycopgDriver(await autocommit(self.url))
        if mode == "limited_listening_apart":
            driver = ListeningDriver(await autocommit(self.url), await autocommit(self.url))
        pgq = PgQueuer(driver)
        for kind in ("noop", "urgent", "slow"):
            pgq.entrypoint(kind, concurrency_limit=4 if mode.startswith("limited") else 0)(run)
        pgq.entrypoint(
            "failing",
            on_failure="hold",
            executor_factory=lambda parameters: DatabaseRetryEntrypointExecutor(
                parameters, max_attempts=2, initial_delay=timedelta(seconds=0.2)
            ),
        )(run)
        if mode == "periodic":
            pgq.schedule("tick", "* * * * * */2")(run_tick)
        await pgq.run(batch_size=16, dequeue_timeout=timedelta(seconds=5), heartbeat_timeout=timedelta(seconds=15))

    async def rescue(self) -> bool:
        return False


class ProcrastinateSide:
    waiting = "SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'noop' AND status IN ('todo', 'doing')"
    kept_failed = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'failed'"
    empty = "TRUNCATE procrastinate_jobs, procrastinate_events, procrastinate_periodic_defers"
    modes: tuple[str, ...] = ("unlimited",)

    def __init__(self, url: str) -> None:
        import procrastinate  # type: ignore[import-not-found]  # The peer lives in an environment of its own.

        self.url = url
        self.app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))
        self.conn: Connection
        retry = procrastinate.RetryStrategy(max_attempts=2, wait=0)
        self.tasks = {kind: self._task(kind, retry) for kind in ("noop", "urgent", "slow", "failing", "tick")}

    def _task(self, kind: str, retry: Any) -> Any:
        async def run(**_: Any) -> None:
            await perform(self.conn, kind)

        return self.app.task(name=kind, queue=kind, retry=retry if kind == "failing" else False)(run)

    async def install(self) -> None:
        async with self.app.open_async():
            await self.app.schema_manager.apply_schema_async()

    async def enqueue(self, conn: Connection, kind: str, count: int = 1, priority: int = 0) -> None:
        task = self.tasks[kind].configure(connection=conn, priority=priority)
        if count == 1:
            await task.defer_async()
        else:
            await task.batch_defer_async(*[{}] * count)

    async def work(self, mode: str) -> None:
        self.conn = await autocommit(self.url)
        if mode == "periodic":
            self.app.periodic(cron="* * * * * */2")(self.tasks["tick"])
        async with self.app.open_async():
            await self.app.run_worker_async(concurrency=20, install_signal_handlers=False)

    async def rescue(self) -> bool:
        """The code an application has to run by itself, again and again, to get a dead worker's chores back."""
        from datetime import UTC, datetime

        async with self.app.open_async():
            for job in await self.app.job_manager.get_stalled_jobs():
                await self.app.job_manager.retry_job(job, retry_at=datetime.now(UTC))
        return True


def make_side(name: str, url: str) -> Side:
    return PgQueuerSide(url) if name == "pgqueuer" else ProcrastinateSide(url)


@contextlib.contextmanager
def workers(side: str, url: str, mode: str, count: int = 1) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Worker processes of their own; whichever still runs at the end is killed."""
    command = [sys.executable, __file__, "--worker", mode, "--side", side, "--url", url]
    running = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(count)]
    try:
        yield running
    finally:
        for process in running:
            process.kill()
            process.wait()


async def count(conn: Connection, sql: str) -> int:
    row = await (await conn.execute(sql)).fetchone()
    return int(row[0]) if row else 0


async def until(conn: Connection, sql: str, goal: int, limit_s: float) -> float | None:
    """Seconds until the count reaches the goal, or None."""
    start = time.monotonic()
    while time.monotonic() - start < limit_s:
        if await count(conn, sql) >= goal:
            return time.monotonic() - start
        await asyncio.sleep(0.002)
    return None


async def trial_transaction(side: Side, conn: Connection, url: str) -> Figures:
    other = await autocommit(url)
    with contextlib.suppress(psycopg.Rollback):
        async with conn.transaction():
            await side.enqueue(conn, "noop")
            seen_inside = await count(other, side.waiting)
            raise psycopg.Rollback
    seen_after_rollback = await count(other, side.waiting)
    start, done = time.monotonic(), 0
    while time.monotonic() - start < 2:
        async with conn.transaction():
            await conn.execute("INSERT INTO marks (kind, pid) VALUES ('change', 0)")
            await side.enqueue(conn, "noop")
        done += 1
    rate = done / (time.monotonic() - start)
    visible = await count(other, side.waiting)
    await conn.execute(side.empty)
    return {
        "chores_seen_before_commit": seen_inside,
        "chores_left_after_rollback": seen_after_rollback,
        "chores_lost_after_commit": done - visible,
        "insert_enqueue_commit_per_s": rate,
    }


async def trial_backlog(side: Side, conn: Connection, name: str, url: str, backlog: int) -> Figures:
    """Drain rate over 6 s and start of another kind's chore, in front of a standing backlog."""
    figures: Figures = {}
    for mode in side.modes:
        await conn.execute(side.empty)
        start = time.monotonic()
        for _ in range(backlog // 5000):
            await side.enqueue(conn, "noop", count=5000)
        figures.setdefault("enqueue_5000_per_call_per_s", backlog / (time.monotonic() - start))
        await conn.execute("VACUUM ANALYZE")
        with workers(name, url, mode):
            await until(conn, f"SELECT {backlog} - ({side.waiting})", 1, 20)
            start, before = time.monotonic(), await count(conn, side.waiting)
            await asyncio.sleep(6)
            drained = before - await count(conn, side.waiting)
            figures[f"drain_{mode}_per_s"] = drained / (time.monotonic() - start)
            for label, priority in (("same_priority", 0), ("high_priority", 10)):
                figures[f"urgent_{label}_{mode}_start_within_3s_ms"] = await urgent_start(side, conn, priority)
    await conn.execute(side.empty)
    return figures


async def urgent_start(side: Side, conn: Connection, priority: int) -> float | None:
    """Median of the milliseconds from commit to start of seven chores of another kind; None when one never starts."""
    waits: list[float] = []
    for _ in range(7):
        await conn.execute("DELETE FROM marks WHERE kind = 'urgent'")
        await side.enqueue(conn, "urgent", priority=priority)
        waited = await until(conn, "SELECT count(*) FROM marks WHERE kind = 'urgent'", 1, 3)
        if waited is None:
            return None
        waits.append(waited * 1000)
    return statistics.median(waits)


async def trial_killed(side: Side, conn: Connection, name: str, url: str) -> Figures:
    started = "SELECT count(*) FROM marks WHERE kind = 'slow'"
    with workers(name, url, "limited_listening_apart") as doomed:
        await asyncio.sleep(2)
        await side.enqueue(conn, "slow")
        await until(conn, started, 1, 10)
        with workers(name, url, "limited_listening_apart"):
            await asyncio.sleep(2)
            doomed[0].send_signal(signal.SIGKILL)
            by_itself = await until(conn, started, 2, KILL_WATCH_S)
            figures: Figures = {f"killed_worker_chore_runs_again_within_{KILL_WATCH_S}s_s": by_itself}
            if by_itself is None and await side.rescue():
                figures["killed_worker_chore_after_rescue_code_s"] = await until(conn, started, 2, 10)
    await conn.execute(side.empty)
    return figures


async def trial_periodic(conn: Connection, name: str, url: str) -> Figures:
    with workers(name, url, "periodic", 2):
        await asyncio.sleep(PERIODIC_S)
    ticks = await count(conn, "SELECT count(*) FROM marks WHERE kind = 'tick'")
    slots = "SELECT count(DISTINCT floor(extract(epoch FROM at) / 2)) FROM marks WHERE kind = 'tick'"
    return {"periodic_every_2s_two_workers_runs": ticks, "periodic_duplicates": ticks - await count(conn, slots)}


async def trial_failing(side: Side, conn: Connection, name: str, url: str) -> Figures:
    with workers(name, url, "unlimited"):
        await side.enqueue(conn, "failing")
        await until(conn, "SELECT count(*) FROM marks WHERE kind = 'failing'", 3, 15)
        await asyncio.sleep(1)
    runs = await count(conn, "SELECT count(*) FROM marks WHERE kind = 'failing'")
    kept = await count(conn, side.kept_failed)
    await conn.execute(side.empty)
    return {"failing_runs_with_2_retries": runs, "failing_kept_for_operators": kept}


async def measure(name: str, url: str, phase: str, backlog: int) -> Figures:
    """`load` is the phase that uses the processors; `patience` mostly waits, so both libraries may do it together."""
    side, conn = make_side(name, url), await autocommit(url)
    if phase == "load":
        await conn.execute("CREATE TABLE marks (kind text, pid int, at timestamptz DEFAULT clock_timestamp())")
        await side.install()
        figures = await trial_transaction(side, conn, url)
        return figures | await trial_backlog(side, conn, name, url, backlog)
    figures = await trial_failing(side, conn, name, url)
    figures |= await trial_periodic(conn, name, url)
    return figures | await trial_killed(side, conn, name, url)


@contextlib.contextmanager
def cluster() -> Iterator["Cluster"]:
    """A PostgreSQL of our own, with its defaults: a commit is on the disk."""
    from spinor.embedded.layout import Layout
    from spinor.embedded.postgres import Cluster

    base = Path(tempfile.mkdtemp(prefix="chore-queue-"))
    base.chmod(0o711)  # The database may run under another account, which must be able to pass.
    layout = Layout(base / "data")
    layout.make()
    server = Cluster(layout)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        for place in {base, server.home}:
            shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def peer_environment(given: str | None) -> Iterator[str]:
    if given:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="chore-queue-peer-") as directory:
        subprocess.run([sys.executable, "-m", "venv", directory], check=True)
        python = f"{directory}/bin/python"
        packages = ["procrastinate==3.10.*", "psycopg[binary,pool]==3.3.*"]
        subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True, stdout=sys.stderr)
        yield python


def compare(peer_python: str | None, backlog: int) -> None:
    with cluster() as server, peer_environment(peer_python) as peer:
        pythons = {"pgqueuer": sys.executable, "procrastinate": peer}
        figures: dict[str, Figures] = {name: {} for name in pythons}
        with psycopg.connect(server.url("postgres"), autocommit=True) as admin:
            for name in pythons:
                admin.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))

        def start(name: str, phase: str) -> "subprocess.Popen[str]":
            command = [pythons[name], __file__, "--side", name, "--url", server.url(name), "--phase", phase]
            return subprocess.Popen([*command, "--backlog", str(backlog)], stdout=subprocess.PIPE, text=True)

        def collect(name: str, process: "subprocess.Popen[str]") -> None:
            output, _ = process.communicate(timeout=150)
            figures[name].update(json.loads(output))

        for name in pythons:
            collect(name, start(name, "load"))
        for name, process in [(name, start(name, "patience")) for name in pythons]:
            collect(name, process)
    for metric in dict.fromkeys([*figures["pgqueuer"], *figures["procrastinate"]]):
        report(metric, figures["pgqueuer"].get(metric), figures["procrastinate"].get(metric))


def report(metric: str, value: float | None, peer_value: float | None) -> None:
    unit = next((unit for ending, unit in UNITS.items() if metric.endswith(ending)), "count")
    ratio = round(value / peer_value, 3) if value is not None and peer_value else None
    shown = [None if number is None else round(number, 2) for number in (value, peer_value)]
    line = {"bench": "chore-queue", "metric": metric, "value": shown[0], "unit": unit}
    print(json.dumps(line | {"peer": "procrastinate", "peer_value": shown[1], "ratio": ratio}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-python")
    parser.add_argument("--backlog", type=int, default=100_000)
    for internal in ("--side", "--url", "--phase", "--worker"):
        parser.add_argument(internal, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        asyncio.run(make_side(given.side, given.url).work(given.worker))
    elif given.side:
        print(json.dumps(asyncio.run(measure(given.side, given.url, given.phase, given.backlog))))
    else:
        compare(given.peer_python, given.backlog)


if __name__ == "__main__":
    main()
