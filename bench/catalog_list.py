"""How long one looks at a name, at a page of ten thousand entries, and at a directory of a million of them, over HTTPS.

The peer of a whole listing is the bare SELECT of what it says of files, through psycopg, in the same run and in turns.
"""

import json
import time
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench import catalog_load
from bench.catalog_load import Connection, timed
from bench.figures import Report, median, percentile
from bench.service import Service, operations
from spinor.client import Client

ENTRIES = {"trial": 2_000, "small": 100_000, "full": 1_000_000}
PAGE = 10_000
REPEATS = {"trial": 3, "small": 200, "full": 500}
PAGES = {"trial": 2, "small": 20, "full": 50}
ROUNDS = {"trial": 1, "small": 3, "full": 3}
LARGE, OF_A_PAGE = "/demo/large", "/demo/page"
BARE = "the bare SELECT of the same columns through psycopg, in this run"
_PIECE_BYTES = 1 << 20


def measure(report: Report, service: Service, size: str) -> None:
    service.apply(operations(service, max_pilots=0))
    entries, of_a_page = ENTRIES[size], min(PAGE, ENTRIES[size])
    report.say(f"filling a directory with {entries:,} files and one with {of_a_page:,}")
    for directory, count in ((LARGE, entries), (OF_A_PAGE, of_a_page)):
        catalog_load.send(service, directory, map(catalog_load.body, _batches(count)), 2)
    with service.connect() as conn:
        conn.execute("VACUUM ANALYZE catalog.file, catalog.directory, catalog.directory_usage")
        _looks(report, service, size, of_a_page)
        _whole(report, service, conn, size)


def _batches(count: int) -> Iterator[pa.Table]:
    """All in one directory."""
    for start in range(0, count, catalog_load.BATCH_ROWS):
        numbers = np.arange(start, min(start + catalog_load.BATCH_ROWS, count))
        chance = np.random.default_rng(start)
        digits = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 9, "0")
        yield pa.table(
            {
                "path": pa.array([""] * len(numbers)).dictionary_encode(),
                "name": pc.binary_join_element_wise("event-", digits, ".dat", ""),
                "size_bytes": chance.integers(0, 1 << 32, len(numbers), dtype=np.int64),
                "adler32": chance.integers(0, 1 << 32, len(numbers), dtype=np.int64),
                "guid": catalog_load.guids(len(numbers)),
            }
        )


def _looks(report: Report, service: Service, size: str, of_a_page: int) -> None:
    entries = ENTRIES[size]
    with service.wire(service.token()) as wire:
        looks: list[tuple[str, str, dict[str, object], int, int]] = [
            ("one stat", "/api/files/stat", {"paths": [f"{LARGE}/event-{entries // 2:09d}.dat"]}, 1, REPEATS[size]),
            (
                f"one list of {of_a_page:,} entries with details", "/api/files/list",
                {"path": OF_A_PAGE, "limit": PAGE}, of_a_page, PAGES[size],
            ),
            (
                f"the first page, 1,000 entries, of a directory of {entries:,}", "/api/files/list",
                {"path": LARGE, "limit": 1000}, 1000, PAGES[size],
            ),
        ]  # fmt: skip
        for metric, address, body, rows, repeats in looks:
            request = wire.request(address, json.dumps(body).encode())
            answer = json.loads(wire.send(request))
            if len(answer if isinstance(answer, list) else answer["rows"]) != rows:
                raise AssertionError(f"{metric} should give {rows:,} rows")
            times = [timed(lambda: wire.send(request)) * 1000 for _ in range(repeats)]  # noqa: B023
            report.figure(f"{metric}, HTTPS: median", median(times), "ms")
            report.figure(f"{metric}, HTTPS: 95th percentile", percentile(times, 95), "ms")


def _whole(report: Report, service: Service, conn: Connection, size: str) -> None:
    entries = ENTRIES[size]
    client = service.client(service.token())
    ways: dict[str, Callable[[], tuple[int, float]]] = {
        "bare": lambda: (_select(conn), 0.0),
        "stream": lambda: _stream(client, "/api/files/list/stream", {"path": LARGE}, None),
        "dump": lambda: _stream(client, "/api/storage-elements/local/dump", None, {"format": "csv", "path": LARGE}),
    }
    rates: dict[str, list[float]] = {way: [] for way in ways}
    first_s: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(ROUNDS[size]):
        for way, work in ways.items():
            started = time.perf_counter()
            lines, first = work()
            rates[way].append(entries / (time.perf_counter() - started))
            first_s[way].append(first * 1000)
            if lines != entries + (way == "dump"):
                raise AssertionError(f"{way} gives {lines:,} rows of {entries:,}")
    bare = median(rates["bare"])
    for way, words in (
        ("stream", f"a directory of {entries:,} streamed as JSON lines, HTTPS"),
        ("dump", f"{entries:,} replicas dumped as CSV, HTTPS"),
    ):
        report.figure(words, median(rates[way]), "rows/s", BARE, bare)
        report.figure(f"{words}: until the first piece", median(first_s[way]), "ms")


def _select(conn: Connection) -> int:
    rows = conn.execute(
        """SELECT f.name, f.size_bytes, f.adler32, f.access_id, f.created_at
             FROM catalog.file AS f JOIN catalog.directory AS d USING (directory_id)
            WHERE d.path = %s ORDER BY f.name""",
        (LARGE,),
    ).fetchall()
    return len(rows)


def _stream(
    client: Client, path: str, body: dict[str, object] | None, query: dict[str, str] | None
) -> tuple[int, float]:
    """Lines, and seconds until the first of them; by the client of the product, on a new connection."""
    lines, first, started = 0, 0.0, time.perf_counter()
    with client.stream(path, query, body=body) as answer:
        while piece := answer.read1(_PIECE_BYTES):
            first = first or time.perf_counter() - started
            lines += piece.count(b"\n")
    return lines, first
