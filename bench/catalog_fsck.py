"""How fast the catalog of a running service is compared with a storage's dump, and how much memory that takes.

The command is `spinor file fsck` itself: the server reads its tables and streams, and the client compares. The dump is
text (PFN, size, adler32), its directories in another order than the catalog's. One file in a thousand is dark, one
lost, one of another size, one of another checksum, and the run fails unless exactly these are found. Besides, the
catalog proves its invariants. The peer is what people do by hand: cut the names out of the dump and out of a list of
the catalog's, `sort` both and `comm` them, which tells dark and lost files only; its list is there already.
"""

import os
import subprocess
import threading
import time
from pathlib import Path

import msgspec

from bench.catalog_load import Connection, load
from bench.figures import Report
from bench.service import SPINOR, Service

FILES = {"trial": 20_000, "small": 500_000, "full": 10_000_000}
DIRECTORY = "/demo/fsck"
FAULTY = 1000  # One in so many has a fault of each kind.
PEER = "cut, sort and comm of the names alone in this run"
PEER_MEMORY = "512M"
DIRECTORIES = 500  # Of which the lines of a dump are asked for at once.

# Files by the remainder of their number: 0 has a dark one beside it, 1 is lost, 2 has another size, 3 another checksum.
DUMP = """
COPY (
    SELECT %(root)s || '/' || l.path || '/' || f.name || CASE again WHEN 1 THEN '.dark' ELSE '' END,
           f.size_bytes + CASE f.file_id %% %(faulty)s WHEN 2 THEN 1 ELSE 0 END,
           lpad(to_hex(CASE f.file_id %% %(faulty)s WHEN 3 THEN f.adler32 # 1 ELSE f.adler32 END), 8, '0')
    FROM catalog.file AS f
    JOIN catalog.directory_location AS l USING (directory_id)
    CROSS JOIN LATERAL generate_series(0, CASE f.file_id %% %(faulty)s WHEN 0 THEN 1 ELSE 0 END) AS again
    WHERE f.directory_id BETWEEN %(first)s AND %(last)s AND f.file_id %% %(faulty)s <> 1
) TO STDOUT
"""
NAMES = """
COPY (
    SELECT %(root)s || '/' || l.path || '/' || f.name
    FROM catalog.file AS f JOIN catalog.directory_location AS l USING (directory_id)
) TO STDOUT
"""


class Sums(msgspec.Struct, frozen=True):
    findings: int
    counts: dict[str, int]


class Run(msgspec.Struct, frozen=True):
    wall_s: float
    peak_bytes: int  # Of the command's process.
    server_bytes: int  # The most that the server's process had resident meanwhile.
    sums: Sums


def measure(report: Report, service: Service, size: str) -> None:
    count = FILES[size]
    work = service.work / "fsck"
    work.mkdir()
    load(service, DIRECTORY, count)
    with service.connect() as conn:
        conn.execute("ANALYZE")
        faulty = _faulty(conn)
        write_dump(conn, work / "dump.txt", str(service.storage_root))
        _copied(conn, NAMES, work / "catalog.txt", root=str(service.storage_root))
    dump = work / "dump.txt"
    report.say(f"{count:,} files on both sides; the dump has {dump.stat().st_size / 1e6:,.0f} MB")
    peer = count / by_hand(work, dump)
    report.figure(f"{count:,} files, {PEER}", peer, "files/s")
    service.spinor("login", "--group", "demo_admins")
    words = ["--se", "local", "--dump", str(dump), "--margin", "0", "--work", str(work)]
    found = run(service, [*words, "--report", str(work / "storage.parquet")])
    _tell(report, f"{count:,} files, the catalog against a dump", found, count, peer)
    told = {kind: found.sums.counts.get(kind) for kind in faulty}
    if told != faulty:
        raise AssertionError(f"there are {faulty}, and found are {told}")
    proved = run(service, ["--report", str(work / "invariants.parquet")])
    _tell(report, f"{count:,} files, the catalog against itself", proved, count)
    if proved.sums.findings:
        raise AssertionError(f"the catalog does not agree with itself: {proved.sums.counts}")


def _tell(report: Report, words: str, found: Run, count: int, peer: float | None = None) -> None:
    report.figure(words, count / found.wall_s, "files/s", PEER if peer else None, peer)
    report.figure(f"{words}: wall time", found.wall_s, "s")
    report.figure(f"{words}: peak memory of the command", found.peak_bytes / (1 << 20), "MiB")
    report.figure(f"{words}: peak memory of the server's process", found.server_bytes / (1 << 20), "MiB")


def run(service: Service, words: list[str]) -> Run:
    """`spinor file fsck` in a process of its own."""
    server = service.pid_of("server")
    most = 0
    over = threading.Event()

    def watch() -> None:
        nonlocal most
        while not over.wait(0.05):
            most = max(most, _resident_bytes(server))

    watching = threading.Thread(target=watch)
    watching.start()
    started = time.perf_counter()
    try:
        with subprocess.Popen(
            [*SPINOR, "file", "fsck", "--json", *words], env=service.environ, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            answer = process.stdout.read()
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        over.set()
        watching.join()
    wall_s = time.perf_counter() - started
    return Run(wall_s, used.ru_maxrss * 1024, most, msgspec.json.decode(answer, type=Sums))


def _resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def by_hand(work: Path, dump: Path) -> float:
    """Seconds for what a site does without a tool; the catalog's names lie there as text already."""
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
    took = time.perf_counter() - started
    for name in ("dump.cut", "catalog.txt", "dump.cut.sorted", "catalog.txt.sorted", "differences.txt"):
        (work / name).unlink()
    return took


def _faulty(conn: Connection) -> dict[str, int]:
    """How many files of each remainder there are."""
    row = conn.execute(
        """SELECT count(*) FILTER (WHERE file_id %% %(n)s = 0), count(*) FILTER (WHERE file_id %% %(n)s = 1),
                  count(*) FILTER (WHERE file_id %% %(n)s = 2), count(*) FILTER (WHERE file_id %% %(n)s = 3)
           FROM catalog.file""",
        {"n": FAULTY},
    ).fetchone()
    assert row is not None
    return dict(zip(("dark", "lost", "size", "checksum"), (int(str(value)) for value in row), strict=True))


def write_dump(conn: Connection, path: Path, root: str) -> None:
    row = conn.execute("SELECT min(directory_id), max(directory_id) FROM catalog.directory").fetchone()
    assert row is not None
    first, last = (int(str(value)) for value in row)
    path.write_bytes(b"")
    for start in reversed(range(first, last + 1, DIRECTORIES)):
        _copied(conn, DUMP, path, root=root, faulty=FAULTY, first=start, last=start + DIRECTORIES - 1)


def _copied(conn: Connection, statement: str, path: Path, **values: object) -> None:
    with open(path, "ab") as file, conn.cursor() as cursor, cursor.copy(statement.encode(), values) as copy:
        file.writelines(copy)
