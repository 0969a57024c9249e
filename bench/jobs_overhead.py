"""What Spinor adds to a job: an empty one from submission to done on a warm pilot, and many through one host.

The peer is the bare process: the same program, started and waited for by its parent.
"""

import subprocess
import time
from typing import Any

import msgspec

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
        report.figure(f"{many:,} empty jobs through one pilot of 2 cores", many / _run(wire, many), "1/s")


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
