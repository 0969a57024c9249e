"""Values of Python as JSON and back, for the arguments and results of functions that run in jobs.

This file also goes along with such a job: standard library only, Python 3.9. It is a format of data and of nothing
else: reading it never runs code, wherever it comes from.
"""

# ruff: noqa: UP006, UP035

import base64
import datetime
import decimal
import fractions
import io
import json
import math
import pathlib
import sys
import uuid
from typing import Any, Callable, Dict, List, Tuple

_TAG = "!"


class CannotTravel(TypeError):
    """A value that is no data."""


def dumps(value: Any) -> str:
    """One line of JSON. Raises CannotTravel."""
    return json.dumps(_plain(value, "the value"), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def loads(text: str) -> Any:
    """What `dumps` was given. Raises ValueError."""
    return _value(json.loads(text))


_SIMPLE: List[Tuple[type, str, Callable[[Any], str], Callable[[str], Any]]] = [
    (bytes, "bytes", lambda v: base64.b64encode(v).decode(), base64.b64decode),
    (bytearray, "bytearray", lambda v: base64.b64encode(v).decode(), lambda t: bytearray(base64.b64decode(t))),
    (datetime.datetime, "datetime", lambda v: v.isoformat(), datetime.datetime.fromisoformat),
    (datetime.date, "date", lambda v: v.isoformat(), datetime.date.fromisoformat),
    (datetime.time, "time", lambda v: v.isoformat(), datetime.time.fromisoformat),
    (decimal.Decimal, "decimal", str, decimal.Decimal),
    (fractions.Fraction, "fraction", str, fractions.Fraction),
    (uuid.UUID, "uuid", str, uuid.UUID),
    (pathlib.PurePath, "path", str, pathlib.Path),
    (complex, "complex", str, complex),
]
_READ: Dict[str, Callable[[Any], Any]] = {
    **{name: read for _, name, _, read in _SIMPLE},
    "float": float,
    "timedelta": lambda parts: datetime.timedelta(*parts),
    "range": lambda parts: range(*parts),
    "tuple": lambda items: tuple(map(_value, items)),
    "set": lambda items: set(map(_value, items)),
    "frozenset": lambda items: frozenset(map(_value, items)),
    "dict": lambda pairs: {_value(key): _value(value) for key, value in pairs},
    "array": lambda text: _array(text),
}


def _plain(value: Any, where: str) -> Any:
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {_TAG: "float", "v": repr(value)}
    if kind is list:
        return [_plain(item, f"{where}[{n}]") for n, item in enumerate(value)]
    if kind is dict:
        return _plain_dict(value, where)
    if kind in (tuple, set, frozenset):
        return {_TAG: kind.__name__, "v": [_plain(item, f"an item of {where}") for item in value]}
    if kind is datetime.timedelta:
        return {_TAG: "timedelta", "v": [value.days, value.seconds, value.microseconds]}
    if kind is range:
        return {_TAG: "range", "v": [value.start, value.stop, value.step]}
    for of, name, write, _ in _SIMPLE:
        if kind is of or (name == "path" and isinstance(value, of)):
            return {_TAG: name, "v": write(value)}
    numpy = sys.modules.get("numpy")
    if (
        numpy is not None
        and isinstance(value, (numpy.ndarray, numpy.generic))
        and not numpy.asarray(value).dtype.hasobject
    ):
        held = io.BytesIO()
        numpy.save(held, numpy.asarray(value), allow_pickle=False)
        return {_TAG: "array", "v": base64.b64encode(held.getvalue()).decode()}
    raise CannotTravel(
        f"{where} is a {kind.__module__}.{kind.__qualname__}, which is no plain data; give numbers, text, bytes, "
        "times, paths, arrays of numpy, or lists, tuples, sets and dictionaries of these."
    )


def _plain_dict(value: Dict[Any, Any], where: str) -> Any:
    if all(type(key) is str for key in value) and _TAG not in value:
        return {key: _plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    pairs = [[_plain(key, f"a key of {where}"), _plain(item, f"{where}[{key!r}]")] for key, item in value.items()]
    return {_TAG: "dict", "v": pairs}


def _value(plain: Any) -> Any:
    if isinstance(plain, list):
        return [_value(item) for item in plain]
    if not isinstance(plain, dict):
        return plain
    if _TAG not in plain:
        return {key: _value(item) for key, item in plain.items()}
    name = plain[_TAG]
    if name not in _READ or "v" not in plain:
        raise ValueError(f"There is no kind of value {name!r}.")
    return _READ[name](plain["v"])


def _array(text: str) -> Any:
    try:
        import numpy
    except ImportError:
        raise ValueError("This value is an array, and numpy is not installed here.") from None
    array = numpy.load(io.BytesIO(base64.b64decode(text)), allow_pickle=False)
    return array if array.ndim else array[()]
