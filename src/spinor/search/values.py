"""What a value means for a kind of field: numbers, sizes, durations, instants.

Every reader raises `ValueError` whose text completes the sentence "<value> is not ...".
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeAlias
from uuid import UUID

from spinor.quantities import duration_s, is_duration, size_bytes
from spinor.search.expression import Value, bad_query, shown
from spinor.search.fields import Field, FieldKind, did_you_mean


@dataclass(frozen=True, slots=True)
class Day:
    """A date alone: it stands for all instants from `start` up to, and without, `end`."""

    start: datetime
    end: datetime


Literal: TypeAlias = str | int | float | bool | UUID | datetime | Day

_INTEGER = re.compile(r"[+-]?[0-9]{1,40}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,4})?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}", re.IGNORECASE)
_BOOLEANS = {"true": True, "yes": True, "false": False, "no": False}
_BIGGEST = 2**63 - 1


def read(value: Value, field: Field, now: datetime) -> Literal:
    """The value as its field means it. Raises `BadQuery`, which points at the value."""
    if field.kind is FieldKind.ENUM:
        if value.text not in field.values:
            hint = did_you_mean(value.text, field.values)
            raise bad_query(f"{shown(value.text)} is not a value of {shown(field.name)}", value.place, hint)
        return value.text
    try:
        if field.kind is FieldKind.TIMESTAMP:
            return _timestamp(value.text, now)
        return _READERS[field.kind](value.text)
    except (ValueError, OverflowError) as error:
        problem = error if type(error) is ValueError else "in range"
        hint = f"{shown(field.name)} is of the kind {field.kind}"
        raise bad_query(f"{shown(value.text)} is not {problem}", value.place, hint) from None


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise ValueError("a whole number")
    return within_bigint(int(text))


def within_bigint(number: int) -> int:
    if not -_BIGGEST <= number <= _BIGGEST:
        raise ValueError("within 64 bits")
    return number


def _float(text: str) -> float:
    number = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(number):
        raise ValueError("a number")
    return number


def _boolean(text: str) -> bool:
    if text.lower() not in _BOOLEANS:
        raise ValueError("true or false")
    return _BOOLEANS[text.lower()]


def _bytes(text: str) -> int:
    return within_bigint(size_bytes(text))


def _seconds(text: str) -> int | float:
    if _NUMBER.fullmatch(text):
        return shortest(_float(text))
    return shortest(float(duration_s(text)))


def shortest(seconds: float) -> int | float:
    """A whole number where it is one: PostgreSQL compares it through an index on either type of column."""
    return int(seconds) if seconds.is_integer() and abs(seconds) < 2**53 else seconds


def _timestamp(text: str, now: datetime) -> datetime | Day:
    sign = {"-": -1, "+": 1}.get(text[:1])
    if sign and is_duration(text[1:]):
        return now + sign * timedelta(seconds=float(_seconds(text[1:])))
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("a time such as 2026-11-23, 2026-11-23T10:00Z or -1h") from None
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    return Day(instant, instant + timedelta(days=1)) if _DATE.fullmatch(text) else instant


def _uuid(text: str) -> UUID:
    if not _UUID.fullmatch(text):
        raise ValueError("a UUID")
    return UUID(text)


_READERS: dict[FieldKind, Callable[[str], Literal]] = {
    FieldKind.TEXT: str,
    FieldKind.INTEGER: _integer,
    FieldKind.FLOAT: _float,
    FieldKind.BOOLEAN: _boolean,
    FieldKind.BYTES: _bytes,
    FieldKind.SECONDS: _seconds,
    FieldKind.UUID: _uuid,
}
