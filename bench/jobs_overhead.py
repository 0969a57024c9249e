"""What Spinor adds to a job: an empty one from submission to done on a warm pilot, and many through one host.

The peer is the bare process: the same program, started and waited for by its parent. The processor time of many short
jobs is told by who used it: that, and not the clock of a busy machine, says how many of them a host can run.
"""

import subprocess
import time
from pathlib import Path
from typing import Any

import msgspec

from bench import processor
from bench.figures import Report, median, percentile
from bench.service import Service, operations

SINGLE = {"trial": 2, "small": 10, "full": 40}
MANY = {"trial": 10, "small": 500, "full": 3000}
PATIENCE_S = 300.0


class NotDone(Exception):
    """The jobs of the measurement did not come to a good end."""


def measure(report: Report, service: Service, size: str) -> None:
    service.apply(operations(service, max_pilots=1))
    with service.wire(service.token()) as wire:
        _run(wire, 1)  # The pilot is there from now on, and asks for more.
        bare = []
        for _ in range(20):
            started = time.perf_counter()
            subprocess.run(["true"], check=True)
            bare.append((time.perf_counter() - started) * 1000)
        times = [_run(wire, 1) * 1000 for _ in range(SINGLE[size])]
        report.figure("an empty job, submit to done: median", median(times), "ms", "the bare process", median(bare))
        report.figure("an empty job, submit to done: 90th percentile", percentile(times, 90), "ms")
        many = MANY[size]
        pilot, guardian = _pilot(service)
        before = _used_s(service, pilot, guardian)
        report.figure(f"{many:,} empty jobs through one pilot of 2 cores", many / _run(wire, many), "1/s")
        after = _used_s(service, pilot, guardian)
        if _pilot(service) != (pilot, guardian):
            raise NotDone("the jobs did not all run on one pilot")
        for who, used_s in after.items():
            report.figure(f"of {who}, for each of these jobs", (used_s - before[who]) / many * 1000, "ms")
        total_s = sum(after.values()) - sum(before.values())
        report.figure("of all together, for each of these jobs", total_s / many * 1000, "ms")


def _pilot(service: Service) -> tuple[int, int]:
    """The process of the only pilot, and of its guardian."""
    for shell in processor.pids():
        for pilot in processor.children(shell) if _works_below(shell, service.layout.root / "computing") else []:
            for guardian in processor.children(pilot):
                return pilot, guardian
    raise NotDone("there is no pilot")


def _works_below(pid: int, directory: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").readlink().is_relative_to(directory)
    except OSError:
        return False


def _used_s(service: Service, pilot: int, guardian: int) -> dict[str, float]:
    """Processor time so far. A guardian waits for all that its payloads were."""
    server, database = service.used_s()
    return {
        "the server": server,
        "PostgreSQL": database,
        "the worker": processor.used_s([service.pid_of("worker")]),
        "the pilot": processor.used_s([pilot]),
        "its guardian": processor.used_s([guardian]),
        "the payloads and their walls": processor.reaped_s(guardian),
    }


def _run(wire: Any, count: int) -> float:
    """Submit an array, wait until it has ended well; the seconds that took."""
    spec = {"executable": "true", "memory_bytes": 10_000_000, "disk_bytes": 0, "parameters": {"n": list(range(count))}}
    started = time.perf_counter()
    submitted = msgspec.json.decode(wire.post("/api/jobs", msgspec.json.encode({"specs": [spec]})))
    asked = {"array_ids": [submitted["arrays"][0]["array_id"]], "wait_s": 20}
    while time.perf_counter() - started < PATIENCE_S:
        waited = msgspec.json.decode(wire.post("/api/jobs/wait", msgspec.json.encode(asked)))
        if waited["all_ended"]:
            if waited["counts"] != {"done": count}:
                raise NotDone(f"the jobs ended as {waited['counts']}")
            return time.perf_counter() - started
    raise NotDone(f"{count} jobs had not ended after {PATIENCE_S:.0f} s")
