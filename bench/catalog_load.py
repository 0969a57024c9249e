"""Files by the million for the catalog's benchmarks.

Bodies for `register-batch`, the way to send them over several connections, and the bare COPY of the same rows.
"""

import functools
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import LiteralString

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from bench.service import Service
from spinor.catalog import copying

PER_DIRECTORY = 1000
BATCH_ROWS = 20_000
ARROW = "application/vnd.apache.arrow.stream"
_SUFFIXES = pa.array([f"-evt{n:05d}.raw" for n in range(PER_DIRECTORY)])
_TOKEN_S = 600  # A token lives for 20 minutes.

Connection = psycopg.Connection[tuple[object, ...]]


def batches(first_directory: int, directories: int, rows: int = BATCH_ROWS) -> Iterator[pa.Table]:
    """Batches of whole directories: 23 characters of name, size, adler32, a time-ordered GUID."""
    step = rows // PER_DIRECTORY
    for start in range(first_directory, first_directory + directories, step):
        numbers = np.arange(start, min(start + step, first_directory + directories))
        yield _batch(numbers, PER_DIRECTORY)


def _batch(numbers: "np.typing.NDArray[np.int64]", per_directory: int) -> pa.Table:
    count = len(numbers) * per_directory
    runs = pa.array([f"run{n:07d}" for n in numbers.tolist()])
    index = pa.array(np.repeat(np.arange(len(numbers), dtype=np.int32), per_directory))
    suffixes = _SUFFIXES.take(pa.array(np.tile(np.arange(per_directory), len(numbers))))
    chance = np.random.default_rng(int(numbers[0]))
    return pa.table(
        {
            "path": pa.DictionaryArray.from_arrays(index, runs),
            "name": pc.binary_join_element_wise(runs.take(index), suffixes, ""),
            "size_bytes": chance.integers(0, 1 << 32, count, dtype=np.int64),
            "adler32": chance.integers(0, 1 << 32, count, dtype=np.int64),
            "guid": guids(count),
        }
    )


def name_of(directory: int, n: int) -> str:
    return f"run{directory:07d}-evt{n:05d}.raw"


@functools.lru_cache(maxsize=64)
def _first_of(number: int) -> pa.Table:
    return _batch(np.arange(number, number + BATCH_ROWS // PER_DIRECTORY), PER_DIRECTORY)


def known_file(directory: int, n: int) -> tuple[str, int, int]:
    """Name, size and adler32 of a file that `load` has registered."""
    first = directory - directory % (BATCH_ROWS // PER_DIRECTORY)
    table, row = _first_of(first), (directory - first) * PER_DIRECTORY + n
    return name_of(directory, n), table["size_bytes"][row].as_py(), table["adler32"][row].as_py()


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def guids(count: int) -> pa.Array:
    data = copying.new_guids(count)
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), count, [None, pa.py_buffer(data)])


def body(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def address(directory: str) -> str:
    query = urllib.parse.urlencode({"directory": directory, "se": "local", "prefix": directory.strip("/")})
    return f"/api/files/register-batch?{query}"


def send(
    service: Service, directory: str, bodies: Iterable[bytes], in_flight: int, answers: list[bytes] | None = None
) -> float:
    """Register the bodies over so many connections, each with one request at a time; the seconds it took."""
    turn = threading.Lock()
    errors: list[BaseException] = []
    queue = iter(bodies)
    path = address(directory)

    def work() -> None:
        try:
            while not errors:
                with service.wire(service.token()) as wire:
                    end = time.monotonic() + _TOKEN_S
                    while time.monotonic() < end:
                        with turn:
                            mine = next(queue, None)
                        if mine is None:
                            return
                        answer = wire.post(path, mine, ARROW)
                        if answers is not None:
                            answers.append(answer)
        except Exception as error:  # noqa: BLE001  Raised again by the thread that waits.
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(in_flight)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return time.perf_counter() - started


def load(service: Service, directory: str, files: int) -> None:
    """Fill the catalog, so that what is measured is measured on a large one."""
    send(service, directory, (body(table) for table in batches(0, files // PER_DIRECTORY)), 2)
    with service.connect() as conn:
        conn.execute("VACUUM ANALYZE catalog.file, catalog.directory, catalog.directory_usage")


class BareCopy:
    """The peer: the same rows into the same table, encoded beforehand, one COPY and one commit per batch.

    Their directories are only numbers; nothing else is written or looked at.
    """

    def __init__(self, service: Service, conn: Connection) -> None:
        self.conn = conn
        row = conn.execute(
            """SELECT d.vo_id, f.access_id, f.se_ids[1] FROM catalog.file AS f JOIN catalog.directory AS d
               USING (directory_id) LIMIT 1"""
        ).fetchone()
        assert row is not None
        self.vo_id, self.access_id, self.se_id = (int(str(value)) for value in row)

    def encoded(
        self, table: pa.Table, directories: "np.typing.NDArray[np.int64] | None" = None
    ) -> tuple[str, list[bytes]]:
        """The rows of a batch, in these directories or in new ones."""
        count = table.num_rows
        codes = table["path"].combine_chunks().indices.to_numpy()
        if directories is None:
            sequence: LiteralString = "pg_get_serial_sequence('catalog.directory', 'directory_id')"
            directories = self._next(sequence, int(codes.max()) + 1)
        blocks = self._next("'catalog.file_id_blocks'", -(-count // 1000))
        files = pa.table(
            {
                "file_id": pa.array((blocks[:, None] + np.arange(1000)).reshape(-1)[:count]),
                "directory_id": pa.array(directories[codes]),
                "name": table["name"],
                "size_bytes": table["size_bytes"],
                "guid": guids(count),
                "access_id": pa.array(np.full(count, self.access_id)),
                "se_id": pa.array(np.full(count, self.se_id)),
                "adler32": table["adler32"],
                "sha256": pa.nulls(count, pa.binary()),
                "pfn": pa.nulls(count, pa.string()),
                "metadata": pa.nulls(count, pa.string()),
                "created_at": pa.nulls(count, pa.timestamp("us", "UTC")),
            }
        )
        columns, parts = copying.encode_files(files, vo_id=self.vo_id)
        return ", ".join(columns), [bytes(part) for part in parts]

    def _next(self, sequence: LiteralString, count: int) -> "np.typing.NDArray[np.int64]":
        rows = self.conn.execute(f"SELECT nextval({sequence}) FROM generate_series(1, %s)", (count,)).fetchall()
        return np.array([row[0] for row in rows])

    def run(self, encoded: Sequence[tuple[str, list[bytes]]]) -> float:
        started = time.perf_counter()
        for columns, parts in encoded:
            statement = f"COPY catalog.file ({columns}) FROM STDIN (FORMAT binary)"
            with self.conn.cursor() as cursor, cursor.copy(statement.encode()) as copy:
                for part in parts:
                    copy.write(part)
        return time.perf_counter() - started
