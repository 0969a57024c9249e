"""Tables of metadata on this machine, as the batches that the server takes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from spinor.errors import BadInput

BATCH_ROWS = 20_000
_SCHEMA = pa.schema([("lfn", pa.string()), ("metadata", pa.string())])


def batches_of(table: Path, column: str, below: str) -> Iterator[tuple[bytes, int]]:
    """Arrow streams of lfn and metadata, and how many rows each has. Raises BadInput, naming the line where it can."""
    lfns: list[str | None] = []
    values: list[str] = []
    top = below.rstrip("/")
    for number, row in enumerate(_rows(table), start=1):
        if column not in row:
            raise BadInput(f"{table}, row {number:,}: there is no column {column!r}; name it with --lfn.")
        path = row.pop(column)
        lfns.append(f"{top}/{path}" if top and path is not None else path)
        values.append(msgspec.json.encode(row).decode())
        if len(lfns) == BATCH_ROWS:
            yield _encoded(lfns, values), len(lfns)
            lfns, values = [], []
    if lfns:
        yield _encoded(lfns, values), len(lfns)


def _encoded(lfns: list[str | None], values: list[str]) -> bytes:
    sink = pa.BufferOutputStream()
    batch = pa.table({"lfn": lfns, "metadata": values}, schema=_SCHEMA)
    with pa.ipc.new_stream(sink, _SCHEMA) as stream:
        stream.write_table(batch)
    return bytes(sink.getvalue())


def _rows(table: Path) -> Iterator[dict[str, Any]]:
    try:
        match table.suffix.lower():
            case ".parquet" | ".pq":
                yield from _cells(pa.parquet.ParquetFile(table).iter_batches(BATCH_ROWS))
            case ".csv":
                with pa.csv.open_csv(table) as reader:
                    yield from _cells(reader)
            case ".ndjson" | ".jsonl" | ".json":
                yield from _objects(table)
            case other:
                raise BadInput(f"{table} ends in {other!r}; tables are .parquet, .csv or .ndjson files.")
    except pa.ArrowException as error:
        raise BadInput(f"{table} cannot be read: {str(error)[:200]}") from None


def _cells(batches: Any) -> Iterator[dict[str, Any]]:
    """Times become text, and empty cells are left out."""
    for batch in batches:
        for row in batch.to_pylist():
            yield {name: value for name, value in row.items() if value is not None and value != ""}


def _objects(table: Path) -> Iterator[dict[str, Any]]:
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    with table.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                yield decode(line)
            except msgspec.MsgspecError as error:
                raise BadInput(f"{table}, line {number:,}: {error}") from None
