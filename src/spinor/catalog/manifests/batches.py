"""Checked rows as the bodies of `POST /api/files/register-batch`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from spinor.catalog.manifests.checking import Checked
from spinor.catalog.manifests.rows import Broken
from spinor.catalog.models import BatchCounts
from spinor.client import Client

BATCH_ROWS = 40_000
ARROW = "application/vnd.apache.arrow.stream"
NOTHING = pa.table({
    "path": pa.array([], pa.string()), "name": pa.array([], pa.string()), "size_bytes": pa.array([], pa.int64()),
})  # fmt: skip


@dataclass(frozen=True)
class Batch:
    """What one exchange is about. `tables` are sent one after the other: no LFN comes twice in one of them."""

    tables: list[Any]
    end_line: int  # What is up to here is settled when this batch is acknowledged.
    broken: list[Broken]


@dataclass(frozen=True)
class Acknowledged:
    rows: int
    size_bytes: int
    end_line: int
    broken: list[Broken]
    counts: list[BatchCounts]


def batches(checked: Checked) -> Iterator[Batch]:
    """Parts of about equal size."""
    count = len(checked.lines)
    parts = max(1, -(-count // BATCH_ROWS))
    edges = [count * part // parts for part in range(parts + 1)]
    for start, end in itertools.pairwise(edges):
        last = end == count
        end_line = checked.end_line if last else int(checked.lines[end]) - 1
        # What is broken has its place among the good ones, so that a run that goes on tells nothing twice.
        broken = [fault for fault in checked.broken if fault.line <= end_line]
        if start:
            broken = [fault for fault in broken if fault.line >= int(checked.lines[start])]
        yield Batch(_apart(checked.table.slice(start, end - start)), end_line, broken)


def send(client: Client, batch: Batch, where: dict[str, str]) -> Acknowledged:
    counts = [post(client, table, where) for table in batch.tables]
    return Acknowledged(
        rows=sum(table.num_rows for table in batch.tables),
        size_bytes=sum(int(np.sum(table["size_bytes"].to_numpy())) for table in batch.tables),
        end_line=batch.end_line,
        broken=batch.broken,
        counts=counts,
    )


def post(client: Client, table: Any, where: dict[str, str]) -> BatchCounts:
    body = encoded(table)
    answer = client.request("POST", "/api/files/register-batch", body, query=where, headers={"content-type": ARROW})
    return msgspec.json.decode(answer[1], type=BatchCounts)


def encoded(table: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _apart(table: Any) -> list[Any]:
    """The rows with directory and name; those whose LFN was there before, as further replicas are, in later tables."""
    tables = []
    while table.num_rows:
        lfns = table["lfn"].combine_chunks()
        lfns = lfns.chunk(0) if isinstance(lfns, pa.ChunkedArray) else lfns
        codes = lfns.dictionary_encode()
        later = None
        if len(codes.dictionary) < len(codes):
            first = np.zeros(len(codes), bool)
            first[np.unique(codes.indices.to_numpy(), return_index=True)[1]] = True
            later, table = table.filter(pa.array(~first)), table.filter(pa.array(first))
            lfns = table["lfn"].combine_chunks()
        tables.append(_with_names(table, lfns))
        if later is None:
            break
        table = later
    return tables


def _with_names(table: Any, lfns: Any) -> Any:
    path, name = split_paths(lfns)
    rest = [column for column in table.column_names if column != "lfn"]
    return pa.table({"path": path.dictionary_encode(), "name": name, **{column: table[column] for column in rest}})


def split_paths(paths: Any) -> tuple[Any, Any]:
    """Directory (empty if there is none) and name of each path. The texts lie in one buffer, so only edges are found:
    directory, slash and name of each path become three texts in a row over the same buffer."""
    if isinstance(paths, pa.ChunkedArray):
        paths = pa.concat_arrays(paths.chunks) if paths.num_chunks else pa.array([], pa.string())
    count = len(paths)
    if not count:
        return pa.array([], pa.string()), pa.array([], pa.string())
    _, offsets_buffer, data = paths.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32)[paths.offset : paths.offset + count + 1]
    starts, ends = offsets[:-1], offsets[1:]
    slashes = np.flatnonzero(np.frombuffer(data, np.uint8, int(offsets[-1])) == ord("/")) if data else starts[:0]
    last = np.searchsorted(slashes, ends) - 1
    slash = slashes[np.maximum(last, 0)] if len(slashes) else np.full(count, -1)
    inside = (last >= 0) & (slash >= starts)
    edges = np.empty((count, 3), np.int32)
    edges[:, 0] = starts
    edges[:, 1] = np.where(inside, slash, starts)
    edges[:, 2] = np.where(inside, slash + 1, starts)
    texts = pa.StringArray.from_buffers(3 * count, pa.py_buffer(np.append(edges.ravel(), ends[-1])), data)
    places = np.arange(0, 3 * count, 3)
    return texts.take(pa.array(places)), texts.take(pa.array(places + 2))
