"""Spread the rows of a stream over files by a hash of their PFN, so that each part fits into memory."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa

from spinor.errors import Unavailable

# 10 million rows a side make parts of 80,000, and a thousand million make parts that still fit below a gigabyte.
PARTS = 128
_GATHERED_ROWS = 1 << 18  # Rows that are spread at once: a part gets about 2,000 of them in one go.
_JOINED_ROWS = 200_000  # Parts of few rows are worked on together: each costs about 5 ms whatever is in it.
_HASHED_ROWS = 1 << 14
_SHIFT = np.uint32(32 - PARTS.bit_length() + 1)
_SPREAD = np.uint32(2654435761)  # Knuth's multiplicative hash: 2^32 divided by the golden ratio.
# A random number per byte value. The seed is fixed, since both sides must agree and nobody gains by a bad spread.
_RANDOM = np.random.default_rng(20261127).integers(0, 2**32, 256, dtype=np.uint32)
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


class NoRoomToCompare(Unavailable):
    """There is no room for temporary files; name a directory with more room by --work."""

    status, code = 507, "no-room-to-compare"


def part_numbers(names: pa.StringArray) -> Any:
    """The part of each name, as a numpy array of uint8.

    The sum of a random number per byte: blind for the order of the bytes, which spreads names well enough, and costs
    less than reading them.
    """
    if not len(names):
        return np.zeros(0, np.uint8)
    # By pieces that stay in the processor's cache.
    return np.concatenate([_numbers(names[n : n + _HASHED_ROWS]) for n in range(0, len(names), _HASHED_ROWS)])


def _numbers(names: pa.StringArray) -> Any:
    count = len(names)
    _, offset_buffer, data_buffer = names.buffers()
    if data_buffer is None:
        return np.zeros(count, np.uint8)
    offsets = np.frombuffer(offset_buffer, np.int32)[names.offset : names.offset + count + 1]
    data = np.frombuffer(data_buffer, np.uint8)[offsets[0] : offsets[-1]]
    filled = np.flatnonzero(offsets[1:] > offsets[:-1])  # What `reduceat` gives for nothing is not nothing.
    sums = np.zeros(count, np.uint32)
    if len(filled):
        sums[filled] = np.add.reduceat(_RANDOM[data], offsets[:-1][filled] - offsets[0], dtype=np.uint32)
    return ((sums * _SPREAD) >> _SHIFT).astype(np.uint8)


class Parts:
    """One side, spread over files in a directory. Write everything, then read part by part."""

    def __init__(self, directory: Path, schema: pa.Schema) -> None:
        self.directory = directory
        self.schema = schema
        self.sizes = np.zeros(PARTS, np.int64)  # Rows of each part.
        self._gathered: list[pa.RecordBatch] = []
        self._gathered_rows = 0
        self._files: dict[int, tuple[Any, Any]] = {}
        directory.mkdir()

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoRoomToCompare(
                f"There is no room left below {self.directory.parent} to compare; "
                "name a directory with more room by --work."
            ) from error

    def write_all(self, batches: Iterable[pa.RecordBatch]) -> None:
        for batch in batches:
            self._gathered.append(batch)
            self._gathered_rows += batch.num_rows
            if self._gathered_rows >= _GATHERED_ROWS:
                self._spread()
        self._spread()
        for file, writer in self._files.values():
            writer.close()
            file.close()
        self._files.clear()

    def _spread(self) -> None:
        if not self._gathered_rows:
            return
        rows = pa.Table.from_batches(self._gathered, self.schema).combine_chunks()
        self._gathered, self._gathered_rows = [], 0
        for batch in rows.to_batches():
            numbers = part_numbers(batch.column("pfn"))
            spread = batch.take(pa.array(np.argsort(numbers, kind="stable")))
            sizes = np.bincount(numbers, minlength=PARTS)
            ends = np.cumsum(sizes)
            self.sizes += sizes
            for part, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
                if end > start:
                    self._writer(part).write_batch(spread.slice(start, end - start))

    def _writer(self, part: int) -> Any:
        if part not in self._files:
            file = pa.OSFile(str(self.directory / f"{part}.arrow"), "wb")
            self._files[part] = file, pa.ipc.new_stream(file, self.schema, options=_OPTIONS)
        return self._files[part][1]

    @property
    def rows(self) -> int:
        return int(self.sizes.sum())

    def read(self, parts: range) -> pa.Table:
        """The rows of these parts, each column in one piece; their files are deleted."""
        return pa.concat_tables([self._read(part) for part in parts]).combine_chunks()

    def _read(self, part: int) -> pa.Table:
        path = self.directory / f"{part}.arrow"
        if not self.sizes[part]:
            return self.schema.empty_table()
        with pa.OSFile(str(path), "rb") as file, pa.ipc.open_stream(file) as reader:
            rows = reader.read_all()
        path.unlink()
        return rows


def together(*sides: Parts) -> Iterator[range]:
    """All parts, in runs of neighbours that are worth working on at once."""
    rows = np.sum([side.sizes for side in sides], axis=0)
    start, gathered = 0, 0
    for part in range(PARTS):
        gathered += int(rows[part])
        if gathered >= _JOINED_ROWS or part == PARTS - 1:
            yield range(start, part + 1)
            start, gathered = part + 1, 0


def ahead(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same batches, read by a thread of their own while the last ones are worked on."""
    import queue
    import threading

    waiting: queue.Queue[pa.RecordBatch | BaseException | None] = queue.Queue(maxsize=4)
    stop = threading.Event()

    def put(thing: pa.RecordBatch | BaseException | None) -> None:
        while not stop.is_set():
            try:
                waiting.put(thing, timeout=0.2)
                return
            except queue.Full:
                continue

    def read() -> None:
        try:
            for batch in batches:
                put(batch)
                if stop.is_set():
                    return
            put(None)
        except BaseException as error:  # noqa: BLE001  Raised again by the thread that works.
            put(error)

    threading.Thread(target=read, name="read-ahead", daemon=True).start()
    try:
        while (thing := waiting.get()) is not None:
            if isinstance(thing, BaseException):
                raise thing
            yield thing
    finally:
        stop.set()
