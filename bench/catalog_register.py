"""How fast a tree of small files is published, and how far that is from what PostgreSQL can take at all.

The peer is a COPY of the same rows, encoded beforehand, into the same tables with the same indexes and foreign keys, in
one transaction, by one session: it scans nothing, checks nothing and asks nobody. Each round uses new directories, so
that all ways find the tables alike; a checkpoint goes before each of them.
"""

import json
import random
import threading
import time
import urllib.parse
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import LiteralString

import psycopg

from bench.figures import Report, median
from bench.service import Service, operations
from spinor.catalog.cli.scanning import BATCH_ROWS, Chunk, encoded

FILES = {"trial": 2000, "small": 20_000, "full": 200_000}
PER_DIRECTORY = 1000
ROUNDS = {"trial": 1, "small": 3, "full": 3}
CONNECTIONS = 2  # As the command has them.
COPY = "bare binary COPY of the same rows in this run"

Connection = psycopg.Connection[tuple[object, ...]]


def measure(report: Report, service: Service, size: str) -> None:
    count = FILES[size]
    service.apply(operations(service, max_pilots=0))
    tree = service.storage_root / "published"
    took = _timed(lambda: make_tree(tree, count))
    report.say(f"{count:,} files of 64 to 1,024 bytes are written in {took:.1f} s; they are in the page cache now")
    chunks = _chunks(tree)
    rates: dict[str, list[float]] = defaultdict(list)
    used: dict[str, list[float]] = defaultdict(list)
    for n in range(ROUNDS[size]):
        report.say(f"round {n + 1} of {ROUNDS[size]}")
        _round(service, tree, chunks, n, rates, used)
    _tell(report, count, rates, used)


def _round(
    service: Service, tree: Path, chunks: list[Chunk], n: int,
    rates: dict[str, list[float]], used: dict[str, list[float]],
) -> None:  # fmt: skip
    count = sum(len(chunk.names) for chunk in chunks)
    token = service.token()
    bodies = [encoded(batch) for batch in _batches(chunks)]
    with service.connect() as conn:
        for way, work in (
            ("plain", lambda: _command(service, tree, f"plain{n}", count)),
            ("again", lambda: _command(service, tree, f"plain{n}", 0)),
            ("adler32", lambda: _command(service, tree, f"checked{n}", count, "--checksum", "adler32")),
            ("batches", lambda: _post_batches(service, token, bodies, f"batches{n}")),
        ):
            conn.execute("CHECKPOINT")
            before = service.used_s()
            rates[way].append(count / _timed(work))
            for process, start, end in zip(("server", "PostgreSQL"), before, service.used_s(), strict=True):
                used[f"{way}, {process}"].append((end - start) * 1e6 / count)
        rates["copy"].append(count / _copy(service, conn, token, f"/demo/batches{n}", f"/demo/copied{n}"))


def _tell(report: Report, count: int, rates: dict[str, list[float]], used: dict[str, list[float]]) -> None:
    files = f"{count:,} files"
    copied = median(rates["copy"])
    report.figure(f"{files}, {COPY}", copied, "files/s")
    for way, words in (
        ("plain", f"{files}, register-directory, the whole command"),
        ("adler32", f"{files}, register-directory --checksum adler32, the whole command"),
        ("again", f"{files}, register-directory a second time: nothing new"),
        ("batches", f"{files}, batches of {BATCH_ROWS:,} over HTTPS, without scanning"),
    ):
        report.figure(words, median(rates[way]), "files/s", COPY, copied)
        for process in ("server", "PostgreSQL"):
            report.figure(f"{words}: {process}'s processor time", median(used[f"{way}, {process}"]), "us/file")


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


def _chunks(tree: Path) -> list[Chunk]:
    """What a scan finds, directory by directory."""
    chunks = []
    for directory in sorted(tree.iterdir()):
        files = sorted(directory.iterdir())
        sizes = [file.stat().st_size for file in files]
        nothing: list[None] = [None] * len(files)
        chunks.append(Chunk(directory.name, [file.name for file in files], sizes, [*nothing], [*nothing]))
    return chunks


def _batches(chunks: list[Chunk]) -> list[list[Chunk]]:
    size = BATCH_ROWS // PER_DIRECTORY
    return [chunks[n : n + size] for n in range(0, len(chunks), size)]


def _timed(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _command(service: Service, tree: Path, name: str, expected: int, *words: str) -> None:
    out = service.spinor("file", "register-directory", str(tree), f"/demo/{name}", "--se", "local", "--json", *words)
    sums = json.loads(out.splitlines()[-1])
    if sums["registered"] != expected:
        raise AssertionError(f"{expected:,} files should be new, and {sums['registered']:,} were")


def _post_batches(service: Service, token: str, bodies: list[bytes], name: str) -> None:
    query = urllib.parse.urlencode({"directory": f"/demo/{name}", "se": "local", "prefix": "published"})
    errors: list[Exception] = []

    def post(mine: list[bytes]) -> None:
        try:
            with service.wire(token) as wire:
                for body in mine:
                    wire.post(f"/api/files/register-batch?{query}", body, "application/vnd.apache.arrow.stream")
        except Exception as error:  # noqa: BLE001  Raised again by the thread that waits.
            errors.append(error)

    threads = [threading.Thread(target=post, args=(bodies[n::CONNECTIONS],)) for n in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _copy(service: Service, conn: Connection, token: str, source: str, target: str) -> float:
    """Put the rows of one tree there again below another one. Only the two COPYs and the commit are timed."""
    _make_directories(service, conn, token, source, target)
    names = {"source": source, "target": target, "first": _first_file_id(conn, source)}
    files = _encoded(conn, _FILES, names)
    conn.execute("CHECKPOINT")
    started = time.perf_counter()
    with conn.transaction(), conn.cursor() as cursor, cursor.copy(_COPY) as copy:
        for part in files:
            copy.write(part)
    return time.perf_counter() - started


def _make_directories(service: Service, conn: Connection, token: str, source: str, target: str) -> None:
    rows = conn.execute("SELECT path FROM catalog.directory WHERE path LIKE %s", (f"{source}/%",)).fetchall()
    paths = [target + str(path).removeprefix(source) for (path,) in rows]
    with service.wire(token) as wire:
        wire.post("/api/directories", json.dumps({"paths": paths}).encode())


def _first_file_id(conn: Connection, source: str) -> object:
    """Reserve as many ids as the tree has files; blocks of a thousand follow each other when nobody else asks."""
    row = conn.execute(
        """SELECT min(block) FROM (
               SELECT nextval('catalog.file_id_blocks') AS block FROM generate_series(1, (
                   SELECT sum(file_count)::bigint / 1000 + 1 FROM catalog.directory WHERE path LIKE %s))) AS blocks""",
        (f"{source}/%",),
    ).fetchone()
    assert row is not None
    return row[0]


# The rows of one tree as those of the other: new ids in the same order, and GUIDs that are new and ascend as the old.
_SAME = """
    FROM catalog.directory AS old
    JOIN catalog.directory AS new ON new.path = %(target)s::text || substr(old.path, length(%(source)s::text) + 1)
    JOIN catalog.file AS f ON f.directory_id = old.directory_id
   WHERE old.path LIKE %(source)s::text || '/%%'
"""
_NUMBERED = "%(first)s::bigint + row_number() OVER (ORDER BY f.file_id) - 1"
_COLUMNS = "file_id, directory_id, size_bytes, guid, access_id, vo_id, se_ids, name, adler32"
_COPY: LiteralString = f"COPY catalog.file ({_COLUMNS}) FROM STDIN (FORMAT binary)"
_FILES: LiteralString = f"""
  SELECT {_NUMBERED}, new.directory_id, f.size_bytes, overlay(f.guid::text PLACING 'f' FROM 1 FOR 1)::uuid, f.access_id,
         f.vo_id, f.se_ids, f.name, f.adler32 {_SAME} ORDER BY f.file_id
"""


def _encoded(conn: Connection, select: LiteralString, names: dict[str, object]) -> list[bytes]:
    """The rows as PostgreSQL itself encodes them, in parts of about 256 kB."""
    parts, part = [], bytearray()
    with conn.cursor() as cursor, cursor.copy(f"COPY ({select}) TO STDOUT (FORMAT binary)", names) as copy:
        for data in copy:
            part += data
            if len(part) > 1 << 18:
                parts.append(bytes(part))
                part.clear()
    return [*parts, bytes(part)]
