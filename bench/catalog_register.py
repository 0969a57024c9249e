"""How fast files are registered in bulk, and how far that is from what PostgreSQL can take at all.

The peer is a COPY of the same rows, encoded beforehand, into the same table with its indexes and constraints, one
commit per batch, by one session: it checks nothing, counts nothing and asks nobody. Ways take turns, a checkpoint
before each.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping

import msgspec
import numpy as np
import pyarrow as pa

from bench import catalog_load, peers
from bench.catalog_load import PER_DIRECTORY, BareCopy, batches, body, guids, load, send
from bench.catalog_tree import measure_tree
from bench.figures import Report, median
from bench.service import Service, operations

LOADED = {"trial": 20_000, "small": 200_000, "full": 10_000_000}  # Before anything is measured.
FILES = {"trial": 2_000, "small": 100_000, "full": 400_000}  # Per way and round.
ROUNDS = {"trial": 1, "small": 3, "full": 5}
COPY = "bare binary COPY of the same rows in this run"
DIRAC, RUCIO = "DIRAC 9.1 in process, in this run", "Rucio 41 over REST, in this run"

Rates = dict[str, list[float]]


def measure(report: Report, service: Service, size: str) -> None:
    service.apply(operations(service, max_pilots=0))
    report.say(f"filling the catalog with {LOADED[size]:,} files")
    took = catalog_load.timed(lambda: load(service, "/demo/loaded", LOADED[size]))
    report.figure(f"{LOADED[size]:,} files loaded over HTTPS, two connections", LOADED[size] / took, "files/s")
    rates, used = _bulk(report, service, size)
    _tell(report, rates, used, peers.figures("dirac", size), peers.figures("rucio", size))
    _scattered(report, service, size)
    _opposite(report, service)
    _move(report, service, LOADED[size])
    measure_tree(report, service, size)


def _bulk(report: Report, service: Service, size: str) -> tuple[Rates, Rates]:
    """New directories of a thousand files each."""
    rates: Rates = defaultdict(list)
    used: Rates = defaultdict(list)
    count = FILES[size]
    with service.connect() as conn:
        copy = BareCopy(service, conn)
        numbers = _numbers(LOADED[size] // PER_DIRECTORY, count // PER_DIRECTORY)
        for n in range(ROUNDS[size]):
            report.say(f"new directories, round {n + 1} of {ROUNDS[size]}")
            rows = [catalog_load.BATCH_ROWS, 5 * catalog_load.BATCH_ROWS]
            encoded = [copy.encoded(table) for table in batches(next(numbers), count // PER_DIRECTORY)]
            conn.execute("CHECKPOINT")
            rates["copy"].append(count / copy.run(encoded))
            for in_flight, batch in ((1, rows[0]), (2, rows[0]), (1, rows[1]), (2, rows[1])):
                bodies = [body(table) for table in batches(next(numbers), count // PER_DIRECTORY, batch)]
                conn.execute("CHECKPOINT")
                before = service.used_s()
                way = f"{in_flight} in flight, {batch:,} per batch"
                rates[way].append(count / send(service, "/demo/loaded", bodies, in_flight))
                for process, start, end in zip(("server", "PostgreSQL"), before, service.used_s(), strict=True):
                    used[f"{way}: {process}'s processor time"].append((end - start) * 1e6 / count)
    return rates, used


def _numbers(start: int, step: int) -> Iterator[int]:
    while True:
        yield start
        start += step


def _tell(
    report: Report, rates: Rates, used: Rates, dirac: Mapping[str, float] | None, rucio: Mapping[str, float] | None
) -> None:
    copied = median(rates["copy"])
    report.figure(f"new directories: {COPY}", copied, "files/s")
    ways = [way for way in rates if way != "copy"]
    for way in ways:
        # Round by round, since the machine is faster in one than in another.
        ratio = median([ours / theirs for ours, theirs in zip(rates[way], rates["copy"], strict=True)])
        report.figure(f"new directories, {way}", ratio * copied, "files/s", COPY, copied)
    for what, values in used.items():
        report.figure(f"new directories, {what}", median(values), "us/file")
    best = max(median(rates[way]) for way in ways)
    for peer, figures in ((DIRAC, dirac), (RUCIO, rucio)):
        if figures:
            report.figure("new directories, the best way", best, "files/s", peer, figures["register_files_per_s"])


def _move(report: Report, service: Service, loaded: int) -> None:
    """Rename the directory above all of them, and back."""
    took = []
    with service.wire(service.token()) as wire:
        for turn in range(6):
            names = ["/demo/loaded", "/demo/renamed"][:: 1 if turn % 2 == 0 else -1]
            body_ = msgspec.json.encode([{"source": names[0], "target": names[1]}])
            took.append(catalog_load.timed(lambda: wire.post("/api/files/move", body_)))  # noqa: B023
    report.figure(
        f"rename a directory of {loaded:,} files in {loaded // PER_DIRECTORY:,} directories", median(took), "s"
    )


def _scattered(report: Report, service: Service, size: str) -> None:
    """Batches over a thousand directories that are there, a hundredth of the files already registered."""
    directories = min(1000, LOADED[size] // PER_DIRECTORY)
    count = catalog_load.BATCH_ROWS if size != "trial" else 1000
    ours, theirs = [], []
    with service.connect() as conn:
        copy = BareCopy(service, conn)
        ids = [
            row[0]
            for row in conn.execute(
                """SELECT d.directory_id FROM catalog.directory AS d JOIN catalog.directory AS p
                   ON p.directory_id = d.parent_id WHERE p.path = '/demo/loaded' ORDER BY d.path LIMIT %s""",
                (directories,),
            )
        ]
        for n in range(3 * ROUNDS[size]):
            table = _spread(directories, count, n)
            encoded = [copy.encoded(_spread(directories, count, -1 - n), np.array(ids))]
            conn.execute("CHECKPOINT")
            theirs.append(count / copy.run(encoded))
            conn.execute("CHECKPOINT")
            answers: list[bytes] = []
            ours.append(count / send(service, "/demo/loaded", [body(table)], 1, answers))
            counts = msgspec.json.decode(answers[0])
            if (counts["already"], counts["registered"]) != (count // 100, count - count // 100):
                raise AssertionError(f"the answer is not exact: {counts}")
    ratio = median([a / b for a, b in zip(ours, theirs, strict=True)])
    metric = f"{count:,} files scattered over {directories:,} directories, 1 % there already"
    report.figure(metric, median(theirs) * ratio, "files/s", COPY, median(theirs))


def _spread(directories: int, count: int, n: int) -> pa.Table:
    """New names in every directory, and one in a hundred that `load` has registered with the same size and checksum."""
    codes = np.arange(count, dtype=np.int32) % directories
    runs = pa.array([f"run{d:07d}" for d in range(directories)])
    chance = np.random.default_rng(abs(n) + 7)
    names = [f"late{n:+05d}-{k:09d}.raw" for k in range(count)]
    sizes, sums = (chance.integers(0, 1 << 32, count, dtype=np.int64) for _ in range(2))
    if n >= 0:
        for k in range(0, count, 100):
            known = catalog_load.known_file(int(codes[k]), (k // directories + n) % PER_DIRECTORY)
            names[k], sizes[k], sums[k] = known
    return pa.table(
        {
            "path": pa.DictionaryArray.from_arrays(pa.array(codes), runs),
            "name": names, "size_bytes": sizes, "adler32": sums, "guid": guids(count),
        }
    )  # fmt: skip


def _opposite(report: Report, service: Service) -> None:
    """Two clients register the same files in opposite orders: both get exact answers."""
    for turn in range(3):
        table = next(batches(0, 20))
        count = table.num_rows
        names = pa.array([f"both{turn}-{k:013d}.raw" for k in range(count)])
        orders = (np.arange(count), np.arange(count)[::-1])
        bodies = [body(table.set_column(1, "name", names).take(pa.array(order))) for order in orders]
        answers: list[bytes] = []
        send(service, "/demo/loaded", bodies, 2, answers)
        counts = [msgspec.json.decode(answer) for answer in answers]
        if any(c["registered"] + c["already"] != count for c in counts) or sum(c["already"] for c in counts) != count:
            raise AssertionError(f"the answers are not exact: {counts}")
    report.say(f"two clients registered the same {count:,} LFNs in opposite orders, 3 times: exact, and no deadlock")
