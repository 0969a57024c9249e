"""The guardian: payloads die with the pilot, whatever kills it, and leave nothing behind."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spinor_pilot import children, system
from spinor_pilot.children import GUARDIAN, Guardian, Start
from spinor_pilot.faults import SiteFault
from spinor_pilot.isolation import NAMESPACES, Home, Isolation, Site

PILOT = """
import os, sys, time
from spinor_pilot.children import Guardian, Start
guardian = Guardian()
guardian.watch()
base, script = sys.argv[1:]
command, streams = ["/bin/sh", "-c", script], (base + "/out", base + "/err")
child = guardian.run(Start(command, dict(os.environ), base, *streams, "SPINOR_PAYLOAD=7.1"))
print(child.pid, flush=True)
if os.environ.get("WAIT_FOR_END"):
    child.ended.wait()
    print(child.code, child.cpu_s, child.max_rss_bytes, guardian.alive, flush=True)
else:
    time.sleep(100)
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started = []

    def begin(script: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PILOT, str(tmp_path), script],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.communicate()


def survivors(mark: str) -> list[int]:
    return [process.pid for process in system.processes() if mark in _arguments(process.pid)]


def _arguments(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode()
    except OSError:
        return ""


def wait_until(condition: Callable[[], bool], timeout_s: float = 5) -> bool:
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


# Children of the payload in its session, in one of their own, and a daemon that left its parent and its environment.
FAMILY = """
sleep {n}1 &
setsid sleep {n}2 &
(env -i setsid sleep {n}3 &)
trap '' TERM
sleep {n}4
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_dead_pilot_leaves_no_payload(start: Callable[..., subprocess.Popen[str]], number: int) -> None:
    mark = f"{os.getpid()}{int(number)}"
    pilot = start(FAMILY.format(n=mark))
    assert pilot.stdout is not None
    assert int(pilot.stdout.readline())
    assert wait_until(lambda: len(survivors(f"sleep\0{mark}")) == 4)
    os.kill(pilot.pid, number)
    assert wait_until(lambda: not survivors(f"sleep\0{mark}"), 3)


def test_a_dead_guardian_takes_the_payload_with_it(start: Callable[..., subprocess.Popen[str]]) -> None:
    mark = f"{os.getpid()}99"
    pilot = start(FAMILY.format(n=mark), WAIT_FOR_END="1")
    assert pilot.stdout is not None
    payload = int(pilot.stdout.readline())
    assert wait_until(lambda: len(survivors(f"sleep\0{mark}")) == 4)
    guardian = next(process.parent for process in system.processes() if process.pid == payload)
    os.kill(guardian, signal.SIGKILL)
    assert pilot.stdout.readline().split()[0] == "None"
    # The daemon without a trace of its origin is the one thing that outlives both: nobody can tell whose it is.
    assert wait_until(lambda: len(survivors(f"sleep\0{mark}")) <= 1, 3)
    for pid in survivors(f"sleep\0{mark}"):
        os.kill(pid, signal.SIGKILL)


def test_what_a_payload_leaves_behind_ends_with_it(start: Callable[..., subprocess.Popen[str]]) -> None:
    mark = f"{os.getpid()}55"
    pilot = start(f"sleep {mark}1 & setsid sleep {mark}2 & exit 5", WAIT_FOR_END="1")
    assert pilot.stdout is not None
    pilot.stdout.readline()
    code, cpu_s, max_rss_bytes, alive = pilot.stdout.readline().split()
    assert (code, alive) == ("5", "True")
    assert float(cpu_s) >= 0
    assert int(max_rss_bytes) > 100_000
    assert wait_until(lambda: not survivors(f"sleep\0{mark}"), 2)


def test_signals_reach_payloads_as_usual(start: Callable[..., subprocess.Popen[str]]) -> None:
    """Nothing that the pilot or the guardian ignores is ignored by a payload."""
    pilot = start("kill -TERM $$; exit 1", WAIT_FOR_END="1")
    assert pilot.stdout is not None
    pilot.stdout.readline()
    assert pilot.stdout.readline().split()[0] == str(-signal.SIGTERM)


# The first process of a namespace cannot kill itself.
UNLUCKY = """
import os, sys
sys.path.insert(0, sys.argv[1])
from spinor_pilot import birth, cell
def struck(*_): os._exit(9)
"""


@pytest.mark.parametrize(
    ("where", "in_a_cell"), [("birth._confine", False), ("cell.build", True), ("birth._leave_namespaces", True)]
)
def test_a_process_that_is_lost_before_its_program_is_the_nodes_fault(
    tmp_path: Path, where: str, in_a_cell: bool
) -> None:
    """Whatever struck it, the job did not: it is tried again elsewhere."""
    guardian = Guardian(f"{UNLUCKY}\n{where} = struck\n{GUARDIAN}")
    guardian.watch()
    with pytest.raises(SiteFault, match="lost at its start"):
        guardian.run(_nothing(tmp_path, in_a_cell))
    guardian.close()


@pytest.mark.parametrize(("where", "in_a_cell"), [("birth._confine", False), ("cell.build", True)])
def test_building_the_walls_is_not_the_payloads_work(tmp_path: Path, where: str, in_a_cell: bool) -> None:
    guardian = Guardian(f"{SLOW.replace('WHERE', where)}\n{GUARDIAN}")
    guardian.watch()
    child = guardian.run(_nothing(tmp_path, in_a_cell))
    child.ended.wait()
    assert child.code == 0
    assert child.cpu_s < 0.4
    guardian.close()


SLOW = """
import sys, time
sys.path.insert(0, sys.argv[1])
from spinor_pilot import birth, cell
usual = WHERE
def slow(*given):
    while time.process_time() < 0.5: pass
    usual(*given)
WHERE = slow
"""


def _nothing(place: Path, in_a_cell: bool) -> Start:
    start = Start(["/bin/true"], {}, str(place), f"{place}/out", f"{place}/err", "SPINOR_PAYLOAD=7.1")
    if not in_a_cell:
        return start
    home = Home(place / "job")
    home.make()
    cwd = "/job"
    return Isolation(NAMESPACES, False, True, place, Site(), "").confined(start._replace(cwd=cwd), home)


def test_a_guardian_that_cannot_fork_keeps_nothing_open(tmp_path: Path) -> None:
    """With few files allowed, what every refusal left open would be missed soon."""
    guardian = Guardian(f"{FULL}\n{GUARDIAN}")
    guardian.watch()
    for start in [_nothing(tmp_path, False), _nothing(tmp_path, True)] * 15:
        with pytest.raises(SiteFault, match="Resource temporarily unavailable"):
            guardian.run(start)
    child = guardian.run(_nothing(tmp_path, False))
    child.ended.wait()
    assert child.code == 0
    guardian.close()


FULL = """
import errno, os, resource, sys
sys.path.insert(0, sys.argv[1])
from spinor_pilot import guardian
usual, start, asked = os.fork, guardian._Nursery.start, []
def full(): raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
def starve(self, what):
    asked.append(what)
    os.fork = full if len(asked) <= 30 else usual
    start(self, what)
guardian._Nursery.start = starve
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
"""

FORK = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from spinor_pilot import birth
usual = birth._tell
def tell(pipe, news):
    if "pid" in news: FATE
    usual(pipe, news)
birth._tell = tell
"""


def test_a_keeper_that_nobody_told_of_is_no_reason_to_wait(tmp_path: Path) -> None:
    guardian = Guardian(f"{FORK.replace('FATE', 'time.sleep(0.3); os._exit(9)')}\n{GUARDIAN}")
    guardian.watch()
    with pytest.raises(SiteFault, match="lost at its start"):
        guardian.run(_nothing(tmp_path, True))
    guardian.close()


def test_a_keeper_may_be_ready_before_it_is_told_of(tmp_path: Path) -> None:
    guardian = Guardian(f"{FORK.replace('FATE', 'time.sleep(0.3)')}\n{GUARDIAN}")
    guardian.watch()
    child = guardian.run(_nothing(tmp_path, True))
    child.ended.wait()
    assert child.code == 0
    guardian.close()


def test_a_family_that_cannot_be_killed_just_now_ends_no_other(tmp_path: Path) -> None:
    """Killing an account takes a fork, which may fail."""
    guardian = Guardian(f"{BUSY}\n{GUARDIAN}")
    guardian.watch()
    other = guardian.run(_nothing(tmp_path, False)._replace(argv=["/bin/sh", "-c", "sleep 1; exit 3"]))
    first = guardian.run(_nothing(tmp_path, False))
    first.ended.wait()
    other.ended.wait()
    assert (first.code, other.code, guardian.alive) == (0, 3, True)
    guardian.close()


BUSY = """
import errno, os, sys
sys.path.insert(0, sys.argv[1])
from spinor_pilot import children, system
def busy(*_): raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
system.kill_family = busy
"""


def test_one_that_a_kill_does_not_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It hangs in the kernel: its job runs elsewhere. When it ends after all, nobody minds."""
    monkeypatch.setattr(children, "KILLED_S", 0.1)
    guardian = Guardian(f"{BUSY}\n{GUARDIAN}")
    guardian.watch()
    os.mkfifo(tmp_path / "fifo")
    child = guardian.run(_nothing(tmp_path, False)._replace(argv=["/bin/sh", "-c", "read word < fifo; exit 3"]))
    child.signal(signal.SIGKILL)
    child.ended.wait()
    assert child.over.is_set()
    assert isinstance(child.error, SiteFault)
    assert "was still there" in str(child.error)
    os.kill(child.pid, signal.SIGKILL)
    after = guardian.run(_nothing(tmp_path, False))
    after.ended.wait()
    assert after.code == 0
    guardian.close()
