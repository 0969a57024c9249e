"""A worker killed with -9 loses nothing: another one runs its chore, by itself."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import psycopg
import pytest

WORKER = Path(__file__).with_name("worker_process.py")


@pytest.fixture
def start_worker(chores_url: str, tmp_path: Path) -> Iterator[Callable[[], "subprocess.Popen[bytes]"]]:
    with contextlib.ExitStack() as stack:

        def start() -> "subprocess.Popen[bytes]":
            process = subprocess.Popen([sys.executable, WORKER, chores_url, tmp_path])
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        yield start


def ask(conn: "psycopg.Connection[tuple[int]]", seconds: float) -> None:
    """Enqueue as the library does; the test itself has no event loop."""
    conn.execute(
        "INSERT INTO chores.queue (priority, status, entrypoint, payload) VALUES (0, 'queued', 'slow', %s)",
        (msgspec.json.encode({"seconds": seconds}),),
    )


def until(conn: "psycopg.Connection[tuple[int]]", what: str, limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while True:
        row = conn.execute("SELECT count(*) FROM ran WHERE what LIKE %s", (what,)).fetchone()
        if row is not None and row[0]:
            return
        assert time.monotonic() < deadline, f"not {what} within {limit_s} s"
        time.sleep(0.05)


def test_the_chore_of_a_killed_worker_runs_again(
    chores_url: str, start_worker: Callable[[], "subprocess.Popen[bytes]"]
) -> None:
    with psycopg.connect(chores_url, autocommit=True) as conn:
        ask(conn, 1)
        doomed = start_worker()
        until(conn, f"started by {doomed.pid}", 10)
        survivor = start_worker()
        doomed.send_signal(signal.SIGKILL)
        until(conn, f"started by {survivor.pid}", 45)
        until(conn, "ended", 10)


@pytest.mark.parametrize(("how", "limit_s"), [(signal.SIGKILL, 10), (signal.SIGSTOP, 40)])
def test_when_the_leader_is_gone_or_silent_another_leads(
    chores_url: str, start_worker: Callable[[], "subprocess.Popen[bytes]"], how: signal.Signals, limit_s: float
) -> None:
    with psycopg.connect(chores_url, autocommit=True) as conn:
        doomed = start_worker()
        until(conn, f"turn of {doomed.pid}", 10)
        survivor = start_worker()
        doomed.send_signal(how)
        until(conn, f"turn of {survivor.pid}", limit_s)


def test_sigterm_ends_the_worker_after_its_chore(
    chores_url: str, start_worker: Callable[[], "subprocess.Popen[bytes]"]
) -> None:
    with psycopg.connect(chores_url, autocommit=True) as conn:
        ask(conn, 1)
        worker = start_worker()
        until(conn, f"started by {worker.pid}", 10)
        worker.terminate()
        assert worker.wait(15) == 0
        until(conn, "ended", 0.1)
        assert conn.execute("SELECT count(*) FROM chores.queue WHERE entrypoint = 'slow'").fetchone() == (0,)


def test_a_chore_that_kills_every_worker_is_given_up(
    chores_url: str, start_worker: Callable[[], "subprocess.Popen[bytes]"]
) -> None:
    """Four deaths are noted in the log as the library would; the fifth worker refuses."""
    with psycopg.connect(chores_url, autocommit=True) as conn:
        ask(conn, 30)
        conn.execute(
            "INSERT INTO chores.log (job_id, status, priority, entrypoint)"
            " SELECT id, 'picked', 0, 'slow' FROM chores.queue, generate_series(1, 4)"
        )
        start_worker()
        deadline = time.monotonic() + 10
        while conn.execute("SELECT status::text FROM chores.queue WHERE entrypoint = 'slow'").fetchone() != ("failed",):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert conn.execute("SELECT count(*) FROM ran WHERE what LIKE 'started%'").fetchone() == (0,)
