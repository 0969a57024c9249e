"""How fast jobs are taken in, over HTTPS, by the whole service. No pilot takes part: the element has room for none."""

import time
from typing import Any

import msgspec

from bench.drive import drive
from bench.figures import Report
from bench.service import Service, operations

DIRACX = "DiracX 0.7.0 on SQLite (published figure, not this run)"
ONE_PEER_PER_S, BULK_PEER_PER_S = 25.0, 735.0
SECONDS = {"trial": 0.3, "small": 6.0, "full": 20.0}
ARRAYS = {"trial": 1, "small": 3, "full": 10}
BULK = 1000
ARRAY = 10_000

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


def measure(report: Report, service: Service, size: str) -> None:
    service.apply(operations(service, max_pilots=0))
    token = service.token()
    _one_per_call(report, service, token, SECONDS[size])
    _bulk(report, service, token, SECONDS[size])
    _array(report, service, token, ARRAYS[size])


def _one_per_call(report: Report, service: Service, token: str, seconds: float) -> None:
    body = [msgspec.json.encode({"specs": [SPEC]})]
    for clients in (1, 4):
        before = service.used_s()
        driven = drive(lambda: service.wire(token), "/api/jobs", body, clients=clients, seconds=seconds)
        name = f"one job per call, {clients} client{'s' if clients > 1 else ''}"
        peer = (DIRACX, ONE_PEER_PER_S) if clients == 1 else (None, None)
        report.figure(f"{name}: jobs per second", driven.per_s, "1/s", *peer)
        report.figure(f"{name}: median of a call", driven.ms(50), "ms")
        report.figure(f"{name}: 99th percentile of a call", driven.ms(99), "ms")
        used = [(after - start) * 1000 / driven.requests for start, after in zip(before, service.used_s(), strict=True)]
        report.figure(f"{name}: server's processor time per job", used[0], "ms")
        report.figure(f"{name}: PostgreSQL's processor time per job", used[1], "ms")


def _bulk(report: Report, service: Service, token: str, seconds: float) -> None:
    specs = [{**SPEC, "arguments": ["simulate.py", "--seed", str(n)]} for n in range(BULK)]
    body = [msgspec.json.encode({"specs": specs})]
    for clients in (1, 4):
        driven = drive(lambda: service.wire(token), "/api/jobs", body, clients=clients, seconds=seconds, at_least=3)
        name = f"1,000 jobs per call, {clients} client{'s' if clients > 1 else ''}"
        peer = (DIRACX, BULK_PEER_PER_S) if clients == 1 else (None, None)
        report.figure(f"{name}: jobs per second", driven.per_s * BULK, "1/s", *peer)
        report.figure(f"{name}: median of a call", driven.ms(50), "ms")


def _array(report: Report, service: Service, token: str, calls: int) -> None:
    spec = {**SPEC, "arguments": ["simulate.py", "--seed", "{seed}"], "parameters": {"seed": list(range(ARRAY))}}
    body = msgspec.json.encode({"specs": [spec]})
    times = []
    with service.wire(token) as wire:
        for _ in range(calls):
            started = time.perf_counter()
            wire.post("/api/jobs", body)
            times.append(time.perf_counter() - started)
    best = sorted(times)[len(times) // 2]
    report.figure("an array of 10,000 in one call and transaction: median of a call", best, "s")
    report.figure("an array of 10,000 in one call and transaction: jobs per second", ARRAY / best, "1/s")
