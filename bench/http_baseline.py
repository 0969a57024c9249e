"""Two calls in Spinor and in a small Go service: how much of a request is the language, and how much is PostgreSQL.

Both answer the same JSON to the same JSON over TLS on kept connections, verify the same token and run the same
statements, and are loaded by the same generator, in turns. Spinor's server is one process, so the first peer
is Go on one processor; the second is Go as it comes, on all of them.
"""

import os
import random
import tempfile
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench.figures import Report, median
from bench.go_peer import Gun, Incomparable, NoGo, Peer, Programs, Shot, Target, build, running_peer, version
from bench.jobs_submit import SPEC
from bench.service import Service, operations
from bench.wire import Wire

LOOKED_UP = 1000
FILES = {"trial": 2000, "small": 20_000, "full": 200_000}
SECONDS = {"trial": 0.3, "small": 3.0, "full": 6.0}
ROUNDS = {"trial": 1, "small": 1, "full": 5}
SPINOR, GO_ONE, GO_ALL = "Spinor", "Go, one processor", "Go, all processors"


def measure(report: Report, service: Service, size: str) -> None:
    with tempfile.TemporaryDirectory(prefix="spinor-bench-go-") as place:
        try:
            programs = build(Path(place))
            report.say(f"the peer is built with {version()}")
            _compare(report, service, programs, Path(place), size)
        except NoGo as error:
            report.say(f"no comparison: {error}")
            report.figure(f"not taken: {error}", None, "1/s")


def _compare(report: Report, service: Service, programs: Programs, place: Path, size: str) -> None:
    service.apply(operations(service, max_pilots=0))
    token_file = place / "token"
    token_file.touch(mode=0o600)
    token_file.write_text(service.token())
    lookups = _write_lookups(report, service, place, FILES[size])
    job = place / "job.json"
    job.write_bytes(msgspec.json.encode({"specs": [SPEC]}))
    gun = Gun(programs, service, token_file)
    with (
        running_peer(programs, service, place, 1) as one,
        running_peer(programs, service, place, os.cpu_count() or 1) as every,
    ):
        for name, path, bodies in (
            ("replicas of 1,000 LFNs", "/api/files/replicas", lookups),
            ("one small job", "/api/jobs", [job]),
        ):
            targets = _targets(service, one, every, path)
            _check_same(service, targets, bodies[0], name)
            for concurrency in (1, 16):
                shots: dict[str, list[Shot]] = {each: [] for each in targets}
                for _ in range(ROUNDS[size]):
                    for each, target in targets.items():
                        shots[each].append(gun.fire(target, bodies, concurrency, SECONDS[size]))
                _tell(report, f"{name}, {concurrency} client{'s' if concurrency > 1 else ''}", shots)


def _targets(service: Service, one: Peer, every: Peer, path: str) -> dict[str, Target]:
    return {
        SPINOR: Target(service.url + path, service.pid_of("server")),
        GO_ONE: Target(one.url + path, one.pid),
        GO_ALL: Target(every.url + path, every.pid),
    }


def _tell(report: Report, name: str, shots: dict[str, list[Shot]]) -> None:
    ours = shots[SPINOR]
    for peer in (GO_ONE, GO_ALL):
        theirs = shots[peer]
        report.figure(
            f"{name}: requests per second",
            median([s.load.per_second for s in ours]), "1/s", peer, median([s.load.per_second for s in theirs]),
        )  # fmt: skip
    theirs = shots[GO_ONE]
    for words, values, others in (
        ("median of a request", [s.load.p50_ms for s in ours], [s.load.p50_ms for s in theirs]),
        ("99th percentile of a request", [s.load.p99_ms for s in ours], [s.load.p99_ms for s in theirs]),
        ("server's processor time per request", [s.server_ms for s in ours], [s.server_ms for s in theirs]),
        ("PostgreSQL's processor time per request", [s.postgres_ms for s in ours], [s.postgres_ms for s in theirs]),
    ):
        report.figure(f"{name}: {words}", median(values), "ms", GO_ONE, median(others))
    errors = sum(shot.load.errors for each in shots.values() for shot in each)
    if errors:
        first = next(shot.load.first_error for each in shots.values() for shot in each if shot.load.errors)
        report.say(f"{name}: {errors} requests failed; the first one: {first}")
    report.figure(f"{name}: failed requests, all services", errors, "requests")


def _check_same(service: Service, targets: dict[str, Target], body: Path, name: str) -> None:
    """A comparison of different answers would be worth nothing."""
    answers: dict[str, Any] = {}
    token = service.token()
    for each, target in targets.items():
        with Wire(target.url, service.ca_file, token) as wire:
            path = urllib.parse.urlsplit(target.url).path
            answers[each] = _shape(wire.post(path, body.read_bytes()))
    if answers[SPINOR] != answers[GO_ONE]:
        raise Incomparable(f"the two services answer {name} differently: {str(answers)[:2000]}")


def _shape(answer: bytes) -> Any:
    """The answer, with the numbers that differ from job to job taken out."""
    decoded = msgspec.json.decode(answer)
    if isinstance(decoded, dict):
        return [(sorted(decoded), [(sorted(array), array["name"], array["size"]) for array in decoded["arrays"]])]
    return decoded


def _write_lookups(report: Report, service: Service, place: Path, files: int) -> Sequence[Path]:
    """Register files, and write bodies that ask for 1,000 random ones of them each."""
    chance = random.Random(20261123)
    lfns = [f"/demo/baseline/run{n // 1000:04d}/event-{n:08d}.dat" for n in range(files)]
    with service.wire(service.token()) as wire:
        for start in range(0, files, 5000):
            new = [
                {"lfn": lfn, "se": "local", "size_bytes": 1000, "adler32": f"{chance.getrandbits(32):08x}"}
                for lfn in lfns[start : start + 5000]
            ]
            wire.post("/api/files/register", msgspec.json.encode(new))
    report.say(f"{files:,} files are registered")
    with service.connect() as conn:
        conn.execute("VACUUM ANALYZE catalog.file")
    bodies = []
    for n in range(16):
        bodies.append(place / f"lookup-{n}.json")
        bodies[-1].write_bytes(msgspec.json.encode({"lfns": chance.sample(lfns, LOOKED_UP)}))
    return bodies
