"""The processes that are kept alive: one part is one command, one log, one restart after another."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping

import msgspec

from spinor.embedded import processes
from spinor.embedded.layout import Layout, open_log
from spinor.embedded.state import PartRecord

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 10.0
# A part that lived this long has started well, so its next death begins the pauses anew.
_SETTLED_S = 30.0


class Part(msgspec.Struct, frozen=True):
    """A command of ours. It is told apart from others' by its arguments and its data directory."""

    name: str
    argv: tuple[str, ...]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What one supervisor keeps up. Parts start in this order and stop in the reverse."""

    run: str
    data_dir: str
    port: int
    database_url: str | None  # None is the embedded database.
    bootstrap: Part
    parts: tuple[Part, ...]


# -P: a file of the current directory must not be taken for a module of ours.
SPINOR = (sys.executable, "-P", "-m", "spinor")


def make_plan(run: str, layout: Layout, port: int, database_url: str | None, program: tuple[str, ...]) -> Plan:
    """The plan in which `program` (with us always SPINOR) is called with the words bootstrap, server and worker."""
    return Plan(
        run=run,
        data_dir=str(layout.root),
        port=port,
        database_url=database_url,
        bootstrap=Part("bootstrap", (*program, "bootstrap")),
        parts=(Part("server", (*program, "server")), Part("worker", (*program, "worker"))),
    )


class RunningPart:
    """One part under a supervisor: started, watched, started again after a pause that doubles from death to death."""

    def __init__(self, part: Part, layout: Layout) -> None:
        self.part = part
        self.layout = layout
        self.restarts = 0
        self.last_exit: int | None = None
        self.deaths_in_a_row = 0
        self._child: subprocess.Popen[bytes] | None = None
        self._process: processes.Process | None = None
        self._started_at = self._next_start_at = 0.0

    @property
    def is_alive(self) -> bool:
        return self._child is not None

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def start(self, environment: Mapping[str, str]) -> None:
        log = open_log(self.layout.log(self.part.name))
        try:
            # A session of its own, so that a Ctrl-C in the terminal reaches the supervisor alone, which stops in order.
            self._child = subprocess.Popen(
                self.part.argv,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.layout.root,
                start_new_session=True,
            )
        finally:
            os.close(log)
        self._process = processes.process(self._child.pid)
        self._started_at = time.monotonic()

    def collect(self) -> bool:
        """Whether the part has died since the last look; if so, its restart is due after a pause."""
        if self._child is None or self._child.poll() is None:
            return False
        settled = time.monotonic() - self._started_at > _SETTLED_S
        self.last_exit, self._child, self._process = self._child.returncode, None, None
        self.deaths_in_a_row = 1 if settled else self.deaths_in_a_row + 1
        pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self.deaths_in_a_row - 1, 16))
        self._next_start_at = time.monotonic() + pause
        return True

    @property
    def is_due(self) -> bool:
        return self._child is None and time.monotonic() >= self._next_start_at

    def stop(self) -> None:
        if self._child is None:
            return
        if self._process:
            processes.stop(self._process)
        self.last_exit = self._child.wait()
        self._child = self._process = None

    def record(self) -> PartRecord:
        return PartRecord(
            name=self.part.name,
            argv=self.part.argv,
            process=self._process,
            restarts=self.restarts,
            last_exit=self.last_exit,
        )


def survivors(layout: Layout, parts: list[Part]) -> list[tuple[Part, processes.Process]]:
    """Parts of this data directory that run now, last part first, whoever started them."""
    found = []
    root = str(layout.root)
    running = [(pid, processes.arguments(pid)) for pid in processes.pids()]
    for part in reversed(parts):
        for pid, arguments in running:
            if arguments == list(part.argv) and processes.environment(pid).get("SPINOR_DATA_DIR") == root:
                alive = processes.process(pid)
                if alive:
                    found.append((part, alive))
    return found
