import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from spinor.embedded import processes
from spinor.embedded import up as verbs
from spinor.embedded.health import server_health
from spinor.embedded.layout import Layout
from spinor.embedded.postgres import Cluster
from spinor.embedded.state import Phase, State, read_state
from spinor.embedded.up import Health, NotStarted

from .conftest import STAND_IN


def state(place: Layout) -> State:
    found = read_state(place)
    assert found
    return found


def pid(place: Layout, part: str) -> int:
    record = state(place).part(part)
    assert record and record.process
    return record.process.pid


def eventually(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


def is_healthy(place: Layout) -> bool:
    parts = verbs.status(place.root)
    return bool(parts) and all(part.health is Health.HEALTHY for part in parts)


def kill(number: int) -> None:
    found = processes.process(number)
    os.kill(number, signal.SIGKILL)
    assert found
    assert processes.wait_until_gone(found, 5.0)


def test_up_twice_down_twice_and_the_same_port(place: Layout, port: int) -> None:
    first = verbs.up(place.root, port=port, program=STAND_IN)
    assert (first.port, first.was_up) == (port, False)
    assert verbs.up(place.root, program=STAND_IN).was_up
    assert [part.name for part in verbs.status(place.root)] == ["supervisor", "postgres", "server", "worker"]
    assert is_healthy(place)
    assert verbs.down(place.root, program=STAND_IN)
    assert {part.health for part in verbs.status(place.root)} == {Health.DOWN}
    assert state(place).phase is Phase.STOPPED
    assert not verbs.down(place.root, program=STAND_IN)
    assert verbs.up(place.root, program=STAND_IN).port == port
    # The bootstrap runs at each start, and before the server.
    words = [line.split()[0] for line in (place.root / "calls").read_text().splitlines()]
    assert words[0] == "bootstrap"
    assert words.count("bootstrap") == 2


def test_killed_parts_come_back(place: Layout, port: int) -> None:
    verbs.up(place.root, port=port, program=STAND_IN)
    before = {name: pid(place, name) for name in ("server", "worker")}
    postmaster = Cluster(place).postmaster()
    assert postmaster
    for number in (*before.values(), postmaster.pid):
        kill(number)
    eventually(lambda: is_healthy(place) and all(pid(place, name) != before[name] for name in before))
    assert Cluster(place).postmaster() != postmaster
    assert {part.name: part.restarts for part in verbs.status(place.root)}["worker"] == 1


def test_the_parts_outlive_their_supervisor_and_are_taken_over(place: Layout, port: int) -> None:
    verbs.up(place.root, port=port, program=STAND_IN)
    server, worker, postmaster = pid(place, "server"), pid(place, "worker"), Cluster(place).postmaster()
    kill(state(place).supervisor.pid)
    assert server_health(port, place.ca).healthy
    again = verbs.up(place.root, program=STAND_IN)
    assert (again.port, again.was_up) == (port, False)
    assert Cluster(place).postmaster() == postmaster
    assert processes.process(server) is None
    assert processes.process(worker) is None
    # What was killed before it could write down its parts finds its successor looking for them by their commands.
    worker = pid(place, "worker")
    kill(state(place).supervisor.pid)
    place.state.unlink()
    verbs.up(place.root, port=port, program=STAND_IN)
    assert processes.process(worker) is None
    kill(state(place).supervisor.pid)
    assert verbs.down(place.root, program=STAND_IN)
    assert not Cluster(place).is_running
    assert not server_health(port, place.ca).healthy


def test_a_taken_port_is_avoided(place: Layout, port: int) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", port))
        taken.listen()
        assert verbs.up(place.root, port=port, program=STAND_IN).port > port


def test_two_data_directories_that_start_at_once(place: Layout, open_directory: Path, port: int) -> None:
    other = Layout(open_directory / "other")
    found: dict[str, verbs.Running] = {}

    def start(each: Layout) -> None:
        found[each.root.name] = verbs.up(each.root, port=port, program=STAND_IN)

    threads = [threading.Thread(target=start, args=[each]) for each in (place, other)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({running.port for running in found.values()}) == 2
        assert is_healthy(place)
        assert is_healthy(other)
        verbs.down(other.root, program=STAND_IN)
        assert is_healthy(place)
    finally:
        verbs.erase(other.root, program=STAND_IN)
    assert not other.root.exists() or [path.name for path in other.root.iterdir()] == ["calls"]


@pytest.mark.parametrize("word", ["server", "bootstrap"])
def test_a_start_that_fails_shows_the_log_and_leaves_nothing(place: Layout, port: int, word: str) -> None:
    place.make()
    (place.root / f"break-{word}").touch()
    with pytest.raises(NotStarted, match=f"the {word} is broken by the test"):
        verbs.up(place.root, port=port, program=STAND_IN)
    assert not Cluster(place).is_running
    assert not state(place).is_supervised
    assert {part.health for part in verbs.status(place.root)} == {Health.DOWN}
    (place.root / f"break-{word}").unlink()
    assert verbs.up(place.root, port=port, program=STAND_IN).port == port


def test_a_database_of_ones_own(
    place: Layout, open_directory: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = Cluster(Layout(open_directory / "elsewhere"))
    try:
        elsewhere.start()
        monkeypatch.setenv("SPINOR_DATABASE_URL", elsewhere.url())
        verbs.up(place.root, port=port, program=STAND_IN)
        assert not Cluster(place).exists
        database = verbs.status(place.root)[1]
        assert (database.health, database.pid, database.log) == (Health.HEALTHY, None, None)
        verbs.down(place.root, program=STAND_IN)
        assert elsewhere.is_running
        monkeypatch.setenv("SPINOR_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
        with pytest.raises(NotStarted, match="SPINOR_DATABASE_URL refuses"):
            verbs.up(place.root, port=port, program=STAND_IN)
    finally:
        elsewhere.stop()


def test_the_foreground_stops_in_order_at_sigterm(place: Layout, port: int) -> None:
    code = f"import sys; from spinor.embedded.up import stay_up; sys.exit(stay_up({str(place.root)!r}, port={port},"
    code += f" program={STAND_IN!r}))"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as process:
        eventually(lambda: place.state.exists() and state(place).phase is Phase.UP, 20.0)
        with psycopg.connect(Cluster(place).url()) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert verbs.up(place.root, program=STAND_IN).was_up
        process.terminate()
        assert process.wait(20) == 0
    assert not Cluster(place).is_running


def test_a_supervisor_whose_data_directory_is_removed_ends_and_takes_its_parts_along(
    open_directory: Path, port: int
) -> None:
    place = Layout(open_directory / "removed")
    verbs.up(place.root, port=port, program=STAND_IN)
    before = state(place)
    parts = [part.process for part in before.parts if part.process]
    shutil.rmtree(place.root, ignore_errors=True)
    for process in (before.supervisor, *parts):
        assert processes.wait_until_gone(process, 30.0)
