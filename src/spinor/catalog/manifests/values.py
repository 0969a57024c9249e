"""Metadata values as a key's type wants them."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from spinor.catalog.models import MetadataType, MetadataValue

_REMEDIES = {
    MetadataType.INTEGER: "a whole number",
    MetadataType.FLOAT: "a number",
    MetadataType.BOOLEAN: "true or false",
    MetadataType.TIMESTAMP: "a time like 2026-11-27T06:00:00Z",
    MetadataType.TEXT: "a text without NUL",
}
_LEAST, _MOST = -(2**63) + 1, 2**63 - 1


class DoesNotFit(ValueError):
    """The value is not of the key's type."""


def fitting(value: Any, kind: MetadataType | None) -> MetadataValue | None:
    """The value for a key of this type; None is an undeclared key. None also for what stands for nothing, as NaN does.

    A text is read as the type; of an undeclared key it stays a text. Raises DoesNotFit.
    """
    value = _plain(value)
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    try:
        return _READERS[kind](value) if kind else _undeclared(value)
    except (ValueError, OverflowError):
        raise DoesNotFit(f"{str(value)[:100]!r} is not {_REMEDIES[kind or MetadataType.TEXT]}") from None


def guessed(text: str) -> MetadataValue:
    """What a text means for an undeclared key: a number or true/false where it looks like one."""
    if text in ("true", "false"):
        return text == "true"
    for reader in (_integer, _float):
        try:
            return reader(text)
        except (ValueError, OverflowError):
            continue
    return text


def _plain(value: Any) -> Any:
    """Python's own types, out of what readers of formats give."""
    if hasattr(value, "item") and not isinstance(value, str | bytes):  # A number of numpy, or an array of one.
        value = value.item() if getattr(value, "size", 1) == 1 else None
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, Decimal):
        value = float(value)
    if isinstance(value, datetime):
        value = (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC)
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    return value if isinstance(value, str | int | float | bool) else None


def _undeclared(value: MetadataValue) -> MetadataValue:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int) and not _LEAST <= value <= _MOST:
        return float(value)
    return value


def _integer(value: Any) -> int:
    if isinstance(value, str) and "_" in value:  # Python reads 1_000, which nobody means.
        raise ValueError
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError
    number = int(value)
    if not _LEAST <= number <= _MOST:
        raise ValueError
    return number


def _float(value: Any) -> float:
    if isinstance(value, bool) or (isinstance(value, str) and "_" in value):
        raise ValueError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _boolean(value: Any) -> bool:
    words: dict[Any, bool] = {"true": True, "false": False, "1": True, "0": False}
    word = str(value).strip().lower()
    if word not in words:
        raise ValueError
    return words[word]


def _timestamp(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError  # noqa: TRY004 (it is one fault among those of a value)
    datetime.fromisoformat(value)
    return value


def _text(value: Any) -> str:
    text = ("true" if value else "false") if isinstance(value, bool) else str(value)
    if "\0" in text:
        raise ValueError
    return text


_READERS: dict[MetadataType, Any] = {
    MetadataType.INTEGER: _integer,
    MetadataType.FLOAT: _float,
    MetadataType.BOOLEAN: _boolean,
    MetadataType.TIMESTAMP: _timestamp,
    MetadataType.TEXT: _text,
}
