"""The verbs of one machine's service: up, stay_up (in the foreground), down, status."""

import fcntl
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

import msgspec

import spinor
from spinor.embedded import ports, processes
from spinor.embedded.health import database_health, server_health
from spinor.embedded.layout import Layout, last_lines, layout, open_log
from spinor.embedded.parts import SPINOR, Plan, make_plan
from spinor.embedded.postgres import Cluster
from spinor.embedded.state import Phase, State, read_state
from spinor.embedded.supervisor import Supervisor, clear_survivors
from spinor.errors import SpinorError

# Making the database, migrations and the 60 s that the supervisor itself gives to the server.
_UP_WITHIN_S = 300.0
_DOWN_WITHIN_S = 90.0

DataDir = str | os.PathLike[str] | None


class NotStarted(SpinorError):
    """Spinor did not start."""

    code = "not-started"


class AlreadyUp(SpinorError):
    """Spinor is already up on this data directory."""

    status, code = 409, "already-up"


class NotStopped(SpinorError):
    """Spinor did not stop."""

    code = "not-stopped"


class Running(msgspec.Struct, frozen=True, kw_only=True):
    url: str
    port: int
    data_dir: str
    ca_file: str
    was_up: bool  # It was up before this call.


class Health(StrEnum):
    HEALTHY = "healthy"
    STARTING = "starting"
    UNHEALTHY = "unhealthy"
    DOWN = "down"


class PartStatus(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    health: Health
    pid: int | None
    version: str | None
    uptime_s: float | None
    restarts: int
    log: str | None
    detail: str


def up(data_dir: DataDir = None, *, port: int | None = None, program: tuple[str, ...] = SPINOR) -> Running:
    """Start everything in the background and wait until the server is healthy. Up already is a success."""
    place = layout(data_dir)
    place.make()
    deadline = time.monotonic() + _UP_WITHIN_S
    while True:
        with _lock(place) as held:
            if held is not None:
                plan = _plan(place, port, program)
                _launch(place, plan, held)
                break
        state = read_state(place)
        if state and state.phase is Phase.UP and state.is_supervised:
            return _running(place, state, was_up=True)
        if time.monotonic() > deadline:
            raise NotStarted(f"Another `spinor up` on {place.root} does not come to an end; see {place.logs}.")
        time.sleep(0.05)
    return _await_ready(place, plan, deadline)


def stay_up(data_dir: DataDir = None, *, port: int | None = None, program: tuple[str, ...] = SPINOR) -> int:
    """Be the supervisor in this process, until a signal to stop. Returns the exit code."""
    place = layout(data_dir)
    place.make()
    with _lock(place) as held:
        if held is None:
            raise AlreadyUp(f"Spinor is already up on {place.root}; stop it first with `spinor down`.")
        plan = _plan(place, port, program)
        code = Supervisor(plan).run()
    state = read_state(place)
    if code and state and state.failure:
        raise _not_started(place, state)
    return code


def down(data_dir: DataDir = None, *, program: tuple[str, ...] = SPINOR) -> bool:
    """Stop worker, server and database, in this order, also when their supervisor was killed. False: nothing was up."""
    place = layout(data_dir)
    if not place.root.exists():
        return False
    deadline = time.monotonic() + _DOWN_WITHIN_S
    was_supervised = False
    while time.monotonic() < deadline:
        with _lock(place) as held:
            if held is not None:
                return _stop_survivors(place, program) or was_supervised
        state = read_state(place)
        if state and state.is_supervised:
            was_supervised = True
            processes.stop(state.supervisor, _DOWN_WITHIN_S - 10.0)
        time.sleep(0.02)
    raise NotStopped(
        f"Spinor on {place.root} did not stop within {_DOWN_WITHIN_S:.0f} s; see {place.log('supervisor')}."
    )


def erase(data_dir: str | os.PathLike[str], *, program: tuple[str, ...] = SPINOR) -> None:
    """Stop everything and remove all data of this data directory for good; for trials in temporary directories."""
    down(data_dir, program=program)
    place = layout(data_dir)
    Cluster(place).erase()
    place.erase()


def status(data_dir: DataDir = None) -> list[PartStatus]:
    """Each part as it is now, asked of the part itself. Empty when nothing was ever up here."""
    place = layout(data_dir)
    state = read_state(place)
    if state is None:
        return []
    return [_supervisor_status(place, state), _database_status(place, state), *_part_statuses(place, state)]


def _plan(place: Layout, port: int | None, program: tuple[str, ...]) -> Plan:
    before = read_state(place)
    wished = port or (before.port if before else ports.PREFERRED)
    external = os.environ.get("SPINOR_DATABASE_URL", "").strip() or None
    return make_plan(secrets.token_hex(8), place, wished, external, program)


@contextmanager
def _lock(place: Layout) -> Iterator[int | None]:
    """The lock that a supervisor holds while it lives; None when somebody has it. The kernel frees it on any death."""
    descriptor = os.open(place.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield descriptor
    finally:
        os.close(descriptor)


def _launch(place: Layout, plan: Plan, lock: int) -> None:
    """The daemon inherits the lock's descriptor, so that the lock passes to it without a moment in which it is free."""
    log = open_log(place.log("supervisor"))
    try:
        answer = subprocess.run(
            [sys.executable, "-P", "-m", "spinor.embedded.supervisor"],
            input=msgspec.json.encode(plan),
            stdout=log,
            stderr=log,
            pass_fds=(lock,),
            start_new_session=True,
            check=False,
        )
    finally:
        os.close(log)
    if answer.returncode != 0:
        raise _death(place)


def _await_ready(place: Layout, plan: Plan, deadline: float) -> Running:
    while time.monotonic() < deadline:
        state = read_state(place)
        ours = state if state and state.run == plan.run else None
        if ours and ours.phase is Phase.UP:
            return _running(place, ours, was_up=False)
        if ours and ours.phase is Phase.FAILED:
            processes.wait_until_gone(ours.supervisor, 5.0)  # It has only to exit, and a new start needs its lock.
            raise _not_started(place, ours)
        if ours and ours.phase is Phase.STOPPED:
            raise NotStarted(f"Spinor was stopped while it started; see {place.log('supervisor')}.")
        with _lock(place) as held:
            # A free lock means that the supervisor is gone; its last word is what counts, so it is read once more.
            if held is not None and (ours is None or not ours.is_supervised):
                last = read_state(place)
                if last is None or last.run != plan.run or last.phase in (Phase.STARTING, Phase.STOPPING):
                    raise _death(place)
        time.sleep(0.02)
    raise NotStarted(f"Spinor was not ready after {_UP_WITHIN_S:.0f} s; see {place.logs}.")


def _not_started(place: Layout, state: State) -> NotStarted:
    log = place.log(state.failed_part or "supervisor")
    lines = last_lines(log)
    return NotStarted("\n".join([f"{state.failure} The end of {log}:", *lines]), part=state.failed_part, log=str(log))


def _death(place: Layout) -> NotStarted:
    log = place.log("supervisor")
    return NotStarted("\n".join([f"The supervisor died. The end of {log}:", *last_lines(log, 5)]))


def _running(place: Layout, state: State, was_up: bool) -> Running:
    return Running(url=state.url, port=state.port, data_dir=str(place.root), ca_file=str(place.ca), was_up=was_up)


def _stop_survivors(place: Layout, program: tuple[str, ...]) -> bool:
    state = read_state(place)
    plan = _plan(place, None, program)
    stopped = clear_survivors(place, state, plan) > 0
    cluster = Cluster(place)
    if cluster.is_running:
        cluster.stop()
        stopped = True
    return stopped


def _supervisor_status(place: Layout, state: State) -> PartStatus:
    alive = state.is_supervised
    health = Health.DOWN
    if alive:
        health = Health.HEALTHY if state.phase is Phase.UP else Health.STARTING
    detail = state.phase.value if alive else (state.failure or "not running").splitlines()[0]
    return PartStatus(
        name="supervisor",
        health=health,
        pid=state.supervisor.pid if alive else None,
        version=state.version,
        uptime_s=state.supervisor.uptime_s if alive else None,
        restarts=0,
        log=str(place.log("supervisor")),
        detail=detail,
    )


def _database_status(place: Layout, state: State) -> PartStatus:
    cluster = Cluster(place) if state.embedded_database else None
    server = cluster.postmaster() if cluster else None
    is_down = cluster is not None and server is None
    found = None if is_down else database_health(cluster.url() if cluster else state.database_url)
    health = Health.DOWN if found is None else Health.HEALTHY if found.healthy else Health.UNHEALTHY
    return PartStatus(
        name="postgres",
        health=health,
        pid=server.pid if server else None,
        version=found.version if found else None,
        uptime_s=server.uptime_s if server else None,
        restarts=0,
        log=str(cluster.log) if cluster else None,
        detail=("" if cluster else "external, ") + (found.sentence if found else "not running"),
    )


def _part_statuses(place: Layout, state: State) -> list[PartStatus]:
    statuses = []
    for part in state.parts:
        if part.name == "bootstrap":
            continue
        alive = part.process if part.process and part.process.is_alive else None
        health, version = (Health.HEALTHY if alive else Health.DOWN), spinor.__version__
        detail = "running" if alive else "not running"
        if alive and part.name == "server":
            answer = server_health(state.port, place.ca)
            version = answer.version or version
            health, detail = (Health.HEALTHY if answer.healthy else Health.UNHEALTHY), answer.sentence
        if part.last_exit is not None:
            detail += f", last exit {part.last_exit}"
        statuses.append(
            PartStatus(
                name=part.name,
                health=health,
                pid=alive.pid if alive else None,
                version=version if alive else None,
                uptime_s=alive.uptime_s if alive else None,
                restarts=part.restarts,
                log=str(Path(place.log(part.name))),
                detail=detail,
            )
        )
    return statuses
