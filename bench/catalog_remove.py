"""How fast files go, one thousand a call and whole trees in the background, and what everybody else feels of it.

The peer is a DELETE of as many like rows of the table of files in the same run, a thousand or twenty thousand of
them in a transaction, by one session that looks at nothing else: no rights, no counters, no feed, no bytes to delete.
"""

import itertools
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.catalog_load import BATCH_ROWS, PER_DIRECTORY, Connection, batches, body, load, send, timed
from bench.figures import Report, median, percentile
from bench.service import Service, operations
from bench.wire import Wire

FILES = {"trial": 2000, "small": 50_000, "full": 1_000_000}
CALLS = {"trial": 2, "small": 20, "full": 100}
IDLE_S = {"trial": 0.5, "small": 5.0, "full": 10.0}
LOOKED_UP = 2000
PEER = "bare DELETE of as many like rows in this run"


def measure(report: Report, service: Service, size: str) -> None:
    service.apply(operations(service, max_pilots=0))
    load(service, "/demo/stays", LOOKED_UP)
    _calls(report, service, CALLS[size])
    _trees(report, service, FILES[size], IDLE_S[size])
    _small_directories(report, service, FILES[size] // 20)


def _calls(report: Report, service: Service, calls: int) -> None:
    for name in ("called", "deleted"):
        load(service, f"/demo/{name}", calls * PER_DIRECTORY)
    with service.connect() as conn, service.wire(service.token()) as wire:
        requests = [
            wire.request("/api/files/remove", json.dumps({"paths": lfns, "bytes": "delete"}).encode())
            for lfns in _by_directory(conn, "/demo/called")
        ]
        conn.execute("CHECKPOINT")
        took = [timed(lambda request=request: wire.send(request)) for request in requests]  # type: ignore[misc]
        ids = _directory_ids(conn, "/demo/deleted")
        conn.execute("CHECKPOINT")
        bare = [timed(lambda part=[one]: _delete(conn, part)) for one in ids]  # type: ignore[misc]
    report.figure(
        f"remove {PER_DIRECTORY:,} files a call over HTTPS, one connection", PER_DIRECTORY / median(took), "files/s",
        PEER, PER_DIRECTORY / median(bare),
    )  # fmt: skip


def _trees(report: Report, service: Service, files: int, idle_s: float) -> None:
    for name in ("bytes", "names", "bare"):
        load(service, f"/demo/{name}", files)
    with service.connect() as conn:
        with _look_ups(service, conn) as idle:
            time.sleep(idle_s)
        ids = _directory_ids(conn, "/demo/bare")
        step = BATCH_ROWS // PER_DIRECTORY
        conn.execute("CHECKPOINT")
        bare = files / timed(lambda: _delete_all(conn, [ids[n : n + step] for n in range(0, len(ids), step)]))
        for name, fate, words in (("bytes", "delete", ""), ("names", "keep", " --catalog-only")):
            conn.execute("CHECKPOINT")
            with _look_ups(service, conn) as during:
                took = timed(lambda name=name, fate=fate: _operation(service, f"/demo/{name}", fate))  # type: ignore[misc]
            report.figure(f"rm -r{words} of {files:,} files in the background", files / took, "files/s", PEER, bare)
            for percent in (50, 99):
                now, before = percentile(during, percent) * 1e3, percentile(idle, percent) * 1e3
                report.figure(f"one look-up while rm -r{words} runs, p{percent}", now, "ms", "idle service", before)
        _check_empty(conn)


def _small_directories(report: Report, service: Service, directories: int) -> None:
    """A tree of many directories with one file each."""
    registered = 0
    for table in batches(0, max(1, directories // PER_DIRECTORY)):
        names = table["name"].to_pylist()
        paths = [f"d{registered + n:08d}" for n in range(len(names))]
        registered += len(names)
        table = table.set_column(table.schema.get_field_index("path"), "path", [paths])
        send(service, "/demo/many", [body(table)], 1)
    took = timed(lambda: _operation(service, "/demo/many", "keep"))
    report.figure(f"rm -r of {registered:,} directories with one file each", registered / took, "directories/s")


def _operation(service: Service, path: str, fate: str) -> None:
    """Ask for it and look on until it has ended, as the command does."""
    with service.wire(service.token()) as wire:
        asked = {"kind": "remove", "paths": [path], "bytes": fate}
        found: dict[str, Any] = json.loads(wire.post("/api/file-operations", json.dumps(asked).encode()))
        ids = json.dumps({"limit": 1}).encode()
        while found["ended_at"] is None:
            time.sleep(0.1)
            found = json.loads(wire.post("/api/file-operations/search", ids))["rows"][0]
    if found["state"] != "done" or found["refused"]:
        raise AssertionError(f"the operation should be done with nothing refused, and is: {found}")


@contextmanager
def _look_ups(service: Service, conn: Connection) -> Iterator[list[float]]:
    """The seconds that each single look-up takes, one after the other, while the block runs."""
    lfns = next(_by_directory(conn, "/demo/stays"))
    took: list[float] = []
    errors: list[Exception] = []
    over = threading.Event()

    def look(wire: Wire) -> None:
        requests = [wire.request("/api/files/stat", json.dumps({"paths": [lfn]}).encode()) for lfn in lfns]
        try:
            for request in itertools.cycle(requests):
                if over.is_set():
                    return
                took.append(timed(lambda request=request: wire.send(request)))  # type: ignore[misc]
                time.sleep(0.002)
        except Exception as error:  # noqa: BLE001  Raised again by the thread that waits.
            errors.append(error)

    with service.wire(service.token()) as wire:
        for _ in range(5):
            wire.post("/api/files/stat", json.dumps({"paths": [lfns[0]]}).encode())
        thread = threading.Thread(target=look, args=(wire,))
        thread.start()
        try:
            yield took
        finally:
            over.set()
            thread.join()
    if errors:
        raise errors[0]


def _by_directory(conn: Connection, top: str) -> Iterator[list[str]]:
    rows = conn.execute(
        """SELECT array_agg(d.path || '/' || f.name) FROM catalog.directory AS d JOIN catalog.file AS f
           USING (directory_id) WHERE catalog.is_below(d.path, %s) GROUP BY d.path ORDER BY d.path""",
        (top,),
    ).fetchall()
    for (lfns,) in rows:
        yield list(lfns)  # type: ignore[call-overload]


def _directory_ids(conn: Connection, top: str) -> list[int]:
    rows = conn.execute(
        "SELECT directory_id FROM catalog.directory WHERE catalog.is_below(path, %s) ORDER BY path", (top,)
    ).fetchall()
    return [int(str(row[0])) for row in rows]


def _delete(conn: Connection, directory_ids: list[int]) -> None:
    conn.execute("DELETE FROM catalog.file WHERE directory_id = ANY (%s)", (directory_ids,))


def _delete_all(conn: Connection, parts: list[list[int]]) -> None:
    for part in parts:
        _delete(conn, part)


def _check_empty(conn: Connection) -> None:
    row = conn.execute(
        """SELECT count(*) FROM catalog.directory AS d JOIN catalog.file AS f USING (directory_id)
           WHERE catalog.is_within(d.path, '/demo/bytes') OR catalog.is_within(d.path, '/demo/names')"""
    ).fetchone()
    if row != (0,):
        raise AssertionError(f"no file should be left, and {row} are")
