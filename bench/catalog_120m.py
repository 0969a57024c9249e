"""120 million files in one go, as EISCAT_3D has them to publish: how long, how large, and whether it slows down.

The small sizes do the same with fewer files. It needs 300 bytes of disk per file, and as much again for a while.
"""

import time
from collections.abc import Iterator

from bench.catalog_load import BATCH_ROWS, PER_DIRECTORY, batches, body, send
from bench.catalog_replicas import measure_look_ups
from bench.figures import Report
from bench.service import Service, operations

FILES = {"trial": 20_000, "small": 1_000_000, "full": 120_000_000}
BATCH = 5 * BATCH_ROWS
YEAR_2020 = "1 million files an hour, the best tool of 2020 (as published)"


def measure(report: Report, service: Service, size: str) -> None:
    service.apply(operations(service, max_pilots=0))
    count = FILES[size]
    marks: list[tuple[int, float]] = [(0, time.perf_counter())]

    def bodies() -> Iterator[bytes]:
        sent = 0
        for table in batches(0, count // PER_DIRECTORY, min(BATCH, count // 10)):
            yield body(table)
            sent += table.num_rows
            marks.append((sent, time.perf_counter()))
            if sent % (count // 20) < table.num_rows:
                started = marks[0][1]
                report.say(f"{sent:,} files after {marks[-1][1] - started:.0f} s")

    took = send(service, "/demo/base", bodies(), 2)
    report.figure(
        f"{count:,} files registered over HTTPS, two connections", count / took, "files/s", YEAR_2020, 1e6 / 3600
    )
    report.figure("the whole of it", took / 60, "min", "goal", 20.0 * count / 120_000_000)
    first, last = _rate(marks, 0.0, 0.1), _rate(marks, 0.9, 1.0)
    report.figure("rate over the last tenth", last, "files/s", "the first tenth in this run", first)
    with service.connect() as conn:
        row = conn.execute(
            """SELECT sum(pg_total_relation_size('catalog.' || t)) / (SELECT sum(file_count) FROM catalog.directory)
                 FROM unnest('{file,directory,directory_usage,directory_location,change}'::text[]) AS t"""
        ).fetchone()
        assert row is not None
        report.figure("on disk, with all indexes, one replica each", float(str(row[0])), "bytes/file", "goal", 300.0)
        report.say("analysing")
        conn.execute("VACUUM ANALYZE catalog.file, catalog.directory, catalog.directory_usage")
    measure_look_ups(report, service, size, count)


def _rate(marks: list[tuple[int, float]], start: float, end: float) -> float:
    total = marks[-1][0]
    first = next(mark for mark in marks if mark[0] >= start * total)
    last = next(mark for mark in marks if mark[0] >= end * total)
    return (last[0] - first[0]) / (last[1] - first[1])
