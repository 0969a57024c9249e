"""How fast jobs are taken in, over HTTPS, by the whole service. No pilot takes part: the element has room for none.

The peer is DiracX on SQLite over plain HTTP, asked by the same client in the same run, before Spinor is.
"""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from bench import peers
from bench.drive import drive
from bench.figures import Report
from bench.service import Service, operations

MEASURED = "DiracX 0.7.0 on SQLite, in this run"
PUBLISHED = "DiracX 0.7.0 on SQLite (published figure, not this run)"
# For runs without the peer.
PUBLISHED_PER_S = {"one_1_per_s": 25.0, "one_16_per_s": 24.3, "bulk_per_s": 735.0}
CLIENTS = (1, 4, 16)
SECONDS = {"trial": 0.3, "small": 6.0, "full": 20.0}
BULK = 1000
BULK_CALLS = {"trial": 1, "small": 3, "full": 3}  # At least so many by each client.
# Jobs of an array -> how many calls.
ARRAYS = {"trial": {10_000: 1}, "small": {10_000: 3}, "full": {10_000: 10, 1_000_000: 3}}

SPEC: dict[str, Any] = {
    "name": "simulate",
    "executable": "python3",
    "arguments": ["simulate.py", "--events", "1000", "--seed", "17"],
    "environment": {"OMP_NUM_THREADS": "1"},
    "output_sandbox": ["*.log"],
    "cores": 1,
    "memory_bytes": 2_000_000_000,
    "wall_s": 7200,
    "priority": 5,
}


class Peer(NamedTuple):
    """DiracX's figures, and whose word they are."""

    name: str
    figures: Mapping[str, float]

    def of(self, figure: str) -> tuple[str, float] | tuple[None, None]:
        return (self.name, self.figures[figure]) if figure in self.figures else (None, None)


def measure(report: Report, service: Service, size: str) -> None:
    found = peers.figures("diracx", size)
    peer = Peer(PUBLISHED, PUBLISHED_PER_S) if found is None else Peer(MEASURED, found)
    if found is not None:
        for clients in (1, 16):
            share = found[f"one_{clients}_refused_percent"]
            report.figure(f"{_clients('DiracX, one job per call', clients)}: calls that failed", share, "%")
    service.apply(operations(service, max_pilots=0))
    token = service.token()
    _one_per_call(report, service, token, SECONDS[size], peer)
    _bulk(report, service, token, size, peer)
    for jobs, calls in ARRAYS[size].items():
        _array(report, service, token, jobs, calls)


def _clients(what: str, clients: int) -> str:
    return f"{what}, {clients} client{'s' if clients > 1 else ''}"


def _one_per_call(report: Report, service: Service, token: str, seconds: float, peer: Peer) -> None:
    body = [msgspec.json.encode({"specs": [SPEC]})]
    for clients in CLIENTS:
        before = service.used_s()
        driven = drive(lambda: service.wire(token), "/api/jobs", body, clients=clients, seconds=seconds)
        name, theirs = _clients("one job per call", clients), f"one_{clients}"
        report.figure(f"{name}: jobs per second", driven.per_s, "1/s", *peer.of(f"{theirs}_per_s"))
        report.figure(f"{name}: median of a call", driven.ms(50), "ms", *peer.of(f"{theirs}_ms"))
        report.figure(f"{name}: 99th percentile of a call", driven.ms(99), "ms", *peer.of(f"{theirs}_p99_ms"))
        used = [(after - start) * 1000 / driven.requests for start, after in zip(before, service.used_s(), strict=True)]
        report.figure(f"{name}: server's processor time per job", used[0], "ms")
        report.figure(f"{name}: PostgreSQL's processor time per job", used[1], "ms")


def _bulk(report: Report, service: Service, token: str, size: str, peer: Peer) -> None:
    specs = [{**SPEC, "arguments": ["simulate.py", "--seed", str(n)]} for n in range(BULK)]
    body = [msgspec.json.encode({"specs": specs})]
    for clients in CLIENTS:
        driven = drive(
            lambda: service.wire(token), "/api/jobs", body, clients=clients, seconds=SECONDS[size],
            at_least=BULK_CALLS[size],
        )  # fmt: skip
        name = _clients("1,000 jobs per call", clients)
        rate, median = (peer.of("bulk_per_s"), peer.of("bulk_ms")) if clients == 1 else ((None, None), (None, None))
        report.figure(f"{name}: jobs per second", driven.per_s * BULK, "1/s", *rate)
        report.figure(f"{name}: median of a call", driven.ms(50), "ms", *median)


def _array(report: Report, service: Service, token: str, jobs: int, calls: int) -> None:
    spec = {**SPEC, "arguments": ["simulate.py", "--seed", "{seed}"], "parameters": {"seed": list(range(jobs))}}
    body = msgspec.json.encode({"specs": [spec]})
    times = []
    with service.wire(token) as wire:
        for _ in range(calls):
            started = time.perf_counter()
            wire.post("/api/jobs", body)
            times.append(time.perf_counter() - started)
    middle = sorted(times)[len(times) // 2]
    name = f"an array of {jobs:,} in one call and transaction"
    report.figure(f"{name}: median of a call", middle, "s")
    report.figure(f"{name}: jobs per second", jobs / middle, "1/s")
