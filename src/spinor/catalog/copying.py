"""Rows as PostgreSQL's binary COPY, encoded by columns: no Python runs per row.

The fixed part of each row is a numpy record in network byte order; Arrow joins it with the parts of variable length.
Source of the format: PostgreSQL, COPY, "Binary Format".
"""

import secrets
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
NULL = b"\xff\xff\xff\xff"

Int64s = npt.NDArray[np.int64]
_FILE_HEAD = np.dtype(
    [
        ("fields", ">i2"),
        ("file_id_len", ">i4"), ("file_id", ">i8"),
        ("directory_id_len", ">i4"), ("directory_id", ">i8"),
        ("size_len", ">i4"), ("size", ">i8"),
        ("guid_len", ">i4"), ("guid", "V16"),
        ("vo_id_len", ">i4"), ("vo_id", ">i4"),
        ("owner_id_len", ">i4"), ("owner_id", ">i4"),
        ("group_id_len", ">i4"), ("group_id", ">i4"),
        ("name_len", ">i4"),
    ]
)  # fmt: skip
_REPLICA_HEAD = np.dtype(
    [
        ("fields", ">i2"),
        ("file_id_len", ">i4"), ("file_id", ">i8"),
        ("se_id_len", ">i4"), ("se_id", ">i4"),
        ("vo_id_len", ">i4"), ("vo_id", ">i4"),
        ("pfn_len", ">i4"),
    ]
)  # fmt: skip
_LENGTH = np.dtype([("length", ">i4")])
_NUMBER = np.dtype([("length", ">i4"), ("value", ">i8")])


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


def encode_files(files: pa.Table, file_ids: Int64s, *, vo_id: int, owner_id: int, group_id: int) -> list[bytes | Any]:
    """The stream of `copy_files`. Columns: directory_id, name, size_bytes, guid, adler32, sha256; all but the last two
    without NULL."""
    name = _plain(files["name"]).cast(pa.binary())
    head = np.empty(files.num_rows, _FILE_HEAD)
    head["fields"] = 10
    _fill(head, 8, file_id=file_ids, directory_id=_numbers(files["directory_id"]), size=_numbers(files["size_bytes"]))
    _fill(head, 16, guid=_raw(files["guid"], 16))
    _fill(head, 4, vo_id=vo_id, owner_id=owner_id, group_id=group_id)
    head["name_len"] = _numbers(pc.binary_length(name))
    adler32, sha256 = _plain(files["adler32"]), _plain(files["sha256"])
    return _stream([_records(head), name, _nullable_numbers(adler32), _nullable_bytes(sha256.cast(pa.binary()))])


def encode_replicas(file_ids: Int64s, se_ids: Int64s, pfn: pa.ChunkedArray, *, vo_id: int) -> list[bytes | Any]:
    """The stream of `copy_replicas`."""
    head = np.empty(len(file_ids), _REPLICA_HEAD)
    head["fields"] = 4
    _fill(head, 8, file_id=file_ids)
    _fill(head, 4, se_id=se_ids, vo_id=vo_id)
    if pfn.null_count == len(file_ids):
        head["pfn_len"] = -1
        return [HEADER, head.tobytes(), TRAILER]
    text = _plain(pfn).cast(pa.binary())
    head["pfn_len"] = _numbers(pc.fill_null(pc.binary_length(text), -1))
    return _stream([_records(head), pc.fill_null(text, b"")])


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


def _nullable_numbers(column: pa.Array) -> pa.Array | pa.Scalar:
    if column.null_count == len(column):
        return pa.scalar(NULL, pa.binary())
    records = np.empty(len(column), _NUMBER)
    records["length"] = 8
    records["value"] = _numbers(pc.fill_null(column, 0))
    return pc.if_else(pc.is_valid(column), _records(records), pa.scalar(NULL, pa.binary()))


def _nullable_bytes(column: pa.Array) -> pa.Array | pa.Scalar:
    if column.null_count == len(column):
        return pa.scalar(NULL, pa.binary())
    lengths = np.empty(len(column), _LENGTH)
    lengths["length"] = _numbers(pc.fill_null(pc.binary_length(column), -1))
    return pc.binary_join_element_wise(_records(lengths), pc.fill_null(column, b""), pa.scalar(b"", pa.binary()))


def _stream(parts: Sequence[pa.Array | pa.Scalar]) -> list[bytes | Any]:
    rows = pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.binary()))
    first, last = rows.offset, rows.offset + len(rows)
    offsets = np.frombuffer(rows.buffers()[1], dtype=np.int32)
    return [HEADER, memoryview(rows.buffers()[2])[offsets[first] : offsets[last]], TRAILER]
