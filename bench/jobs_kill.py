"""How soon things are known: a kill to its payload, a change of state to whoever looks, a dead pilot to everybody."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from bench.figures import Report, median
from bench.service import Service, operations

T = TypeVar("T")
TIMES = {"trial": 1, "small": 5, "full": 20}
DEATHS = {"trial": 1, "small": 1, "full": 5}
DIRAC_KILL_S, DIRAC_DEAD_S = 1800.0, 3 * 3600.0
DIRAC = "DIRAC (from its defaults, not measured)"
PATIENCE_S = 240.0


class NotSeen(Exception):
    """What was waited for did not happen."""


def measure(report: Report, service: Service, size: str) -> None:
    service.apply(operations(service, max_pilots=2))
    with service.wire(service.token()) as wire:
        reached, visible = [], []
        for _ in range(TIMES[size]):
            job_id = _submit(wire)
            began_at, payload = _running(wire, job_id)
            visible.append(time.time() - began_at)
            started = time.perf_counter()
            wire.post("/api/jobs/kill", msgspec.json.encode({"job_ids": [job_id]}))
            _until(lambda payload=payload: _gone(payload))  # type: ignore[misc]
            reached.append(time.perf_counter() - started)
        report.figure("a kill reaches the payload: median", median(reached), "s", DIRAC, DIRAC_KILL_S)
        report.figure("a kill reaches the payload: slowest", max(reached), "s")
        report.figure("a payload's start is seen in its log: median", median(visible), "s")
        noticed = [_death(wire) for _ in range(DEATHS[size])]
        report.figure(
            "a dead pilot is noticed, and its job waits again: slowest", max(noticed), "s", DIRAC, DIRAC_DEAD_S
        )


def _submit(wire: Any) -> int:
    spec = {
        "executable": "sh",
        "arguments": ["-c", "echo $(date +%s.%N) $$; while :; do sleep 0.05; done"],
        "memory_bytes": 10_000_000,
        "disk_bytes": 0,
    }
    answer = msgspec.json.decode(wire.post("/api/jobs", msgspec.json.encode({"specs": [spec]})))
    return int(answer["arrays"][0]["job_ids"][0][0])


def _running(wire: Any, job_id: int) -> tuple[float, int]:
    """When the payload began by its own clock, and its process."""

    def line() -> bytes:
        text: bytes = wire.get(f"/api/jobs/{job_id}/log?wait_s=5")
        return text if text.endswith(b"\n") else b""

    began_at, pid = _until(line).split()
    return float(began_at), int(pid)


def _death(wire: Any) -> float:
    """Kill a pilot as a node that loses power would: it, its guardian and its payload, all at once."""
    job_id = _submit(wire)
    _, payload = _running(wire, job_id)
    guardian = _parent(payload)
    while "spinor" in _command(_parent(guardian)):
        guardian = _parent(guardian)
    for pid in (_parent(payload), guardian, payload):
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


def _parent(pid: int) -> int:
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        return int(file.read().rpartition(")")[2].split()[1])


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def _until(look: Callable[[], T]) -> T:
    end = time.perf_counter() + PATIENCE_S
    while time.perf_counter() < end:
        found = look()
        if found:
            return found
        time.sleep(0.01)
    raise NotSeen(f"it did not happen within {PATIENCE_S:.0f} s")
