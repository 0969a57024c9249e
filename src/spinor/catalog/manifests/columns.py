"""The values of a manifest's columns: whole columns at once, and one by one where a column has a fault."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_MOST_BYTES = 2**63 - 1
_FIRST_US, _LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999  # The years 1 to 9999.
_DIGITS = re.compile(r"[0-9]{1,19}")
_ADLER32 = re.compile(r"(?:adler32:|0x)?([0-9a-f]{1,8})", re.IGNORECASE)


@dataclass(frozen=True)
class Kind:
    """`whole` reads a column, or raises ValueError; `one` reads a text, or raises ValueError."""

    type: Any
    whole: Callable[[Any], Any]
    one: Callable[[str], Any]
    remedy: str

    def read(self, values: Any) -> tuple[Any, Any | None]:
        """The column, and which rows of it are bad (they are null then); None if no one is."""
        try:
            return self.whole(values), None
        except ValueError:  # pyarrow's ArrowInvalid is one.
            pass
        found, bad = [], np.zeros(len(values), bool)
        for row, value in enumerate(values.to_pylist()):
            try:
                found.append(None if value is None else self.one(_text(value)))
            except ValueError:
                found.append(None)
                bad[row] = True
        return pa.array(found, self.type), bad


def _text(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _size(values: Any) -> Any:
    sizes = _numbers(values, "x")
    least = pc.min(sizes).as_py()
    if least is not None and least < 0:
        raise ValueError
    return sizes


def _one_size(text: str) -> int:
    if not _DIGITS.fullmatch(text) or int(text) > _MOST_BYTES:
        raise ValueError
    return int(text)


def _numbers(values: Any, unwanted: str) -> Any:
    """Arrow also reads 0x10, which nobody means as a size."""
    if pa.types.is_string(values.type) and pc.any(pc.match_substring(values, unwanted, ignore_case=True)).as_py():
        raise ValueError
    return values.cast(pa.int64())


def _adler32(values: Any) -> Any:
    if not pa.types.is_string(values.type):
        numbers = values.cast(pa.int64())
        if len(numbers) and numbers.null_count < len(numbers):
            least, most = pc.min(numbers).as_py(), pc.max(numbers).as_py()
            if least < 0 or most >= 2**32:
                raise ValueError
        return numbers
    # uint32 takes eight digits at most.
    return pc.binary_join_element_wise("0x", values, "").cast(pa.uint32()).cast(pa.int64())


def _one_adler32(text: str) -> int:
    match = _ADLER32.fullmatch(text)
    if not match:
        raise ValueError
    return int(match[1], 16)


def _bytes(size: int) -> Callable[[Any], Any]:
    """Hex digits to bytes, by one conversion of all of them."""

    def whole(values: Any) -> Any:
        if not pa.types.is_string(values.type):
            return values.cast(pa.binary(size))
        known = values.drop_null()
        if size == 16:
            known = pc.replace_substring(known, "-", "")
        lengths = pc.binary_length(known).to_numpy(zero_copy_only=False)
        if len(lengths) and (lengths != 2 * size).any():
            raise ValueError
        joined = bytes.fromhex("".join(known.to_pylist()))
        if len(joined) != size * len(known):  # fromhex passes over blanks.
            raise ValueError
        array = pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), len(known), [None, pa.py_buffer(joined)])
        if len(known) == len(values):
            return array
        places = np.cumsum(pc.is_valid(values).to_numpy(zero_copy_only=False)) - 1
        return array.take(pa.array(places, pa.int64(), mask=pc.is_null(values).to_numpy(zero_copy_only=False)))

    return whole


def _one_bytes(size: int) -> Callable[[str], bytes]:
    digits = re.compile(f"[0-9a-fA-F]{{{2 * size}}}")

    def one(text: str) -> bytes:
        text = text.strip("{}").replace("-", "") if size == 16 else text
        if not digits.fullmatch(text):
            raise ValueError
        return bytes.fromhex(text)

    return one


def _instants(values: Any) -> Any:
    found = _with_zone(values)
    least, most = (edge.as_py() for edge in pc.min_max(found.cast(pa.int64())).values())
    if least is not None and (least < _FIRST_US or most > _LAST_US):
        raise ValueError
    return found


def _with_zone(values: Any) -> Any:
    if pa.types.is_timestamp(values.type) and values.type.tz is None:
        return values.cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
    try:
        return values.cast(pa.timestamp("us", "UTC"))
    except pa.ArrowInvalid:
        return values.cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))  # Without a zone it is UTC.


def _one_instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    try:
        return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError:
        raise ValueError from None


def _objects(values: Any) -> Any:
    if not pa.types.is_string(values.type):
        raise ValueError
    for text in values.to_pylist():
        if text is not None:
            _one_object(text)
    return values


def _one_object(text: str) -> str:
    try:
        msgspec.json.decode(text, type=dict[str, str | int | float | bool | None])
    except msgspec.MsgspecError:
        raise ValueError from None
    return text


KINDS = {
    "size_bytes": Kind(pa.int64(), _size, _one_size, "is no size; write a whole number of bytes, digits only"),
    "adler32": Kind(pa.int64(), _adler32, _one_adler32, "is no adler32; write 8 hex digits"),
    "sha256": Kind(pa.binary(32), _bytes(32), _one_bytes(32), "is no sha256; write 64 hex digits"),
    "guid": Kind(pa.binary(16), _bytes(16), _one_bytes(16), "is no GUID; write 32 hex digits, with or without dashes"),
    "created_at": Kind(
        pa.timestamp("us", "UTC"), _instants, _one_instant, "is no time; write it like 2026-11-27T06:00:00Z"
    ),
    "metadata": Kind(
        pa.string(), _objects, _one_object, 'is no JSON object of plain values; write it like {"run": 5, "site": "a"}'
    ),
}  # fmt: skip
