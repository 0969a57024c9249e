"""How fast waiting jobs reach pilots: 10,000 jobs of two VOs in 100 task queues, and pilots that ask for one at a time.

The pilots are threads that enrol and match over HTTPS as real ones do, and run nothing. Half of them have little
memory, so that not every queue fits every pilot.
"""

import asyncio
import hashlib
import secrets
import threading
import time
from typing import Any

import msgspec

from bench.drive import Driven
from bench.figures import Report, percentile
from bench.jobs_submit import SPEC
from bench.service import Service, operations
from spinor.app import CONSTRAINT_ERRORS
from spinor.db import Database
from spinor.identity.rules import pilot_caller
from spinor.jobs import service as jobs
from spinor.jobs.models import Assignment, Offer, Slot

VOS = ("demo", "other")
JOBS, QUEUES_PER_VO = 10_000, 50
PILOTS = {"trial": (2,), "small": (1, 16), "full": (1, 16, 64)}
# Well below the 60 s of a lease: no job may come back to its queue while it is measured.
SECONDS = {"trial": 0.3, "small": 12.0, "full": 40.0}
VERB_CALLS = {"trial": 16, "small": 1000, "full": 3000}
GB = 1_000_000_000


class Pilot(msgspec.Struct, frozen=True):
    """A simulated pilot that has enrolled."""

    pilot_id: int
    token: str
    offer: dict[str, int]


def measure(report: Report, service: Service, size: str) -> None:
    service.apply(operations(service, vos=VOS, max_pilots=0))
    for pilots in PILOTS[size]:
        _fill(report, service)
        enrolled, before = _enrolled(service, pilots), service.used_s()
        driven, matched = _match(service, enrolled, SECONDS[size])
        used = [(end - start) * 1000 / len(matched) for start, end in zip(before, service.used_s(), strict=True)]
        name = f"{JOBS:,} waiting in {len(VOS) * QUEUES_PER_VO} queues, {pilots} pilot{'s' if pilots > 1 else ''}"
        report.figure(f"{name}, over HTTPS: jobs matched per second", driven.per_s, "1/s")
        report.figure(f"{name}, over HTTPS: median of a match", driven.ms(50), "ms")
        report.figure(f"{name}, over HTTPS: 99th percentile of a match", driven.ms(99), "ms")
        report.figure(f"{name}, over HTTPS: server's processor time per job", used[0], "ms")
        report.figure(f"{name}, over HTTPS: PostgreSQL's processor time per job", used[1], "ms")
        report.figure(f"{name}, over HTTPS: jobs given twice", len(matched) - len(set(matched)), "jobs")
    _fill(report, service)
    asyncio.run(_verb(report, service, VERB_CALLS[size]))


def _fill(report: Report, service: Service) -> None:
    """Make the waiting jobs 10,000 again: old ones are killed, new ones submitted, queue by queue."""
    share = JOBS // len(VOS) // QUEUES_PER_VO
    for vo in VOS:
        specs = []
        for n in range(QUEUES_PER_VO):
            seeds = list(range(share))
            requirements = {"memory_bytes": (1 + n % 10) * GB, "wall_s": 1800 * (1 + n // 10), "priority": n % 10}
            specs.append(
                {**SPEC, **requirements, "arguments": ["simulate.py", "{seed}"], "parameters": {"seed": seeds}}
            )
        with service.connect() as conn, service.wire(service.token(vo, f"{vo}_users")) as wire:
            rows = conn.execute(
                """SELECT j.job_id FROM jobs.job j JOIN identity.vo v USING (vo_id)
                    WHERE v.name = %s AND j.ended_at IS NULL""",
                (vo,),
            ).fetchall()
            if rows:
                wire.post("/api/jobs/kill", msgspec.json.encode({"job_ids": [row[0] for row in rows]}))
            wire.post("/api/jobs", msgspec.json.encode({"specs": specs}))
    with service.connect() as conn:
        row = conn.execute("SELECT count(*), count(DISTINCT task_queue_id) FROM jobs.waiting").fetchone()
        assert row is not None
        report.say(f"{row[0]:,} jobs wait in {row[1]} task queues")


def _enrolled(service: Service, count: int) -> list[Pilot]:
    """Pilots of the VOs in turns. Their rows are written here, as the factory would; the rest is theirs."""
    pilots = []
    with service.connect() as conn, service.wire("") as wire:
        for n in range(count):
            secret = secrets.token_urlsafe(32)
            row = conn.execute(
                """INSERT INTO pilots.pilot (vo_id, ce_id, secret_hash)
                   SELECT v.vo_id, c.ce_id, %s FROM identity.vo v, resources.computing_element c WHERE v.name = %s
                   RETURNING pilot_id""",
                (hashlib.sha256(secret.encode()).digest(), VOS[n % len(VOS)]),
            ).fetchone()
            assert row is not None
            memory = 5 * GB if n // len(VOS) % 2 else 16 * GB
            offer = {"cores": 1, "memory_bytes": memory, "disk_bytes": 100 * GB, "wall_s": 86_400}
            enrolment = {"pilot_id": row[0], "secret": secret, "offer": offer, "node": {"hostname": "simulated"}}
            answer = msgspec.json.decode(wire.post("/api/pilot/enrol", msgspec.json.encode(enrolment)))
            pilots.append(Pilot(int(str(row[0])), answer["token"], offer))
    return pilots


def _match(service: Service, pilots: list[Pilot], seconds: float) -> tuple[Driven, list[int]]:
    """Every pilot asks for one job after another, until the time is over or it gets none."""
    latencies: list[float] = []
    matched: list[int] = []
    ends: list[float] = []
    errors: list[BaseException] = []
    ready = threading.Barrier(len(pilots) + 1)

    def ask(pilot: Pilot) -> None:
        try:
            with service.wire(pilot.token) as wire:
                body = msgspec.json.encode({"offer": pilot.offer, "max_jobs": 1, "wait_s": 0})
                request = wire.request("/api/pilot/match", body)
                ready.wait()
                end = time.perf_counter() + seconds
                while (started := time.perf_counter()) < end:
                    given: list[dict[str, Any]] = msgspec.json.decode(wire.send(request))["jobs"]
                    if not given:
                        break
                    latencies.append(time.perf_counter() - started)
                    matched.extend(job["job_id"] for job in given)
                    ends.append(time.perf_counter())
        except Exception as error:  # noqa: BLE001  Raised again by the thread that waits for this one.
            errors.append(error)
            ready.abort()

    threads = [threading.Thread(target=ask, args=(pilot,), daemon=True) for pilot in pilots]
    for thread in threads:
        thread.start()
    try:
        ready.wait()
    except threading.BrokenBarrierError:
        raise errors[0] from None
    started = time.perf_counter()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return Driven(len(matched), max(ends) - started, latencies), matched


async def _verb(report: Report, service: Service, calls: int) -> None:
    """`match_jobs` called in this process, one transaction each: what HTTP, TLS and the pilot's row add is left out."""
    pilots = _enrolled(service, len(VOS))
    with service.connect() as conn:
        vos = {str(name): int(str(vo_id)) for name, vo_id in conn.execute("SELECT name, vo_id FROM identity.vo")}
        row = conn.execute("SELECT site_id FROM resources.site").fetchone()
        assert row is not None
        site_id = int(str(row[0]))
    async with Database.open(service.database_url, size=1, errors=CONSTRAINT_ERRORS) as db:
        for most in (1, 8):
            matcher = jobs.Matcher()
            latencies, given = [], 0
            begun = time.perf_counter()
            for n in range(calls // most):
                pilot, vo = pilots[n % len(pilots)], VOS[n % len(VOS)]
                offer = msgspec.convert({**pilot.offer, "cores": most, "memory_bytes": most * 16 * GB}, Offer)
                slot = Slot(pilot_id=pilot.pilot_id, site="LOCAL", site_id=site_id, offer=offer)
                started = time.perf_counter()
                async with db.transaction() as tx:
                    caller = pilot_caller(vos[vo], vo, pilot.pilot_id)
                    found: list[Assignment] = await jobs.match_jobs(tx, matcher, caller, slot, most)
                latencies.append(time.perf_counter() - started)
                given += len(found)
            rate = given / (time.perf_counter() - begun)
            name = f"the verb alone, one caller, {most} job{'s' if most > 1 else ''} per call"
            report.figure(f"{name}: jobs matched per second", rate, "1/s")
            report.figure(f"{name}: median of a call", percentile(latencies, 50) * 1000, "ms")
            report.figure(f"{name}: 99th percentile of a call", percentile(latencies, 99) * 1000, "ms")
