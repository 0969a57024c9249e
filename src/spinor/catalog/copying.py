"""Rows as PostgreSQL's binary COPY, encoded by columns: no Python runs per row.

The fixed part of each row is a numpy record in network byte order; Arrow joins it with the parts of variable length.
Source of the format: PostgreSQL, COPY, "Binary Format".
"""

import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
NULL = b"\xff\xff\xff\xff"

Int64s = npt.NDArray[np.int64]
_NUMBER_ARRAY, _TEXT_ARRAY = 23, 25  # The types int4 and text, by PostgreSQL's pg_type.
_EPOCH_US = 946_684_800_000_000  # 2000-01-01, from which PostgreSQL counts.
_HEAD = [
    ("fields", ">i2"),
    ("file_id_len", ">i4"), ("file_id", ">i8"),
    ("directory_id_len", ">i4"), ("directory_id", ">i8"),
    ("size_bytes_len", ">i4"), ("size_bytes", ">i8"),
    ("guid_len", ">i4"), ("guid", "V16"),
    ("access_id_len", ">i4"), ("access_id", ">i4"),
    ("vo_id_len", ">i4"), ("vo_id", ">i4"),
    # An array of one number: dimensions, whether with NULL, type, length, lower bound, and then the element.
    ("se_ids_len", ">i4"), ("dimensions", ">i4"), ("nulls", ">i4"), ("type", ">i4"), ("length", ">i4"),
    ("bound", ">i4"), ("se_id_len", ">i4"), ("se_id", ">i4"),
]  # fmt: skip
_NAME_HEAD = [("name_len", ">i4")]
_ADLER_HEAD = [("adler32_len", ">i4"), ("adler32", ">u4")]
_COLUMNS = ("file_id", "directory_id", "size_bytes", "guid", "access_id", "vo_id", "se_ids", "name")


def new_guids(count: int) -> npt.NDArray[Any]:
    """UUIDs of version 7 (RFC 9562), ascending within one call: time, a counter of 26 bits, 48 random bits.

    Ascending ones cost the guid's index nothing; random ones would be its dearest part.
    """
    counter = np.arange(count, dtype=np.uint64) + np.uint64(secrets.randbelow(1 << 24))
    counter &= np.uint64((1 << 26) - 1)
    random = np.frombuffer(secrets.token_bytes(count * 8), dtype=">u8").astype(np.uint64) >> np.uint64(16)
    milliseconds = np.uint64(time.time_ns() // 1_000_000)
    words = np.empty((count, 2), dtype=">u8")
    words[:, 0] = (milliseconds << np.uint64(16)) | np.uint64(0x7000) | (counter >> np.uint64(14))
    words[:, 1] = np.uint64(1 << 63) | ((counter & np.uint64(0x3FFF)) << np.uint64(48)) | random
    guids: npt.NDArray[Any] = words.view("V16").reshape(count)
    return guids


def encode_files(files: pa.Table, *, vo_id: int) -> tuple[tuple[str, ...], list[bytes | Any]]:
    """The columns of the COPY, and its stream. Each file has one replica.

    Columns: file_id, directory_id, name, size_bytes, guid, access_id and se_id without NULL, and adler32, sha256, pfn,
    metadata (JSON), created_at with NULL; of these, only those in which there is anything are written.
    """
    name = _plain(files["name"]).cast(pa.binary())
    rest = [column for column in ("adler32", "sha256", "pfn", "metadata", "created_at") if _used(files, column)]
    head = np.empty(files.num_rows, np.dtype(_HEAD + _NAME_HEAD))
    head["fields"] = len(_COLUMNS) + len(rest)
    _fill(head, 8, **{field: _numbers(files[field]) for field in ("file_id", "directory_id", "size_bytes")})
    _fill(head, 16, guid=_raw(files["guid"], 16))
    _fill(head, 4, access_id=_numbers(files["access_id"]), vo_id=vo_id, se_id=_numbers(files["se_id"]))
    head["se_ids_len"], head["dimensions"], head["nulls"], head["type"] = 28, 1, 0, _NUMBER_ARRAY
    head["length"] = head["bound"] = 1
    head["name_len"] = _numbers(pc.binary_length(name))
    parts = [_records(head), name, *(_ENCODERS[column](_plain(files[column])) for column in rest)]
    columns = tuple({"pfn": "pfns"}.get(column, column) for column in rest)
    return (*_COLUMNS, *columns), _stream(parts)


def _used(files: pa.Table, column: str) -> bool:
    return bool(files[column].null_count < files.num_rows)


def _fill(records: npt.NDArray[Any], length: int, **fields: Any) -> None:
    for field, values in fields.items():
        records[f"{field}_len"] = length
        records[field] = values


def _numbers(column: Any) -> npt.NDArray[Any]:
    numbers: npt.NDArray[Any] = _plain(column).to_numpy(zero_copy_only=False)
    return numbers


def _plain(column: Any) -> Any:
    if isinstance(column, pa.Array):
        return column
    combined = column.combine_chunks()
    return combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined


def _raw(column: pa.ChunkedArray, width: int) -> npt.NDArray[Any]:
    array = _plain(column)
    data: npt.NDArray[Any] = np.frombuffer(array.buffers()[1], dtype=f"V{width}")
    return data[array.offset : array.offset + len(array)]


def _records(records: npt.NDArray[Any]) -> pa.Array:
    width = records.dtype.itemsize
    fixed = pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(records), [None, pa.py_buffer(records)])
    return fixed.cast(pa.binary())


def _adler32(column: pa.Array) -> pa.Array:
    records = np.empty(len(column), np.dtype(_ADLER_HEAD))
    records["adler32_len"] = 4
    records["adler32"] = _numbers(pc.fill_null(column, 0))
    return _or_null(column, _records(records))


def _created_at(column: pa.Array) -> pa.Array:
    records = np.empty(len(column), np.dtype([("length", ">i4"), ("value", ">i8")]))
    records["length"] = 8
    # The column takes no NULL: what has no time of its own is made now.
    records["value"] = _numbers(pc.fill_null(column.cast(pa.int64()), time.time_ns() // 1000)) - _EPOCH_US
    return _records(records)


def _bytes(column: pa.Array, prefix: Sequence[tuple[str, int]] = (), extra: bytes = b"") -> pa.Array:
    """Length, a fixed beginning, and the bytes themselves."""
    text = pc.fill_null(column.cast(pa.binary()), b"")
    own = np.dtype([("length", ">i4"), *((field, ">i4") for field, _ in prefix)])
    records = np.empty(len(column), own)
    lengths = _numbers(pc.binary_length(text))
    records["length"] = lengths + own.itemsize - 4 + len(extra)
    for field, value in prefix:
        records[field] = lengths if field == "element" else value
    whole = pc.binary_join_element_wise(_records(records), pa.scalar(extra), text, pa.scalar(b"", pa.binary()))
    return _or_null(column, whole)


def _or_null(column: pa.Array, encoded: pa.Array) -> pa.Array:
    return encoded if not column.null_count else pc.if_else(pc.is_valid(column), encoded, pa.scalar(NULL, pa.binary()))


_ARRAY_OF_TEXT = (("dimensions", 1), ("nulls", 0), ("type", _TEXT_ARRAY), ("size", 1), ("bound", 1), ("element", 0))
_ENCODERS: dict[str, Callable[[pa.Array], pa.Array]] = {
    "adler32": _adler32,
    "sha256": _bytes,
    "pfn": lambda column: _bytes(column, _ARRAY_OF_TEXT),
    "metadata": lambda column: _bytes(column, extra=b"\1"),  # The version of JSONB's binary form.
    "created_at": _created_at,
}


def _stream(parts: Sequence[pa.Array | pa.Scalar]) -> list[bytes | Any]:
    rows = pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.binary()))
    first, last = rows.offset, rows.offset + len(rows)
    offsets = np.frombuffer(rows.buffers()[1], dtype=np.int32)
    return [HEADER, memoryview(rows.buffers()[2])[offsets[first] : offsets[last]], TRAILER]
