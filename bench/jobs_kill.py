"""How soon things are known: a kill to its payload, a change of state to whoever looks, a dead pilot to everybody."""

import contextlib
import os
import secrets
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from bench.figures import Report, median
from bench.service import Service, operations
from spinor.embedded import processes

T = TypeVar("T")
TIMES = {"trial": 1, "small": 5, "full": 20}
DEATHS = {"trial": 1, "small": 1, "full": 5}
DIRAC_KILL_S, DIRAC_DEAD_S = 1800.0, 3 * 3600.0
DIRAC = "DIRAC (from its defaults, not measured)"
PATIENCE_S = 240.0
_PILOT = "launch.json"  # In the command line of a pilot and its guardian.


class NotSeen(Exception):
    """What was waited for did not happen."""


def measure(report: Report, service: Service, size: str) -> None:
    service.apply(operations(service, max_pilots=2))
    with service.wire(service.token()) as wire:
        reached, visible, running = [], [], []
        for _ in range(TIMES[size]):
            job_id, mark = _submit(wire)
            began_at = _told_at(wire, job_id)
            visible.append(time.time() - began_at)
            _until(lambda job_id=job_id: _status(wire, job_id) == "running")  # type: ignore[misc]
            running.append(time.time() - began_at)
            assert _marked(mark)
            started = time.perf_counter()
            wire.post("/api/jobs/kill", msgspec.json.encode({"job_ids": [job_id]}))
            _until(lambda mark=mark: not _marked(mark))  # type: ignore[misc]
            reached.append(time.perf_counter() - started)
        report.figure("a kill reaches the payload: median", median(reached), "s", DIRAC, DIRAC_KILL_S)
        report.figure("a kill reaches the payload: slowest", max(reached), "s")
        report.figure("a payload's start is seen in its log: median", median(visible), "s")
        report.figure("a payload's start is seen in its job's status: slowest", max(running), "s")
        done = [_end_seen_after_s(wire) for _ in range(TIMES[size])]
        report.figure("a payload's end is seen in its job's status: median", median(done), "s")
        report.figure("a payload's end is seen in its job's status: slowest", max(done), "s")
        noticed = [_death(wire) for _ in range(DEATHS[size])]
        name = "a dead pilot is noticed, and its job waits again: slowest"
        report.figure(name, max(noticed), "s", DIRAC, DIRAC_DEAD_S)


def _submit(wire: Any) -> tuple[int, str]:
    """A job that runs until it is killed, and a word in its command line; its process numbers are its own."""
    mark = f"mark-{secrets.token_hex(8)}"
    return _submitted(wire, f"date +%s.%N; while :; do sleep 0.05; done # {mark}"), mark


def _submitted(wire: Any, script: str) -> int:
    spec = {"executable": "sh", "arguments": ["-c", script], "memory_bytes": 10_000_000, "disk_bytes": 0}
    answer = msgspec.json.decode(wire.post("/api/jobs", msgspec.json.encode({"specs": [spec]})))
    return int(answer["arrays"][0]["job_ids"][0][0])


def _end_seen_after_s(wire: Any) -> float:
    """How long after a payload's last deed, by its own clock, its job is seen to be done."""
    job_id = _submitted(wire, "sleep 0.5; date +%s.%N")
    _until(lambda: _status(wire, job_id) == "done")
    seen_at = time.time()
    return seen_at - _told_at(wire, job_id)


def _status(wire: Any, job_id: int) -> str:
    return str(msgspec.json.decode(wire.get(f"/api/jobs/{job_id}"))["status"])


def _told_at(wire: Any, job_id: int) -> float:
    """The moment that the payload has written into its log."""

    def line() -> bytes:
        text: bytes = wire.get(f"/api/jobs/{job_id}/log?wait_s=5")
        return text if text.endswith(b"\n") else b""

    return float(_until(line))


def _death(wire: Any) -> float:
    """Kill a pilot as a node that loses power would: it, its guardian and its payload, all at once."""
    job_id, mark = _submit(wire)
    _told_at(wire, job_id)
    doomed = set(_marked(mark))
    for pid in list(doomed):
        parent = _parent(pid)
        while parent > 1 and _PILOT in _command(parent):
            doomed.add(parent)
            parent = _parent(parent)
    for pid in doomed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    started = time.perf_counter()
    _until(lambda: _attempt_over(wire, job_id))
    noticed = time.perf_counter() - started
    wire.post("/api/jobs/kill", msgspec.json.encode({"job_ids": [job_id]}))
    return noticed


def _attempt_over(wire: Any, job_id: int) -> bool:
    job = msgspec.json.decode(wire.get(f"/api/jobs/{job_id}"))
    return bool(job["status"] != "running" or job["attempt"] > 1)


def _marked(mark: str) -> list[int]:
    """The processes of a payload."""
    return [pid for pid in processes.pids() if mark in _command(pid) and _PILOT not in _command(pid)]


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _until(look: Callable[[], T]) -> T:
    end = time.perf_counter() + PATIENCE_S
    while time.perf_counter() < end:
        found = look()
        if found:
            return found
        time.sleep(0.01)
    raise NotSeen(f"it did not happen within {PATIENCE_S:.0f} s")
