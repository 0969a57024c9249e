"""How fast the catalog is compared with a storage's dump, and how much memory that takes.

Both sides are made up: a text dump (PFN, size, adler32), and the Arrow stream of the catalog as a server sends it, from
a file. One file in a thousand is dark, one lost, one of another size, one of another checksum, and the run fails unless
exactly these are found. The comparison runs in a process of its own, whose peak memory is told. The peer is what people
do by hand: `sort` both lists of names and `comm` them, with the same memory, which tells dark and lost files only.
"""

import gzip
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from bench.figures import Report
from bench.service import Service
from spinor.catalog.fsck import checking
from spinor.catalog.fsck.comparing import CATALOG, Rules, Sides
from spinor.catalog.fsck.dumps import Dump
from spinor.catalog.fsck.reports import Header, ReportWriter
from spinor.catalog.fsck.roots import Roots
from spinor.catalog.manifests.source import Source

FILES = {"trial": 20_000, "small": 1_000_000, "full": 10_000_000}
PER_DIRECTORY = 1000
BATCH_ROWS = 50_000
FAULTY = 1000  # One in so many has a fault of each kind.
PEER = "sort and comm of the names alone in this run"
PEER_MEMORY = "512M"
LISTED_AT = datetime(2026, 11, 27, tzinfo=UTC)


class Result(msgspec.Struct, frozen=True):
    wall_s: float
    peak_bytes: int
    counts: dict[str, int]


def measure(report: Report, service: Service, size: str) -> None:
    count = FILES[size]
    work = service.work / "fsck"
    work.mkdir()
    dump, packed, catalog = work / "dump.txt", work / "dump.txt.gz", work / "catalog.arrow"
    write_dump(dump, count)
    write_catalog(catalog, count)
    report.say(f"{count:,} files on both sides; the dump has {dump.stat().st_size / 1e6:,.0f} MB")
    peer = count / by_hand(work, dump, catalog)
    report.figure(f"{count:,} files, {PEER}", peer, "files/s")
    with open(dump, "rb") as source, gzip.open(packed, "wb", compresslevel=1) as target:
        shutil.copyfileobj(source, target, 1 << 20)
    for name, path in (("a text dump", dump), ("a text dump in gzip", packed)):
        result = run(path, catalog, work)
        words = f"{count:,} files, the catalog against {name}"
        report.figure(words, count / result.wall_s, "files/s", PEER, peer)
        report.figure(f"{words}: wall time", result.wall_s, "s")
        report.figure(f"{words}: peak memory", result.peak_bytes / (1 << 20), "MiB")
        told = {kind: result.counts[kind] for kind in ("dark", "lost", "size", "checksum")}
        if told != dict.fromkeys(told, count // FAULTY):
            raise AssertionError(f"of each kind {count // FAULTY:,} should be found, and there are {told}")


def run(dump: Path, catalog: Path, work: Path) -> Result:
    """The check in a process of its own."""
    words = [sys.executable, "-m", "bench.catalog_fsck", str(dump), str(catalog), str(work)]
    answer = subprocess.run(words, check=True, stdout=subprocess.PIPE)
    return msgspec.json.decode(answer.stdout, type=Result)


def check(dump_path: Path, catalog: Path, work: Path) -> Result:
    started = time.perf_counter()
    header = Header(check=checking.CHECK, service="https://spinor.example", vo="bench", se="disk")
    rules = Rules(se="disk", listed_at=LISTED_AT)
    with (
        Source(str(dump_path)) as source,
        open(catalog, "rb") as stream,
        ReportWriter(work / "report.ndjson", header) as report,
    ):
        dump = Dump(source, "disk", Roots(["/data/disk"]), checking.undecodable(report, "disk", {}), {})
        sides = Sides(listing=dump, catalog=lambda: checking.catalog_rows(stream))
        footer = checking.check(report, rules, sides, work)
    wall_s = time.perf_counter() - started
    return Result(wall_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, footer.counts)


def by_hand(work: Path, dump: Path, catalog: Path) -> float:
    """Seconds for what a site does without a tool; the catalog's names lie there as text already."""
    names = work / "catalog.txt"
    with open(names, "wb") as text, open(catalog, "rb") as stream:
        for batch in checking.catalog_rows(stream):
            prefixed = pc.binary_join_element_wise("/data/disk", batch.column("pfn"), "/")
            pa.csv.write_csv(pa.table([prefixed], ["pfn"]), text, _PLAIN)
    environ = {**os.environ, "LC_ALL": "C", "TMPDIR": str(work)}
    started = time.perf_counter()
    with open(work / "dump.cut", "wb") as cut:
        subprocess.run(["cut", "-f1", str(dump)], stdout=cut, env=environ, check=True)
    for name in ("dump.cut", "catalog.txt"):
        sort = ["sort", "-S", PEER_MEMORY, "-o", str(work / f"{name}.sorted"), str(work / name)]
        subprocess.run(sort, env=environ, check=True)
    with open(work / "differences.txt", "wb") as differences:
        comm = ["comm", "-3", str(work / "dump.cut.sorted"), str(work / "catalog.txt.sorted")]
        subprocess.run(comm, stdout=differences, env=environ, check=True)
    return time.perf_counter() - started


_PLAIN = pa.csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")


def write_dump(path: Path, count: int) -> None:
    """In another order than the catalog's: directories backwards."""
    with open(path, "wb") as file:
        for numbers in reversed(list(_numbers(count))):
            fault = numbers % FAULTY
            there = numbers[fault != 1]  # What is lost.
            fault = there % FAULTY
            names = np.where(fault == 0, there + count, there)  # Dark under a name of its own.
            table = pa.table({
                "pfn": pc.binary_join_element_wise("/data/disk", _pfns(names), "/"),
                "size_bytes": there + (fault == 2),
                "adler32": _hex(there + (fault == 3)),
            })  # fmt: skip
            pa.csv.write_csv(table, file, _PLAIN)


def write_catalog(path: Path, count: int) -> None:
    old = pa.scalar(datetime(2026, 1, 1, tzinfo=UTC), pa.timestamp("us", "UTC"))
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, CATALOG, options=options) as writer:
        for numbers in _numbers(count):
            known = numbers[numbers % FAULTY != 0]
            pfns, rows = _pfns(known), len(known)
            lfns = pc.binary_join_element_wise("/bench", pfns, "/")
            status, created_at = pa.repeat("available", rows), pa.repeat(old, rows)
            columns = [pfns, lfns, pa.array(known), pa.array(known), status, created_at]
            writer.write_batch(pa.record_batch(columns, schema=CATALOG))


def _numbers(count: int) -> Iterator[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    for start in range(0, count, BATCH_ROWS):
        yield np.arange(start, min(start + BATCH_ROWS, count))


def _pfns(numbers: np.ndarray[tuple[int], np.dtype[np.int64]]) -> pa.Array:
    directory = pc.utf8_lpad(pa.array(numbers // PER_DIRECTORY).cast(pa.string()), 6, "0")
    name = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 9, "0")
    return pc.binary_join_element_wise("raw/2026/run", directory, "/event-", name, ".hdf5", "")


def _hex(numbers: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[str]:
    return [f"{number:08x}" for number in numbers.tolist()]


if __name__ == "__main__":
    print(msgspec.json.encode(check(*map(Path, sys.argv[1:]))).decode())
