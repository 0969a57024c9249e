"""Looking at a million jobs over HTTPS: the newest hundred, and how many there are of each kind.

The peers are DiracX's figures for the same questions on SQLite, as published; PostgreSQL's own time for a bare count of
the rows is measured here.
"""

import time
from typing import Any

import msgspec

from bench.figures import Report, percentile
from bench.service import Service, operations

JOBS = {"trial": 2_000, "small": 200_000, "full": 1_000_000}
ARRAY = 100_000
CALLS = {"trial": 3, "small": 50, "full": 200}
DIRACX = "DiracX on SQLite (published figure, not this run)"
NEWEST_MS, SUMMARY_MS = 479.0, 2528.0


def measure(report: Report, service: Service, size: str) -> None:
    service.apply(operations(service, max_pilots=0))
    total = JOBS[size]
    with service.wire(service.token()) as wire:
        _submit(wire, total)
        report.say(f"{total:,} jobs are there")
        with service.connect() as conn:
            _age(conn)
            conn.execute("VACUUM ANALYZE jobs.job")
            started = time.perf_counter()
            conn.execute("SELECT status, site_id, count(*) FROM jobs.job WHERE vo_id = 1 GROUP BY 1, 2").fetchall()
            bare_ms = (time.perf_counter() - started) * 1000
        for name, path, body, peer in (
            (f"newest 100 of {total:,}", "/api/jobs/search", {"limit": 100}, (DIRACX, NEWEST_MS)),
            ("newest 100 that failed", "/api/jobs/search", {"where": "status = failed", "limit": 100}, (None, None)),
            ("the page after", "/api/jobs/search", {"limit": 100, "after": None}, (None, None)),
            ("summary by status and owner", "/api/jobs/summary", {"by": ["status", "owner"]}, (DIRACX, SUMMARY_MS)),
            ("summary by status and site", "/api/jobs/summary", {"by": ["status", "site"]}, (DIRACX, SUMMARY_MS)),
            ("summary of one owner", "/api/jobs/summary", {"by": ["status"], "where": f"owner = {service.user()}"},
             ("a bare GROUP BY over the rows", bare_ms)),
        ):  # fmt: skip
            if "after" in body:
                body["after"] = msgspec.json.decode(wire.post(path, b'{"limit": 100}'))["next"]
            times = _times(wire, path, msgspec.json.encode(body), CALLS[size])
            report.figure(f"{name}: median", percentile(times, 50), "ms", *peer)
            report.figure(f"{name}: 99th percentile", percentile(times, 99), "ms")


def _submit(wire: Any, total: int) -> None:
    for start in range(0, total, ARRAY):
        spec = {
            "executable": "true",
            "name": f"scan-{start}",
            "cores": 1 + start // ARRAY % 4,
            "parameters": {"n": list(range(min(ARRAY, total - start)))},
        }
        wire.post("/api/jobs", msgspec.json.encode({"specs": [spec]}))


def _age(conn: Any) -> None:
    """As if most of them had been worked on: the states of a busy service, with counters that agree."""
    conn.execute(
        """WITH moved AS (
               UPDATE jobs.job SET ce_id = 1, site_id = 1,
                      status = CASE WHEN job_id % 20 = 19 THEN 'killed' WHEN job_id % 20 > 16 THEN 'failed'
                                    ELSE 'done' END::jobs.job_status
                WHERE job_id % 10 <> 0 RETURNING task_queue_id, status)
           INSERT INTO jobs.tally_change (task_queue_id, ce_id, status, jobs, cores)
           SELECT task_queue_id, 1, status, count(*), 0 FROM moved GROUP BY 1, 2, 3
           UNION ALL
           SELECT task_queue_id, 0, 'waiting', -count(*), 0 FROM moved GROUP BY 1"""
    )


def _times(wire: Any, path: str, body: bytes, calls: int) -> list[float]:
    request = wire.request(path, body)
    for _ in range(3):
        wire.send(request)
    times = []
    for _ in range(calls):
        started = time.perf_counter()
        wire.send(request)
        times.append((time.perf_counter() - started) * 1000)
    return times
