"""Faults: which, when and whom, from a seed. Every process that is touched belongs to the one service under trial."""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psycopg

from bench import processor
from bench.service import CommandFailed, Service
from spinor.embedded import processes
from spinor.embedded.processes import Process
from spinor.jobs.rules import LEASE_S

PAUSES_S = (0.5, 3.0)
ZOMBIE_S = LEASE_S + 8.0  # Longer than a lease, and than the look that finds it over.
# How often each kind is drawn, compared with the others.
WEIGHTS = {
    "kill server": 3,
    "kill worker": 3,
    "kill pilot": 4,
    "kill payload": 3,
    "kill guardian": 1,
    "kill wrapper": 1,
    "stop pilot": 2,
    "end session": 4,
    "kill backend": 1,
    "kill postmaster": 1,
    "kill supervisor": 1,
}


class Faults(threading.Thread):
    """Strikes until told to stop. `made` counts those that had a target."""

    def __init__(
        self, service: Service, seed: int, most_zombies: int, stop: threading.Event, say: Callable[[str], None]
    ) -> None:
        super().__init__(name="faults", daemon=True)
        self.service = service
        self.most_zombies = most_zombies  # At a time: somebody has to work.
        self.random = random.Random(f"{seed} faults")
        self.stopping = stop
        self.say = say
        self.made: Counter[str] = Counter()
        self.weights = dict(WEIGHTS)
        self._stopped: list[tuple[Process, float]] = []
        self._began = time.monotonic()
        self._root = service.layout.root

    def run(self) -> None:
        # A zombie lives longer than a lease, so the first one is made as soon as there is a pilot to make it of.
        while not self.stopping.is_set() and not self._strike("stop pilot"):
            self.stopping.wait(0.2)
        while not self.stopping.wait(self.random.uniform(*PAUSES_S)):
            self._wake(time.monotonic() - ZOMBIE_S)
            self._strike(self.random.choices(list(self.weights), list(self.weights.values()))[0])

    def _strike(self, kind: str) -> bool:
        struck = getattr(self, f"_{kind.replace(' ', '_')}")()
        if struck:
            self.made[kind] += 1
            self.say(f"{time.monotonic() - self._began:6.1f} s  {kind}: {struck}")
        return bool(struck)

    def end(self) -> None:
        """Wait until the zombies have lost their leases, wake them, and see that the service is supervised."""
        for _, since in list(self._stopped):
            time.sleep(max(0.0, since + ZOMBIE_S - time.monotonic()))
            self._wake(since)
        self._up()

    def _wake(self, stopped_before: float) -> None:
        """Let the pilots go on that were stopped so long ago."""
        for stopped in [each for each in self._stopped if each[1] <= stopped_before]:
            self._stopped.remove(stopped)
            if stopped[0].is_alive:
                os.kill(stopped[0].pid, signal.SIGCONT)
                self.say(f"{time.monotonic() - self._began:6.1f} s  wake pilot: process {stopped[0].pid}")

    # -------------------------------------------------------------------------------------------- the kinds of faults

    def _kill_server(self) -> str:
        return self._kill_part("server")

    def _kill_worker(self) -> str:
        return self._kill_part("worker")

    def _kill_part(self, name: str) -> str:
        part = self.service.state.part(name)
        return self._kill([part.process] if part and part.process else [])

    def _kill_pilot(self) -> str:
        return self._kill(self._pilots()["pilot"])

    def _kill_guardian(self) -> str:
        return self._kill(self._pilots()["guardian"])

    def _kill_wrapper(self) -> str:
        return self._kill(self._pilots()["wrapper"])

    def _kill_payload(self) -> str:
        return self._kill(self._pilots()["payload"])

    def _stop_pilot(self) -> str:
        """Freeze a pilot that holds jobs; its payloads run on."""
        holding, stopped = self._holding(), [process for process, _ in self._stopped]
        pilots = [each for each in self._pilots()["pilot"] if self._home(each.pid) in holding and each not in stopped]
        if not pilots or len(stopped) >= self.most_zombies:
            return ""
        chosen = self.random.choice(pilots)
        os.kill(chosen.pid, signal.SIGSTOP)
        self._stopped.append((chosen, time.monotonic()))
        return f"process {chosen.pid} of {self._home(chosen.pid)}"

    def _end_session(self) -> str:
        try:
            with self.service.connect() as conn:
                rows = conn.execute(
                    "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
                ).fetchall()
                if not rows:
                    return ""
                pid = self.random.choice(sorted(int(str(row[0])) for row in rows))
                conn.execute("SELECT pg_terminate_backend(%s)", (pid,))
                return f"process {pid}"
        except psycopg.Error:
            return ""  # The database is just coming back from another fault.

    def _kill_backend(self) -> str:
        """PostgreSQL then ends all its sessions and recovers."""
        server = self._postmaster()
        sessions = [pid for pid in processor.children(server.pid) if _is_session(pid)] if server else []
        return self._kill([found for pid in sessions if (found := processes.process(pid))])

    def _kill_postmaster(self) -> str:
        server = self._postmaster()
        return self._kill([server] if server else [])

    def _kill_supervisor(self) -> str:
        """Whoever runs the service starts it again, as an init system would."""
        struck = self._kill([self.service.state.supervisor])
        self._up()
        return struck

    # ---------------------------------------------------------------------------------------------------- the targets

    def _kill(self, candidates: list[Process]) -> str:
        living = sorted((each for each in candidates if each.is_alive), key=lambda each: each.pid)
        if not living:
            return ""
        chosen = self.random.choice(living)
        try:
            os.kill(chosen.pid, signal.SIGKILL)
        except ProcessLookupError:
            return ""
        return f"process {chosen.pid}"

    def _pilots(self) -> dict[str, list[Process]]:
        """The processes of the local computing element by what they are."""
        found: dict[str, list[Process]] = {"pilot": [], "guardian": [], "wrapper": [], "payload": []}
        for pid in processes.pids():
            process = processes.process(pid)
            if process is not None and self._home(pid):
                found[_role(pid)].append(process)
        return found

    def _home(self, pid: int) -> str:
        """The pilot's directory in which a process works; empty for any other process of this machine."""
        try:
            place = Path(f"/proc/{pid}/cwd").readlink()
        except OSError:
            return ""
        computing = self._root / "computing"
        return place.relative_to(computing).parts[0] if place.is_relative_to(computing) and place != computing else ""

    def _holding(self) -> set[str]:
        """The directories of pilots that hold jobs."""
        try:
            with self.service.connect() as conn:
                rows = conn.execute("SELECT DISTINCT pilot_id FROM jobs.running").fetchall()
        except psycopg.Error:
            return set()
        return {f"pilot-{row[0]}" for row in rows}

    def _postmaster(self) -> Process | None:
        from spinor.embedded.postgres import Cluster

        return Cluster(self.service.layout).postmaster()

    def _up(self) -> None:
        for _ in range(5):
            try:
                self.service.spinor("up", "--data", str(self._root))
                return
            except CommandFailed as error:
                problem = str(error)
        raise CommandFailed(problem)


def _role(pid: int) -> str:
    words = processes.arguments(pid)
    if words[:2] == ["/bin/sh", "-c"] and "spinor-pilot" in words:
        return "wrapper"
    if words[-1:] == ["launch.json"]:
        parent = processes.arguments(_parent(pid))
        return "guardian" if parent[-1:] == ["launch.json"] and parent[:1] == words[:1] else "pilot"
    return "payload"


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _is_session(pid: int) -> bool:
    title = " ".join(processes.arguments(pid))
    return title.startswith("postgres: ") and " spinor spinor " in title
