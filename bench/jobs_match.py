"""How fast waiting jobs reach pilots: up to ten million jobs in ten thousand task queues of four VOs, and a thousand
pilots at twenty sites that ask for one to eight jobs each and run nothing.

Inside the matcher: groups of 16 pilots, each one transaction, two at a time, with everything that a match writes: the
lease, the history row and the counters. Over HTTPS: requests on 24 kept-alive connections, with the pilot's row and a
token for each payload. Meanwhile new jobs come and others end.
"""

import asyncio
import itertools
import random
import threading
import time
from collections.abc import Callable, Sequence

import msgspec

from bench import match_farm
from bench.drive import Driven
from bench.figures import Report, percentile
from bench.match_farm import Pilot
from bench.service import Service
from spinor.app import CONSTRAINT_ERRORS, settle_memory
from spinor.db import Database
from spinor.jobs import service as jobs
from spinor.jobs.models import Slot

# (waiting jobs, task queues) of each round.
ROUNDS = {
    "trial": ((400, 40),),
    "small": ((10_000, 10_000), (300_000, 10_000)),
    "full": ((10_000, 10_000), (1_000_000, 10_000), (10_000_000, 10_000)),
}
SECONDS = {"trial": 0.4, "small": 6.0, "full": 20.0}
PILOTS = {"trial": 8, "small": 1000, "full": 1000}
CONNECTIONS = {"trial": 2, "small": 24, "full": 24}
GROUP, AT_ONCE = 16, 2


def measure(report: Report, service: Service, size: str) -> None:
    service.apply(match_farm.document(service))
    pilots = match_farm.enrolled(service, PILOTS[size])
    for waiting, queues in ROUNDS[size]:
        started = time.perf_counter()
        match_farm.fill(service, waiting, queues)
        report.say(f"{waiting:,} jobs wait in {queues:,} task queues, made in {time.perf_counter() - started:.1f} s")
        name = f"{waiting:,} waiting in {queues:,} queues"
        with match_farm.tide(service, waiting):
            inside(report, service, f"{name}, inside the matcher", pilots, SECONDS[size])
            _over_https(report, service, f"{name}, {len(pilots):,} pilots over HTTPS", pilots, size)
            with match_farm.old_snapshot(service):
                label = f"{name}, inside the matcher, while somebody holds a snapshot open"
                inside(report, service, label, pilots, SECONDS[size])


# -------------------------------------------------------------------------------------------------- inside the matcher


def inside(report: Report, service: Service, name: str, pilots: Sequence[Pilot], seconds: float) -> None:
    """Match for so long, and report what came of it."""
    before = service.used_s()
    matched, took, latencies, served = asyncio.run(_match_groups(service, pilots, seconds))
    used = [(end - start) * 1000 for start, end in zip(before, service.used_s(), strict=True)]
    report.figure(f"{name}: jobs matched per second", len(matched) / took, "1/s")
    report.figure(f"{name}: pilots served per second", served / took, "1/s")
    report.figure(f"{name}: median of a transaction", percentile(latencies, 50) * 1000, "ms")
    report.figure(f"{name}: 99th percentile of a transaction", percentile(latencies, 99) * 1000, "ms")
    report.figure(f"{name}: PostgreSQL's processor time per job", used[1] / max(1, len(matched)), "ms")
    report.figure(f"{name}: jobs given twice", len(matched) - len(set(matched)), "jobs")


async def _match_groups(
    service: Service, pilots: Sequence[Pilot], seconds: float
) -> tuple[list[tuple[int, int]], float, list[float], int]:
    matcher, chance = jobs.Matcher(), random.Random(3)
    matched: list[tuple[int, int]] = []
    latencies: list[float] = []
    served = 0
    turns = itertools.cycle(pilots)
    size = min(GROUP, len(pilots) // AT_ONCE)

    async with (
        Database.open(service.database_url, size=AT_ONCE, errors=CONSTRAINT_ERRORS) as db,
        Database.open(service.database_url, size=1, niceness=jobs.LOOKING_NICENESS) as watch_db,
    ):
        watch = jobs.Watch(watch_db, matcher.view)
        await watch.news()  # The first look is not what a match costs.
        settle_memory()  # As a server does when it has started.
        begun = time.perf_counter()

        async def serve() -> None:
            nonlocal served
            while time.perf_counter() < begun + seconds:
                group = [next(turns) for _ in range(size)]
                asks = [jobs.Ask(pilot.vo_id, _slot(pilot), chance.randint(1, 8)) for pilot in group]
                started = time.perf_counter()
                watch.asked()
                async with db.transaction() as tx:
                    given = await jobs.match_asks(tx, matcher, asks)
                latencies.append(time.perf_counter() - started)
                matched.extend((job.job_id, job.attempt) for each in given for job in each)
                served += sum(1 for each in given if each)

        await asyncio.gather(*(serve() for _ in range(AT_ONCE)))
        watch.stop()
        return matched, time.perf_counter() - begun, latencies, served


def _slot(pilot: Pilot) -> Slot:
    return Slot(
        pilot_id=pilot.pilot_id, site=pilot.site, site_id=pilot.site_id, ce=f"{pilot.site.lower()}-ce",
        ce_id=pilot.ce_id, offer=pilot.offer,
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- over HTTPS


def _over_https(report: Report, service: Service, name: str, pilots: Sequence[Pilot], size: str) -> None:
    before = service.used_s()
    driven, matched, empty = _drive(service, pilots, CONNECTIONS[size], SECONDS[size])
    used = [(end - start) * 1000 for start, end in zip(before, service.used_s(), strict=True)]
    report.figure(f"{name}: jobs matched per second", len(matched) / driven.seconds, "1/s")
    report.figure(f"{name}: requests per second", driven.per_s, "1/s")
    report.figure(f"{name}: median of a match", driven.ms(50), "ms")
    report.figure(f"{name}: 99th percentile of a match", driven.ms(99), "ms")
    report.figure(f"{name}: requests that got nothing", empty / max(1, driven.requests), "fraction")
    report.figure(f"{name}: server's processor time per request", used[0] / max(1, driven.requests), "ms")
    report.figure(f"{name}: PostgreSQL's processor time per job", used[1] / max(1, len(matched)), "ms")
    report.figure(f"{name}: jobs given twice", len(matched) - len(set(matched)), "jobs")


def _drive(
    service: Service, pilots: Sequence[Pilot], connections: int, seconds: float
) -> tuple[Driven, list[tuple[int, int]], int]:
    """Each connection serves its part of the pilots in turns; the first error ends the drive."""
    latencies: list[float] = []
    answers: list[bytes] = []
    errors: list[BaseException] = []
    ready = threading.Barrier(connections + 1)

    def ask(mine: Sequence[Pilot], chance: random.Random) -> None:
        try:
            with service.wire("") as wire:
                requests = [_requests(service, pilot) for pilot in mine]
                wire.send(requests[0](1))  # Connection and statements are warm from here on.
                ready.wait()
                end = time.perf_counter() + seconds
                for request in itertools.cycle(requests):
                    started = time.perf_counter()
                    if started > end or errors:
                        return
                    answers.append(wire.send(request(chance.randint(1, 8))))
                    latencies.append(time.perf_counter() - started)
        except Exception as error:  # noqa: BLE001  Raised again by the thread that waits for this one.
            errors.append(error)
            ready.abort()

    threads = [
        threading.Thread(target=ask, args=(pilots[n::connections], random.Random(n)), daemon=True)
        for n in range(connections)
    ]
    for thread in threads:
        thread.start()
    ready.wait()
    started = time.perf_counter()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - started
    for error in errors:
        raise error
    given = [msgspec.json.decode(answer)["jobs"] for answer in answers]
    matched = [(job["job_id"], job["attempt"]) for each in given for job in each]
    return Driven(len(latencies), took, latencies), matched, sum(1 for each in given if not each)


def _requests(service: Service, pilot: Pilot) -> Callable[[int], bytes]:
    """The ready-made requests of a pilot, by the number of jobs that it asks for."""
    host = service.url.partition("://")[2]
    made: dict[int, bytes] = {}
    for most in range(1, 9):
        body = msgspec.json.encode({"offer": msgspec.to_builtins(pilot.offer), "max_jobs": most, "wait_s": 0})
        head = (
            f"POST /api/pilot/match HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {pilot.token}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        made[most] = head.encode() + body
    return made.__getitem__
