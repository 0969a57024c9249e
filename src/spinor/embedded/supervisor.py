"""The process that `spinor up` leaves in the background: it starts the parts in order and keeps them alive.

Killing it leaves the parts at work. Its successor ends the server and the worker that it finds, adopts the database
as it runs, and goes on.
"""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

import spinor
from spinor.embedded import ports, processes
from spinor.embedded.certificates import ensure_certificates
from spinor.embedded.health import database_health, server_health
from spinor.embedded.installation import OLDEST_MAJOR
from spinor.embedded.layout import Layout, trim_log
from spinor.embedded.parts import LONGEST_PAUSE_S, Plan, RunningPart, survivors
from spinor.embedded.postgres import Cluster
from spinor.embedded.state import Phase, State, read_state, write_state
from spinor.errors import SpinorError

READY_WITHIN_S = 60.0
_DEATHS_AT_START = 3
_HOUR_S = 3600.0


class PartFailed(SpinorError):
    """A part of the service does not stay alive."""

    code = "part-failed"


class DatabaseUnusable(SpinorError):
    """The database named in SPINOR_DATABASE_URL cannot be used."""

    code = "database-unusable"


class DataDirectoryGone(SpinorError):
    """The data directory was removed or replaced while the service ran."""

    code = "data-directory-gone"


class Supervisor:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.layout = Layout(Path(plan.data_dir))
        self.port = plan.port
        self.phase = Phase.STARTING
        self.cluster: Cluster | None = None
        self.database_url = plan.database_url or ""
        self.parts = [RunningPart(part, self.layout) for part in plan.parts]
        self.bootstrap = RunningPart(plan.bootstrap, self.layout)
        self._told_to_stop = False
        self._root = self._root_now()
        self._waker, self._wakened = socket.socketpair()
        self._ready_deadline = self._next_hourly = self._next_database_try = 0.0
        self._database_pause_s = 0.0

    def run(self) -> int:
        """Until a signal to stop, or until the start fails. Returns the exit code."""
        before = self._catch_signals()
        failure: SpinorError | None = None
        try:
            self._begin()
            self._watch()
        except SpinorError as error:
            failure = error
        except (OSError, subprocess.SubprocessError) as error:
            failure = SpinorError(f"The start failed: {error}.")
        finally:
            self._end(failure)
            signal.set_wakeup_fd(-1)
            for number, action in before.items():
                signal.signal(number, action)
            self._waker.close()
            self._wakened.close()
        return 1 if failure else 0

    def _begin(self) -> None:
        previous = read_state(self.layout)
        self._record()
        clear_survivors(self.layout, previous, self.plan)
        ensure_certificates(self.layout)
        self.port = ports.free_port(self.plan.port)
        self._begin_database()
        if self._told_to_stop:
            return
        self._run_bootstrap()
        self._next_hourly = time.monotonic() + _HOUR_S
        self._ready_deadline = time.monotonic() + READY_WITHIN_S

    def _run_bootstrap(self) -> None:
        self._say("bootstrap")
        self.bootstrap.start(self._environment())
        self._record()
        while not self.bootstrap.collect():
            if self._told_to_stop:
                return
            self._pause(0.1)
        if self.bootstrap.last_exit != 0:
            raise PartFailed("The bootstrap failed.", part="bootstrap")

    def _begin_database(self) -> None:
        if self.plan.database_url is None:
            self.cluster = Cluster(self.layout)
            self.cluster.start()
            self.database_url = self.cluster.url()
            self._say("database is up", pid=getattr(self.cluster.postmaster(), "pid", None))
            return
        health = database_health(self.plan.database_url)
        if not health.healthy:
            raise DatabaseUnusable(f"The database in SPINOR_DATABASE_URL {health.sentence}.", part="postgres")
        if health.version_number < OLDEST_MAJOR * 10000:
            raise DatabaseUnusable(
                f"The database in SPINOR_DATABASE_URL is PostgreSQL {health.version}; "
                f"{OLDEST_MAJOR} or newer is needed.",
                part="postgres",
            )

    def _watch(self) -> None:
        while not self._told_to_stop:
            if self._root_now() != self._root:
                # Somebody removed the data directory, and may have made another service in its place.
                raise DataDirectoryGone
            self._keep_database()
            for part in self.parts:
                self._keep(part)
            if self.phase is Phase.STARTING:
                self._look_whether_ready()
            if time.monotonic() > self._next_hourly:
                self._do_hourly()
            self._pause(0.05 if self.phase is Phase.STARTING else 0.5)

    def _keep(self, part: RunningPart) -> None:
        if part.collect():
            self._say("part ended", part=part.part.name, exit=part.last_exit, deaths_in_a_row=part.deaths_in_a_row)
            moved = self.phase is Phase.STARTING and self._moved_from_taken_port(part)
            if self.phase is Phase.STARTING and not moved and part.deaths_in_a_row >= _DEATHS_AT_START:
                raise PartFailed(f"The {part.part.name} ends as soon as it is started.", part=part.part.name)
            self._record()
        if part.is_due:
            part.restarts += part.last_exit is not None
            part.start(self._environment())
            self._say("part started", part=part.part.name, pid=part.pid)
            self._record()

    def _moved_from_taken_port(self, part: RunningPart) -> bool:
        """Between our look at the port and the server's use of it, another service may have come first."""
        if part.part.name != "server" or ports.is_free(self.port):
            return False
        taken, self.port = self.port, ports.free_port(self.port + 1)
        self._say("port was taken", taken=taken, port=self.port)
        for other in self.parts:
            other.stop()  # They know the old address from their environment.
        self._run_bootstrap()  # It tells the client of whoever started this where the service is.
        return True

    def _keep_database(self) -> None:
        if self.cluster is None or self.cluster.is_running or time.monotonic() < self._next_database_try:
            return
        self._say("database ended; starting it again")
        try:
            self.cluster.start()
            self._database_pause_s = 0.0
        except (SpinorError, OSError) as error:
            self._say("database did not start", reason=str(error))
            self._database_pause_s = min(LONGEST_PAUSE_S, max(0.2, self._database_pause_s * 2))
        self._next_database_try = time.monotonic() + self._database_pause_s

    def _look_whether_ready(self) -> None:
        health = server_health(self.port, self.layout.ca, timeout_s=2.0)
        if health.healthy:
            self.phase = Phase.UP
            self._say("up", url=self._url)
            self._record()
        elif time.monotonic() > self._ready_deadline:
            raise PartFailed(
                f"The server was not healthy after {READY_WITHIN_S:.0f} s ({health.sentence}).", part="server"
            )

    def _do_hourly(self) -> None:
        self._next_hourly = time.monotonic() + _HOUR_S
        try:
            for name in ("supervisor", "postgres", *(part.part.name for part in self.parts)):
                trim_log(self.layout.log(name))
            if ensure_certificates(self.layout):
                self._say("new host certificate; the server takes it up by itself")
        except (SpinorError, OSError) as error:
            self._say("hourly care failed", reason=str(error))

    def _end(self, failure: SpinorError | None) -> None:
        self._say("stopping", reason=failure.message if failure else "told to stop")
        self.phase = Phase.STOPPING
        self._record()
        for part in (self.bootstrap, *reversed(self.parts)):
            part.stop()
        if self.cluster is not None:
            self.cluster.stop()
        self.phase = Phase.FAILED if failure else Phase.STOPPED
        self._record(failure)

    def _root_now(self) -> tuple[int, int] | None:
        """Which directory is now at the place of ours; None when there is none."""
        try:
            found = self.layout.root.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    @property
    def _url(self) -> str:
        return f"https://localhost:{self.port}"

    def _environment(self) -> dict[str, str]:
        listen = f"127.0.0.1:{self.port}"
        return self.layout.environment(url=self._url, listen=listen, database_url=self.database_url)

    def _record(self, failure: SpinorError | None = None) -> None:
        state = State(
            run=self.plan.run,
            phase=self.phase,
            supervisor=processes.myself(),
            version=spinor.__version__,
            url=self._url,
            port=self.port,
            database_url=self.database_url,
            embedded_database=self.plan.database_url is None,
            parts=tuple(part.record() for part in (self.bootstrap, *self.parts)),
            failed_part=failure.facts.get("part", "supervisor") if failure else None,
            failure=failure.message if failure else None,
        )
        if self._root_now() != self._root:
            return
        try:
            write_state(self.layout, state)
        except OSError as error:
            # A full disk must not end a service that runs.
            self._say("state not written", reason=str(error))

    def _say(self, event: str, **facts: Any) -> None:
        line = msgspec.json.encode({"at": datetime.now(UTC), "level": "info", "event": event, **facts})
        try:
            sys.stderr.write(line.decode() + "\n")
            sys.stderr.flush()
        except OSError:
            return  # The log's disk is full or the terminal is gone, and neither is a reason to stop.

    def _catch_signals(self) -> dict[int, Any]:
        self._wakened.setblocking(False)
        self._waker.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)

        def stop(_number: int, _frame: FrameType | None) -> None:
            self._told_to_stop = True

        def wake(_number: int, _frame: FrameType | None) -> None:
            """A child ended; the wake-up descriptor has already done what is needed."""

        actions = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: stop, signal.SIGCHLD: wake}
        return {number: signal.signal(number, action) for number, action in actions.items()}

    def _pause(self, seconds: float) -> None:
        if select.select([self._wakened], [], [], seconds)[0]:
            self._wakened.recv(4096)


def clear_survivors(layout: Layout, previous: State | None, plan: Plan) -> int:
    """End the server, worker and bootstrap that a killed supervisor left: the recorded ones, and any that it had no
    time to record. Returns how many there were."""
    found = [alive for _, alive in survivors(layout, [plan.bootstrap, *plan.parts])]
    recorded = [part.process for part in reversed(previous.parts) if part.process] if previous else []
    leftovers = [alive for alive in dict.fromkeys([*recorded, *found]) if alive.is_alive]
    for leftover in leftovers:
        processes.stop(leftover)
    return len(leftovers)


def main() -> None:
    """Become a daemon: read the plan from standard input, leave the caller's session, and watch until told to stop."""
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    if os.fork():
        os._exit(0)
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    sys.exit(Supervisor(plan).run())


if __name__ == "__main__":
    main()
