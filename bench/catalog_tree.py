"""How fast `spinor file register-directory` publishes a tree of small files: a part of `catalog-register`."""

import json
import random
from collections import defaultdict
from pathlib import Path

from bench.catalog_load import PER_DIRECTORY, BareCopy, batches, timed
from bench.figures import Report, median
from bench.service import Service

FILES = {"trial": 2000, "small": 20_000, "full": 200_000}
ROUNDS = {"trial": 1, "small": 3, "full": 3}
COPY = "bare binary COPY of as many rows in this run"


def measure_tree(report: Report, service: Service, size: str) -> None:
    """The peer is a COPY of rows of the same shape, as many, into the same table."""
    count = FILES[size]
    tree = service.storage_root / "published"
    took = timed(lambda: make_tree(tree, count))
    report.say(f"{count:,} files of 64 to 1,024 bytes are written in {took:.1f} s; they are in the page cache now")
    rates: dict[str, list[float]] = defaultdict(list)
    with service.connect() as conn:
        copy = BareCopy(service, conn)
        for n in range(ROUNDS[size]):
            report.say(f"register-directory, round {n + 1} of {ROUNDS[size]}")
            encoded = [copy.encoded(table) for table in batches(0, count // PER_DIRECTORY)]
            conn.execute("CHECKPOINT")
            rates["copy"].append(count / copy.run(encoded))
            for way, name, new, words in (
                ("the whole command", f"plain{n}", count, ()),
                ("a second time: nothing new", f"plain{n}", 0, ()),
                ("--checksum adler32, the whole command", f"checked{n}", count, ("--checksum", "adler32")),
            ):
                conn.execute("CHECKPOINT")
                rates[way].append(count / timed(lambda: _command(service, tree, name, new, *words)))  # noqa: B023
    copied = median(rates.pop("copy"))
    for way, values in rates.items():
        report.figure(f"{count:,} files, register-directory, {way}", median(values), "files/s", COPY, copied)


def make_tree(tree: Path, count: int) -> None:
    """Real files with real content, some of them equal in size, in directories of a thousand."""
    chance = random.Random(20261123)
    content = chance.randbytes(1 << 16)
    for start in range(0, count, PER_DIRECTORY):
        directory = tree / f"run{start // PER_DIRECTORY:05d}"
        directory.mkdir(parents=True)
        for n in range(start, min(start + PER_DIRECTORY, count)):
            at = chance.randrange(len(content) - 1024)
            (directory / f"event-{n:08d}.dat").write_bytes(content[at : at + chance.randint(64, 1024)])


def _command(service: Service, tree: Path, name: str, expected: int, *words: str) -> None:
    out = service.spinor("file", "register-directory", str(tree), f"/demo/{name}", "--se", "local", "--json", *words)
    sums = json.loads(out.splitlines()[-1])
    if sums["registered"] != expected:
        raise AssertionError(f"{expected:,} files should be new, and {sums['registered']:,} were")
