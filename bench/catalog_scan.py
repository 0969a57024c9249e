"""How fast `register-directory` reads a tree, beside the least that Python can do: os.scandir, and stat of each file.

What is read goes into Arrow batches, as it is sent, and nowhere else. All files are in the page cache, and all rounds
of one run see the same tree.
"""

import os
import shutil
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from zlib_ng import zlib_ng

from bench.catalog_load import PER_DIRECTORY
from bench.catalog_tree import make_tree
from bench.figures import Report, median
from bench.service import Service
from spinor.catalog.cli.scanning import Scan, encoded

FILES = {"trial": 2000, "small": 50_000, "full": 1_000_000}
ROUNDS = {"trial": 1, "small": 5, "full": 3}
BIG_BYTES = {"trial": 1 << 22, "small": 1 << 28, "full": 1 << 29}
THREADS = (1, 2, 4)
BARE = "os.scandir and stat of each file, one thread, in this run"
BARE_ADLER32 = "adler32 of zlib-ng in memory, in this run"


def measure(report: Report, service: Service, size: str) -> None:
    count = FILES[size]
    tree = service.storage_root / "scanned"
    try:
        make_tree(tree, count)
        report.say(f"{count:,} files of 64 to 1,024 bytes, {PER_DIRECTORY:,} per directory, in the page cache")
        _trees(report, tree, count, ROUNDS[size])
        _big_file(report, tree, BIG_BYTES[size])
    finally:
        shutil.rmtree(tree, ignore_errors=True)


def _trees(report: Report, tree: Path, count: int, rounds: int) -> None:
    rates: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        rates["bare"].append(count / _timed(lambda: _bare(tree, count)))
        for threads in THREADS:
            for checksum in ("none", "adler32"):
                took = _timed(lambda c=checksum, t=threads: _scan(tree, count, c, t))  # type: ignore[misc]
                rates[f"{checksum} {threads}"].append(count / took)
    bare = median(rates["bare"])
    report.figure(f"{count:,} files, {BARE}", bare, "files/s")
    for checksum, words in (("none", "names and sizes"), ("adler32", "names, sizes and adler32")):
        for threads in THREADS:
            rate = median(rates[f"{checksum} {threads}"])
            report.figure(f"{count:,} files, scan of {words}, threads: {threads}", rate, "files/s", BARE, bare)


def _big_file(report: Report, tree: Path, size_bytes: int) -> None:
    """One file, so that nothing but reading and summing counts."""
    alone = tree / "big"
    alone.mkdir()
    content = os.urandom(1 << 20) * (size_bytes >> 20)
    (alone / "file").write_bytes(content)
    rates: dict[str, list[float]] = defaultdict(list)
    for _ in range(3):
        rates["bare"].append(size_bytes / 1e9 / _timed(lambda: zlib_ng.adler32(content)))
        rates["scan"].append(size_bytes / 1e9 / _timed(lambda: _scan(alone, 1, "adler32", 1)))
    bare = median(rates["bare"])
    report.figure(
        f"a file of {size_bytes >> 20} MiB, scan with adler32", median(rates["scan"]), "GB/s", BARE_ADLER32, bare
    )


def _bare(tree: Path, count: int) -> None:
    seen, waiting = 0, [os.fspath(tree)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    entry.stat(follow_symlinks=False)
                    seen += 1
    _expect(seen, count)


def _scan(tree: Path, count: int, checksum: str, threads: int) -> None:
    seen = 0
    for batch in Scan(os.fspath(tree), checksum=checksum, jobs=threads, exclude=(), refuse=_no_refusal):
        encoded(batch)
        seen += sum(len(chunk.names) for chunk in batch)
    _expect(seen, count)


def _no_refusal(refused: object) -> None:
    raise AssertionError(f"{refused} should have been read")


def _expect(seen: int, count: int) -> None:
    if seen != count:
        raise AssertionError(f"{count:,} files should have been seen, and {seen:,} were")


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
