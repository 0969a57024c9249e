"""Sizes and durations as people write them: 500MB, 2GiB, 90m, 1h30m. One grammar for all that read them.

Readers raise ValueError, whose text completes the sentence "<value> is not ...".
"""

import re
from decimal import Decimal

_SIZE = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*(?:([kmgtpe])(i)?)?b?", re.IGNORECASE)
_DURATION = re.compile(r"(?:[0-9]{1,20}(?:\.[0-9]{1,9})?\s*(?:s|m|min|h|d|w)\s*)+", re.IGNORECASE)
_PART = re.compile(r"([0-9.]+)\s*(s|min|m|h|d|w)", re.IGNORECASE)
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def size_bytes(text: str) -> int:
    """`4GB` is 4·10⁹ bytes, `4GiB` is 2³²; a bare number is bytes."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError("a size; write bytes or a unit, such as 500MB, 2GB or 2GiB")
    number, prefix, binary = match.groups()
    power = "kmgtpe".index(prefix.lower()) + 1 if prefix else 0
    size = Decimal(number) * (1024 if binary else 1000) ** power
    if size != int(size):
        raise ValueError("a whole number of bytes")
    return int(size)


def is_duration(text: str) -> bool:
    """Whether this is a number with a unit of time, or several."""
    return _DURATION.fullmatch(text.strip()) is not None


def duration_s(text: str) -> Decimal:
    """`90m`, `1h30m`, `2d`; a bare number is seconds."""
    bare = text.strip()
    if re.fullmatch(r"[0-9]{1,20}(?:\.[0-9]{1,9})?", bare):
        return Decimal(bare)
    if not is_duration(bare):
        raise ValueError("a duration; write seconds or a unit, such as 90m, 2h or 1h30m")
    return sum((Decimal(number) * _SECONDS[unit.lower()] for number, unit in _PART.findall(bare)), Decimal(0))


def shown_size(count: float) -> str:
    """1234567 -> 1.23 MB."""
    if count < 1000:
        return f"{count:.0f} B"
    step = 0
    while count >= 1000 and step < len(_UNITS) - 1:
        count, step = count / 1000, step + 1
    return f"{count:.3g} {_UNITS[step]}"
