"""Sizes, durations and text as a description gives them, made plain."""

from typing import Any

import msgspec

from spinor import quantities
from spinor.jobs.description.faults import fault, shown

_MOST = 2**62
_TEN_YEARS_S = 10 * 365 * 86400


def size_bytes(value: int | str, field: str) -> int:
    """`2GB` is 2·10⁹ bytes, `2GiB` is 2³¹."""
    if isinstance(value, str):
        text = value
        try:
            value = quantities.size_bytes(text)
        except ValueError as error:
            raise fault(field, f"{shown(text)} is not {error}") from None
    return _within(value, field, 0)


def duration_s(value: int | str, field: str, least: int = 1) -> int:
    """`90m`, `2h`, `1h30m`; a bare number is seconds."""
    if isinstance(value, str):
        text = value
        try:
            value = int(quantities.duration_s(text))
        except ValueError as error:
            raise fault(field, f"{shown(text)} is not {error}") from None
    if value > _TEN_YEARS_S:
        raise fault(field, "is longer than ten years")
    return _within(value, field, least)


def _within(value: int, field: str, least: int) -> int:
    if not least <= value <= _MOST:
        raise fault(field, f"is {value}; it must be {least} or more" if value < least else f"{value} is too much")
    return value


def text_of(value: Any) -> str:
    """A value as it appears on a command line: true and false as in JSON, nothing for null."""
    if type(value) is str:
        return value
    if value is None:
        return ""
    return msgspec.json.encode(value).decode()
