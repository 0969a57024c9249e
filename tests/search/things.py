"""The rows, fields and random queries that the tests on PostgreSQL share, and what a query means in plain Python."""

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from hypothesis import strategies as st
from psycopg import sql
from psycopg.types.json import Jsonb

from spinor.search import (
    And,
    Comparison,
    Everything,
    Expression,
    Like,
    Membership,
    Name,
    Not,
    Operator,
    Or,
    Presence,
    Value,
)
from spinor.search.fields import Field, FieldKind, Fields
from spinor.search.where import Quoted

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
STATUSES = ("waiting", "running", "done", "failed")
COLUMNS = ("id", "name", "count", "ratio", "flag", "at", "size", "wall_s", "status", "guid", "meta")
Row = dict[str, Any]

_KINDS = {
    "id": FieldKind.INTEGER,
    "name": FieldKind.TEXT,
    "count": FieldKind.INTEGER,
    "ratio": FieldKind.FLOAT,
    "flag": FieldKind.BOOLEAN,
    "at": FieldKind.TIMESTAMP,
    "size": FieldKind.BYTES,
    "wall_s": FieldKind.SECONDS,
    "status": FieldKind.ENUM,
    "guid": FieldKind.UUID,
}


def _field(name: str, kind: FieldKind) -> Field:
    values = STATUSES if kind is FieldKind.ENUM else ()
    return Field(name, sql.Identifier(name), kind, nullable=name not in ("id", "status"), values=values)


def metadata_key(name: str) -> Field | None:
    """A metadata key as a catalog resolves it: any name that starts with `m.` is an integer of the document."""
    if not name.startswith("m."):
        return None
    return Field(name, sql.SQL("((meta ->> {})::bigint)").format(Quoted(name[2:])), FieldKind.INTEGER, nullable=True)


FIELDS = Fields([_field(name, kind) for name, kind in _KINDS.items()], dynamic=metadata_key)


def fill(connection: psycopg.Connection, rows: list[Row]) -> None:
    connection.execute("TRUNCATE thing")
    insert = "INSERT INTO thing VALUES (" + ", ".join(["%s"] * len(COLUMNS)) + ")"
    connection.cursor().executemany(
        insert, [[Jsonb(row[c]) if c == "meta" else row[c] for c in COLUMNS] for row in rows]
    )


_LETTERS = "abAB*?%_\\'\" \u00e9\u4e2d\U0001f600;-"
texts = st.text(_LETTERS, max_size=4)
integers = st.integers(-3, 3)
floats = st.sampled_from([-1.5, 0.0, 0.1, 1 / 3, 2.0, 1e300])
instants = st.integers(-96, 96).map(lambda n: NOW + timedelta(hours=n / 2, microseconds=n % 3))
sizes = st.sampled_from([0, 1, 500, 1_000, 1_024, 10**9, 2**40])
durations = st.sampled_from([0.0, 0.5, 60.0, 90.0, 3_600.0])
guids = st.sampled_from([UUID(int=n) for n in range(4)])


@st.composite
def _rows(draw: st.DrawFn, size: int) -> list[Row]:
    ids = draw(st.lists(st.integers(-(2**40), 2**40), unique=True, max_size=size))
    optional = {
        "name": texts,
        "count": integers,
        "ratio": floats,
        "flag": st.booleans(),
        "at": instants,
        "size": sizes,
        "wall_s": durations,
        "guid": guids,
    }
    row = st.fixed_dictionaries(
        {name: st.none() | strategy for name, strategy in optional.items()}
        | {"status": st.sampled_from(STATUSES), "meta": st.dictionaries(st.sampled_from(["run", 'o"d%d']), integers)}
    )
    return [{"id": number, **draw(row)} for number in ids]


def rows(size: int = 12) -> st.SearchStrategy[list[Row]]:
    return _rows(size)


_ORDER = [Operator.EQ, Operator.NE, Operator.LT, Operator.LE, Operator.GT, Operator.GE]
_WRITTEN: dict[str, st.SearchStrategy[str]] = {
    "name": texts,
    "count": integers.map(str),
    "m.run": integers.map(str),
    'm.o"d%d': integers.map(str),
    "ratio": floats.map(str),
    "at": instants.map(lambda at: at.isoformat())
    | st.sampled_from(["2026-11-23", "2026-11-22", "-1h", "+2h30m", "-1d"]),
    "size": st.sampled_from(["0", "1", "500B", "1k", "1KiB", "1GB", "1TiB"]),
    "wall_s": st.sampled_from(["0", "0.5", "1m", "1m30s", "1h", "60"]),
    "flag": st.sampled_from(["true", "false", "yes", "NO"]),
    "status": st.sampled_from(STATUSES),
    "guid": guids.map(str),
}
_UNORDERED = ("flag", "status", "guid")


@st.composite
def terms(draw: st.DrawFn) -> Expression:
    name = draw(st.sampled_from(sorted(_WRITTEN)))
    value = _WRITTEN[name].map(Value)
    shape = draw(st.sampled_from(["comparison", "comparison", "membership", "presence", "like"]))
    if shape == "membership":
        return Membership(Name(name), tuple(draw(st.lists(value, min_size=2, max_size=3))), draw(st.booleans()))
    if shape == "presence":
        return Presence(Name(name), draw(st.booleans()))
    if shape == "like" and name == "name":
        return Like(Name(name), Value(draw(patterns)), draw(st.booleans()))
    if shape == "like" and name == "status":
        return Like(Name(name), Value(draw(st.sampled_from(["*ing", "??????g", "f*", "*"]))), draw(st.booleans()))
    return Comparison(Name(name), draw(st.sampled_from(_ORDER[:2] if name in _UNORDERED else _ORDER)), draw(value))


patterns = st.lists(
    st.sampled_from(["*", "?", "\\*", "\\?", "\\\\", "%", "_", "a", "b", "'", '"', "\u00e9", "\U0001f600"]), max_size=5
).map("".join)


def _combined(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    parts = st.lists(inner, min_size=2, max_size=3).map(tuple)
    return parts.map(And) | parts.map(Or) | inner.map(Not)


expressions = st.recursive(terms(), _combined, max_leaves=8)


def matches(expression: Expression, row: Row) -> bool:
    """What the grammar's page promises, written again without SQL."""
    match expression:
        case Everything():
            return True
        case Not(part):
            return not matches(part, row)
        case And(parts):
            return all(matches(part, row) for part in parts)
        case Or(parts):
            return any(matches(part, row) for part in parts)
        case Presence(name, present):
            return (_value(name, row) is not None) == present
    held = _value(expression.field, row)
    if held is None:
        return False
    match expression:
        case Membership(name, values, negated):
            return any(_compare(name.text, held, Operator.EQ, value.text) for value in values) != negated
        case Like(_, pattern, negated):
            return (_regex(pattern.text).fullmatch(held) is not None) != negated
        case Comparison(name, operator, value):
            return _compare(name.text, held, operator, value.text)
    raise AssertionError(expression)


def _value(name: Name, row: Row) -> Any:
    return row["meta"].get(name.text[2:]) if name.text.startswith("m.") else row[name.text]


_UNITS = {"500B": 500, "1k": 1_000, "1KiB": 1_024, "1GB": 10**9, "1TiB": 2**40, "1m": 60, "1m30s": 90, "1h": 3_600}
_RELATIVE = {"-1h": -1.0, "+2h30m": 2.5, "-1d": -24.0}


def _meant(name: str, text: str) -> Any:
    match name:
        case "name" | "status":
            return text
        case "flag":
            return text.lower() in ("true", "yes")
        case "guid":
            return UUID(text)
        case "at" if text in _RELATIVE:
            return NOW + timedelta(hours=_RELATIVE[text])
        case "at":
            at = datetime.fromisoformat(text)
            return at if at.tzinfo else at.replace(tzinfo=UTC)
        case _:
            return _UNITS.get(text, float(text) if text not in _UNITS else math.nan)


def _compare(name: str, held: Any, operator: Operator, text: str) -> bool:
    value = _meant(name, text)
    whole_day = name == "at" and len(text) == len("2026-11-23") and text[4] == "-"
    end = value + timedelta(days=1) if whole_day else value
    equal = value <= held < end if whole_day else held == value
    after = held >= end if whole_day else held > value
    results: dict[Operator, Callable[[], bool]] = {
        Operator.EQ: lambda: equal,
        Operator.NE: lambda: not equal,
        Operator.LT: lambda: held < value,
        Operator.GE: lambda: held >= value,
        Operator.GT: lambda: after,
        Operator.LE: lambda: not after,
    }
    return results[operator]()


def _regex(pattern: str) -> re.Pattern[str]:
    found = re.findall(r"\\(.)|(.)", pattern, re.DOTALL)
    wild = {"*": ".*", "?": "."}
    return re.compile("".join(re.escape(e) if e else wild.get(p, re.escape(p)) for e, p in found), re.DOTALL)
