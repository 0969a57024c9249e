"""How many heartbeats a server takes: 500,000 running jobs, of which each pilot tells every five minutes, are 1,700 a
second. Pilots that hold eight jobs each tell of them in one request; pilots that hold one send a request for each.

The rate is held for a while, and the processor time of the server and of PostgreSQL is read. At size full there are
really half a million running jobs; smaller sizes have fewer, at the same rate.
"""

import itertools
import threading
import time
from collections.abc import Sequence

import msgspec

from bench import match_farm
from bench.drive import Driven
from bench.figures import Report
from bench.match_farm import Pilot
from bench.service import Service

JOBS_PER_S = 500_000 / 300
RUNNING = {"trial": 160, "small": 40_000, "full": 500_000}
SECONDS = {"trial": 0.5, "small": 10.0, "full": 60.0}
CONNECTIONS = {"trial": 2, "small": 16, "full": 32}
PILOTS = {"trial": 20, "small": 500, "full": 2000}

_RUN = """
WITH given AS (
    SELECT j.job_id, j.vo_id, j.task_queue_id,
           (row_number() OVER (PARTITION BY j.vo_id ORDER BY j.job_id) - 1) / %(held)s::integer AS nth
      FROM jobs.job j WHERE j.status = 'waiting'
), pilot AS (
    SELECT pilot_id, vo_id, ce_id, row_number() OVER (PARTITION BY vo_id ORDER BY pilot_id) - 1 AS nth,
           count(*) OVER (PARTITION BY vo_id) AS pilots
      FROM pilots.pilot WHERE ended_at IS NULL
), held AS (
    SELECT given.job_id, given.vo_id, given.task_queue_id, pilot.pilot_id, pilot.ce_id
      FROM given JOIN pilot ON pilot.vo_id = given.vo_id AND pilot.nth = given.nth %% pilot.pilots
), job AS (
    UPDATE jobs.job SET status = 'running', attempt = 1, pilot_id = held.pilot_id, ce_id = held.ce_id,
           started_at = now(), updated_at = now() FROM held WHERE job.job_id = held.job_id
), lease AS (
    INSERT INTO jobs.running (job_id, vo_id, attempt, pilot_id, ce_id, cores, lease_expires_at)
    SELECT job_id, vo_id, 1, pilot_id, ce_id, 1, now() + interval '1 hour' FROM held
)
SELECT pilot_id, job_id FROM held ORDER BY pilot_id, job_id
"""


def measure(report: Report, service: Service, size: str) -> None:
    service.apply(match_farm.document(service))
    pilots = match_farm.enrolled(service, PILOTS[size])
    for held in (8, 1):
        requests = _running(service, pilots, RUNNING[size], held)
        rate = JOBS_PER_S / held
        before, started = service.used_s(), time.perf_counter()
        driven = _drive(service, requests, CONNECTIONS[size], SECONDS[size], rate)
        took = time.perf_counter() - started
        used = [end - start for start, end in zip(before, service.used_s(), strict=True)]
        name = f"{RUNNING[size]:,} running jobs, {held} in each request"
        report.figure(f"{name}: jobs told of per second", driven.per_s * held, "1/s")
        report.figure(f"{name}: asked for", JOBS_PER_S, "1/s")
        report.figure(f"{name}: median of a heartbeat", driven.ms(50), "ms")
        report.figure(f"{name}: 99th percentile of a heartbeat", driven.ms(99), "ms")
        report.figure(f"{name}: the server's share of a core", used[0] / took, "cores")
        report.figure(f"{name}: PostgreSQL's share of a core", used[1] / took, "cores")


def _running(service: Service, pilots: Sequence[Pilot], jobs: int, held: int) -> list[bytes]:
    """So many jobs run; the heartbeats that tell of all of them, each once."""
    match_farm.fill(service, jobs, min(1000, jobs // 4))
    with service.connect() as conn:
        rows = conn.execute(_RUN, {"held": held}).fetchall()
        conn.execute("VACUUM (ANALYZE) jobs.running")
    tokens = {pilot.pilot_id: pilot.token for pilot in pilots}
    by_pilot = {
        pilot_id: [int(str(job_id)) for _, job_id in group]
        for pilot_id, group in itertools.groupby(rows, key=lambda row: int(str(row[0])))
        if pilot_id in tokens  # A real pilot of the service may have taken some of the jobs.
    }
    chunks = [
        (tokens[pilot_id], job_ids[n : n + held])
        for n in range(0, max(map(len, by_pilot.values())), held)
        for pilot_id, job_ids in by_pilot.items()
        if job_ids[n : n + held]
    ]
    return [_request(service, token, job_ids) for token, job_ids in chunks]


def _request(service: Service, token: str, job_ids: Sequence[int]) -> bytes:
    told = [
        {
            "job_id": job_id, "attempt": 1, "cpu_s": 100.0, "wall_s": 110.0 + job_id % 300, "max_rss_bytes": 10**9,
            "rss_bytes": 10**9, "disk_bytes": 10**8, "read_bytes": 10**6, "written_bytes": 10**6,
        }
        for job_id in job_ids
    ]  # fmt: skip
    body = msgspec.json.encode({"held": told, "wait_s": 0})
    head = (
        f"POST /api/pilot/heartbeat HTTP/1.1\r\nhost: {service.url.partition('://')[2]}\r\n"
        f"authorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _drive(service: Service, requests: Sequence[bytes], connections: int, seconds: float, per_s: float) -> Driven:
    """Each request at its time, in turns; late ones are sent at once. The first error ends the drive."""
    latencies: list[float] = []
    errors: list[BaseException] = []
    turns = itertools.count()
    ready = threading.Barrier(connections + 1)
    start = [0.0]

    def send() -> None:
        try:
            with service.wire("") as wire:
                wire.send(requests[0])
                ready.wait()
                while not errors:
                    n = next(turns)
                    due = start[0] + n / per_s
                    if due > start[0] + seconds:
                        return
                    time.sleep(max(0.0, due - time.perf_counter()))
                    begun = time.perf_counter()
                    wire.send(requests[n % len(requests)])
                    latencies.append(time.perf_counter() - begun)
        except Exception as error:  # noqa: BLE001  Raised again by the thread that waits for this one.
            errors.append(error)
            ready.abort()

    threads = [threading.Thread(target=send, daemon=True) for _ in range(connections)]
    for thread in threads:
        thread.start()
    start[0] = time.perf_counter() + 0.1
    ready.wait()
    start[0] = time.perf_counter()
    for thread in threads:
        thread.join()
    for error in errors:
        raise error
    return Driven(len(latencies), time.perf_counter() - start[0], latencies)
