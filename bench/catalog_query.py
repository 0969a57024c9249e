"""How fast a query with three metadata keys is answered: the first page, the number of files, the values of a key.

The keys are set on directories, as communities set them: the site at the top of a tree, the particle below, the run on
each directory of files. The files are written by PostgreSQL itself, with their counters, since what is measured is
reading. Peers are the goals; docs/benchmarks.md has what DIRAC's catalog needs for a fiftieth of the files.
"""

import json
import random
import time
from collections.abc import Callable

import pyarrow as pa

from bench.figures import Report, median, percentile
from bench.service import Service, operations
from bench.wire import Wire

# Files, and directories that hold them.
SIZES = {"trial": (100_000, 200), "small": (500_000, 2_000), "full": (10_000_000, 10_000)}
QUERIES = 40
SITES = [f"site{n:02d}" for n in range(10)]
PARTICLES = ["gamma", "proton", "electron", "iron", "helium"]
PAGE_GOAL_MS, COUNT_GOAL_MS = 20.0, 100.0
DESCRIBE_GOAL = 20_000.0  # Files a second.
BATCHES, BATCH_ROWS = 4, 20_000
TOP = "/demo/query"
_BATCH, _ARROW = "/api/files/metadata/batch", "application/vnd.apache.arrow.stream"
_AT_ONCE = 200_000  # Files in one statement.


def measure(report: Report, service: Service, size: str) -> None:
    service.apply(operations(service, max_pilots=0))
    files, directories = SIZES[size]
    started = time.perf_counter()
    _load(report, service, files, directories)
    report.say(f"{files:,} files in {directories:,} directories are loaded in {time.perf_counter() - started:.0f} s")
    chance = random.Random(20261127)
    for name, writer in (("three keys", _three_keys), ("three keys and the size of files", _with_size)):
        queries = [writer(chance, directories) for _ in range(QUERIES)]
        _measure(report, service, name, queries)
    _describe(report, service, files // directories)
    queries = [_three_keys(chance, directories) for _ in range(QUERIES)]
    _measure(report, service, "three keys, where some files have metadata of their own", queries)


def _describe(report: Report, service: Service, each: int) -> None:
    """Give files values of their own, each another one, in batches of 20,000."""
    bodies = []
    for first in range(0, BATCHES * BATCH_ROWS // each, BATCH_ROWS // each):
        runs = range(first, first + BATCH_ROWS // each)
        lfns = [f"{_path(run)}/event-{n:08d}.dat" for run in runs for n in range(1, each + 1)]
        values = [f'{{"quality": {n % 1000 / 1000}, "calibration": "v{n % 7}"}}' for n in range(len(lfns))]
        bodies.append(_encoded(pa.table({"lfn": lfns, "metadata": values})))
    rates = []
    before = service.used_s()
    with service.wire(service.token()) as wire:
        for body in bodies:
            took = _timed(lambda body=body: wire.post(_BATCH, body, _ARROW))  # type: ignore[misc]
            rates.append(BATCH_ROWS / took)
    words = f"metadata of {BATCH_ROWS:,} files in one batch, each its own, p50"
    report.figure(words, median(rates), "files/s", "goal", DESCRIBE_GOAL)
    for process, start, end in zip(("server", "PostgreSQL"), before, service.used_s(), strict=True):
        spent = (end - start) * 1e6 / (BATCHES * BATCH_ROWS)
        report.figure(f"metadata of files in batches: {process}'s processor time", spent, "us/file")


def _encoded(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())


def _three_keys(chance: random.Random, directories: int) -> str:
    """Equality, a list, a range and a pattern, in turn."""
    first = chance.randrange(directories)
    last = first + max(directories // 20, 20)
    site, particle = chance.choice(SITES), chance.choice(PARTICLES)
    return chance.choice(
        [
            f"run = {first} and site = {_site(first)} and particle = {_particle(first)}",
            f"run >= {first} and run < {last} and site = {site} and particle = {particle}",
            f"run > {first} and site in ({site}, {chance.choice(SITES)}) and particle != {particle}",
            f"(site = {site} or particle = {particle}) and run <= {last}",
            f"site like site0* and particle = {particle} and not run < {first}",
        ]
    )


def _with_size(chance: random.Random, directories: int) -> str:
    first = chance.randrange(directories)
    last = first + max(directories // 20, 20)
    return f"run >= {first} and run < {last} and site = {chance.choice(SITES)} and particle exists and size < 1MB"


def _path(run: int) -> str:
    return f"{TOP}/{_site(run)}/{_particle(run)}/run{run:06d}"


def _site(run: int) -> str:
    return SITES[run % len(SITES)]


def _particle(run: int) -> str:
    return PARTICLES[run // len(SITES) % len(PARTICLES)]


def _measure(report: Report, service: Service, name: str, queries: list[str]) -> None:
    with service.wire(service.token()) as wire:
        before = service.used_s()
        page = _times(wire, "/api/files/find", [{"path": TOP, "where": where, "limit": 100} for where in queries])
        used = [(end - start) * 1e3 / (len(queries) + 1) for start, end in zip(before, service.used_s(), strict=True)]
        count = _times(wire, "/api/files/count", [{"path": TOP, "where": where} for where in queries])
        keys = {"keys": ["site", "particle"]}
        facet = _times(wire, "/api/files/facets", [{"path": TOP, "where": where, **keys} for where in queries])
    for process, spent in zip(("server", "PostgreSQL"), used, strict=True):
        report.figure(f"{name}, first page of 100: {process}'s processor time", spent, "ms")
    for words, times, goal in (
        ("first page of 100", page, PAGE_GOAL_MS), ("count", count, COUNT_GOAL_MS), ("facets of two keys", facet, None),
    ):  # fmt: skip
        peer = "goal" if goal else None
        report.figure(f"{name}, {words}, p50", median(times), "ms", peer, goal)
        report.figure(f"{name}, {words}, p95", percentile(times, 95), "ms", peer, goal)


def _times(wire: Wire, path: str, bodies: list[dict[str, object]]) -> list[float]:
    """Milliseconds of each, after one that warms the connection."""
    requests = [wire.request(path, json.dumps(body).encode()) for body in bodies]
    wire.send(requests[0])
    return [_timed(lambda request=request: wire.send(request)) * 1e3 for request in requests]  # type: ignore[misc]


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _load(report: Report, service: Service, files: int, directories: int) -> None:
    paths = [_path(run) for run in range(directories)]
    with service.wire(service.token()) as wire:
        for n in range(0, directories, 1000):
            wire.post("/api/directories", json.dumps({"paths": paths[n : n + 1000]}).encode())
        keys = [
            {"name": "run", "type": "integer"},
            {"name": "site", "type": "text"},
            {"name": "particle", "type": "text"},
        ]
        wire.post("/api/files/metadata-keys", json.dumps(keys).encode())
        for key, level in (("site", 4), ("particle", 5)):
            for path in sorted({"/".join(path.split("/")[:level]) for path in paths}):
                change = {"paths": [path], "set": {key: path.rpartition("/")[2]}}
                wire.post("/api/files/metadata", json.dumps(change).encode())
        # One file by the ordinary way, whose access and storage element the others share.
        first = {"lfn": f"{TOP}/first", "se": "local", "size_bytes": 1}
        wire.post("/api/files/register", json.dumps([first]).encode())
    each = files // directories
    step = max(_AT_ONCE // each, 1)
    with service.connect() as conn:
        conn.execute(_RUNS, {"top": f"{TOP}/"})
        # Two of the indexes are made when all rows are there, which takes half as long.
        conn.execute("ALTER TABLE catalog.file DROP CONSTRAINT file_id_unique, DROP CONSTRAINT file_guid_unique")
        for start in range(0, directories, step):
            conn.execute(_FILES, {"top": f"{TOP}/", "each": each, "start": start, "end": start + step})
            if start and start % (directories // 4) < step:
                report.say(f"{start * each:,} files are in")
        conn.execute("SET maintenance_work_mem = '1GB'")
        conn.execute(
            "ALTER TABLE catalog.file ADD CONSTRAINT file_id_unique UNIQUE (file_id),"
            " ADD CONSTRAINT file_guid_unique UNIQUE (guid, vo_id)"
        )
        conn.execute(_COUNTERS, {"top": f"{TOP}/"})
        conn.execute(_USAGE, {"top": f"{TOP}/"})
        for table in (b"catalog.file", b"catalog.directory", b"catalog.directory_usage"):
            conn.execute(b"VACUUM (ANALYZE) " + table)


_OF_RUNS = "starts_with(d.path, %(top)s::text) AND d.name LIKE 'run%%'"
_RUNS = f"""
UPDATE catalog.directory AS d
SET metadata = jsonb_build_object('run', substr(d.name, 4)::integer),
    effective = d.effective || jsonb_build_object('run', substr(d.name, 4)::integer)
WHERE {_OF_RUNS}"""
_FILES = f"""
INSERT INTO catalog.file (file_id, directory_id, size_bytes, guid, adler32, access_id, vo_id, name, se_ids)
SELECT 1000000000 + substr(d.name, 4)::bigint * %(each)s::integer + n, d.directory_id,
       1000 + (n * 7919 + d.directory_id * 104729) %% 2000000, uuidv7(), n, first.access_id, d.vo_id,
       'event-' || lpad(n::text, 8, '0') || '.dat', first.se_ids
FROM catalog.directory AS d, generate_series(1, %(each)s::integer) AS n,
     (SELECT access_id, se_ids FROM catalog.file WHERE name = 'first') AS first
WHERE {_OF_RUNS} AND substr(d.name, 4)::integer BETWEEN %(start)s::integer AND %(end)s::integer - 1"""
_COUNTERS = f"""
UPDATE catalog.directory AS d SET file_count = f.files, size_bytes = f.size_bytes
FROM (SELECT directory_id, count(*) AS files, sum(size_bytes)::bigint AS size_bytes FROM catalog.file GROUP BY 1) AS f
WHERE f.directory_id = d.directory_id AND {_OF_RUNS}"""
_USAGE = f"""
INSERT INTO catalog.directory_usage (directory_id, se_id, owner_id, vo_id, files, size_bytes)
SELECT d.directory_id, u.se_id, u.owner_id, d.vo_id, d.file_count, d.size_bytes
FROM catalog.directory AS d, (SELECT se_id, owner_id FROM catalog.directory_usage LIMIT 1) AS u
WHERE {_OF_RUNS}"""
