"""The pilot's end of the line to its guardian: start a payload, signal it, hear how it ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

from spinor_pilot import birth, cgroups, system
from spinor_pilot.faults import Lost, SiteFault, told

# A fork costs what it has to copy, so the guardian is an interpreter of its own with no more in it than it needs.
GUARDIAN = "import sys; sys.path.insert(0, sys.argv[1]); from spinor_pilot.guardian import main; main(int(sys.argv[2]))"
KILLED_S = 120.0  # Whoever is killed and still there after this hangs in the kernel, on a file system that is dead.
_HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # Of the package: a directory, or the bundle.


class Child:
    """A payload's process. `code` is negative when a signal ended it; times in seconds, sizes in bytes."""

    def __init__(self, ward: Guardian, number: int, start: Start) -> None:
        self.start = start
        self.ready = threading.Event()  # It waits behind its walls, or could not come so far.
        self.begun = threading.Event()
        self.over = threading.Event()  # Its program has ended.
        self.ended = threading.Event()  # Nothing is left of it, and all is known of how it ended.
        self.pid = 0  # Of its keeper where it has namespaces, else of its leader.
        self.error: Optional[Exception] = None
        self.code: Optional[int] = None  # None after the end: the guardian died, and nobody saw the code.
        self.cpu_s = 0.0
        self.max_rss_bytes = 0
        self.oom_kills = 0
        self._guardian = ward
        self._number = number
        self.killed: Optional[threading.Timer] = None  # Runs from the kill to the end, but not for ever.

    def end(self) -> None:
        """Nobody has to wait for anything more."""
        if self.killed is not None:
            self.killed.cancel()
        for event in (self.ended, self.over, self.begun, self.ready):
            event.set()

    def go(self, cpus: Sequence[int] = ()) -> None:
        """Let it become the payload, bound to these cores (none: to none); the OSError of its program's start."""
        self._guardian.tell({"n": self._number, "go": list(cpus)})
        self.begun.wait()
        if self.error is not None:
            raise self.error

    def signal(self, which: int) -> None:
        """To every process of the payload."""
        if not self.ended.is_set():
            self._guardian.tell({"n": self._number, "signal": int(which)})
            if which == signal.SIGKILL:
                self._guardian.expect_end(self, self._number)


class Start(NamedTuple):
    """All that the guardian needs to start a payload."""

    argv: list[str]
    env: dict[str, str]
    cwd: str
    stdout: str
    stderr: str
    mark: str  # NAME=value in its environment, by which processes that left its session are found.
    cell: Optional[dict[str, Any]] = None  # Of `isolation.Cells.plan`; None: no namespaces.
    uid: Optional[int] = None  # An account of its own; None: the pilot's.
    limits: Optional[dict[str, tuple[int, int]]] = None  # RLIMIT_… -> soft and hard.
    cgroups: tuple[dict[str, Any], ...] = ()  # Of `cgroups.Controllers.wanted`.


class Guardian:
    """Start it before any secret is in memory or in the environment. `program` is what its interpreter runs."""

    def __init__(self, program: str = GUARDIAN) -> None:
        ours, theirs = socket.socketpair()
        theirs.set_inheritable(True)
        options = ["-I", "-S", "-B", "-c", program, _HOME, str(theirs.fileno())]
        # The pilot's own words come last, for people who look at the processes of a node.
        os.posix_spawn(sys.executable, [sys.executable, *options, *sys.argv], dict(os.environ))
        theirs.close()
        self._socket = ours
        self._lock = threading.Lock()
        self._children: dict[int, Child] = {}
        self._count = 0
        self.alive = True

    def watch(self) -> None:
        """Begin to read what the guardian tells. Starts a thread."""
        threading.Thread(target=self._listen, name="guardian", daemon=True).start()

    def run(self, start: Start) -> Child:
        """Start a payload; the OSError of its program's start, or what `prepare` raises."""
        child = self.prepare(start)
        child.go()
        return child

    def prepare(self, start: Start) -> Child:
        """Build a payload's walls, behind which it waits for `Child.go`; SiteFault when that fails, or Lost.

        Much of that is waiting for the kernel, and is better done while the cores still work for others.
        """
        name, _, value = start.mark.partition("=")
        with self._lock:
            if not self.alive:
                raise Lost("The pilot's guardian process has died; the job is given back.")
            self._count += 1
            child = self._children[self._count] = Child(self, self._count, start)
            request = {"n": self._count, **start._asdict(), "env": {**start.env, name: value}}
            with contextlib.suppress(OSError):  # The reader sees the end of file and answers for a dead guardian.
                self._socket.sendall(json.dumps(request).encode() + b"\n")
        child.ready.wait()
        if child.error is not None:
            raise child.error
        return child

    def tell(self, order: dict[str, Any]) -> None:
        with self._lock, contextlib.suppress(OSError):
            self._socket.sendall(json.dumps(order).encode() + b"\n")

    def expect_end(self, child: Child, number: int) -> None:
        """Wait for the end of one that was killed, but not for ever."""
        with self._lock:
            if child.killed is None and number in self._children:
                child.killed = threading.Timer(KILLED_S, self._abandon, (child, number))
                child.killed.daemon = True
                child.killed.start()

    def _abandon(self, child: Child, number: int) -> None:
        with self._lock:
            if self._children.pop(number, None) is None:
                return
        child.error = SiteFault(
            f"the payload was killed, and after {KILLED_S:.0f} s it was still there: a file system of the node may hang"
        )
        child.end()

    def close(self) -> None:
        """Let the guardian go; it kills what is left of the payloads first."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _listen(self) -> None:
        with contextlib.suppress(OSError), self._socket.makefile("rb") as lines:
            for line in lines:
                self._told(json.loads(line))
        with self._lock:
            self.alive = False
            left = list(self._children.values())
        for child in left:
            # The kernel has ended its leader with the guardian; the rest is found by its session and its mark.
            if child.pid and child.start.cell is None:
                _end_family(child)
            cgroups.remove(child.start.cgroups)
            child.end()

    def _told(self, news: dict[str, Any]) -> None:
        child = self._children.get(news["n"])
        if child is None:
            return  # Nobody waits for it any more.
        counted = news.get("counted", {})
        child.oom_kills = int(counted.get("oom_kills", 0))
        if "error" in news:
            error = OSError(*news["error"])
            confining = news["stage"] == birth.ISOLATION
            child.error = SiteFault(told("confining the payload", error)) if confining else error
        if "pid" in news:
            child.pid = news["pid"]
            child.ready.set()
        if "code" in news:
            child.code = news["code"]
            child.cpu_s = max(news["cpu_s"], counted.get("cpu_s", 0.0))
            child.max_rss_bytes = int(counted.get("peak_bytes", 0)) or news["max_rss_bytes"]
        if "begun" in news:
            child.begun.set()
        if "over" in news:
            child.over.set()
        if "code" in news or "error" in news:
            with self._lock:
                self._children.pop(news["n"], None)
            child.end()


def _end_family(child: Child) -> None:
    system.kill_family(child.pid, child.start.mark, signal.SIGKILL, child.start.uid)
