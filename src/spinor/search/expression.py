"""What a filter means, as a tree of frozen values; `str(expression)` is a text that parses back to the same tree."""

import re
import unicodedata
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from spinor.errors import SpinorError

KEYWORDS = frozenset({"and", "or", "not", "in", "like", "exists", "missing"})

_BARE = re.compile(r"[\w./:@+-]+")
_CONTROL_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_WINDOW = 60  # Characters of the query shown on each side of the caret.


class BadQuery(SpinorError):
    """The query is not understood."""

    status, code = 400, "bad-query"


class Operator(StrEnum):
    EQ = "="
    NE = "!="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="
    IN = "in"
    LIKE = "like"
    EXISTS = "exists"


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in the text the user wrote; `offset` counts characters from 0."""

    text: str
    offset: int


def bad_query(problem: str, place: Place | None, hint: str = "") -> BadQuery:
    """The error that points at `place`: the facts `query` and `caret`, printed below each other, show the character."""
    tail = f"; {hint}" if hint else ""
    if place is None:
        return BadQuery(problem + tail)
    line, caret = _excerpt(place)
    message = f"{problem} at character {place.offset + 1}{tail}"
    return BadQuery(message, position=place.offset + 1, query=line, caret=caret)


def _excerpt(place: Place) -> tuple[str, str]:
    start = place.text.rfind("\n", 0, place.offset) + 1
    end = place.text.find("\n", place.offset)
    end = len(place.text) if end < 0 else end
    first, last = max(start, place.offset - _WINDOW), min(end, place.offset + _WINDOW)
    before = ("…" if first > start else "") + place.text[first : place.offset]
    after = place.text[place.offset : last] + ("…" if last < end else "")
    return _printable(before + after), " " * sum(map(_width, _printable(before))) + "^"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def shown(text: str) -> str:
    """`text` in double quotes for a message: one line, no control characters, at most about 60 characters."""
    return f'"{_printable(text if len(text) <= _WINDOW else text[: _WINDOW - 1] + "…")}"'


def _quoted(text: str) -> str:
    escaped = text.replace('"', '\\"')
    return '"' + "".join(_CONTROL_ESCAPES.get(c, c) for c in escaped) + '"'


def _written(text: str) -> str:
    bare = _BARE.fullmatch(text) and text.lower() not in KEYWORDS
    return text if bare else _quoted(text.replace("\\", "\\\\"))


@dataclass(frozen=True, slots=True)
class Name:
    text: str
    place: Place | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return _written(self.text)


@dataclass(frozen=True, slots=True)
class Value:
    text: str
    place: Place | None = field(default=None, compare=False, repr=False)
    quoted: bool = field(default=True, compare=False, repr=False)

    def __str__(self) -> str:
        return _written(self.text)


@dataclass(frozen=True, slots=True)
class Everything:
    """The empty filter."""

    def __str__(self) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class Comparison:
    field: Name
    operator: Operator
    value: Value

    def __str__(self) -> str:
        return f"{self.field} {self.operator} {self.value}"


@dataclass(frozen=True, slots=True)
class Membership:
    field: Name
    values: tuple[Value, ...]
    negated: bool = False

    def __str__(self) -> str:
        return f"{self.field} {'not ' if self.negated else ''}in ({', '.join(map(str, self.values))})"


@dataclass(frozen=True, slots=True)
class Like:
    """In `pattern`, `*` is any run of characters, `?` any one character, and a backslash takes either (or itself)
    literally."""

    field: Name
    pattern: Value
    negated: bool = False

    def __str__(self) -> str:
        return f"{self.field} {'not ' if self.negated else ''}like {_quoted(self.pattern.text)}"


@dataclass(frozen=True, slots=True)
class Presence:
    field: Name
    present: bool

    def __str__(self) -> str:
        return f"{self.field} {'exists' if self.present else 'missing'}"


@dataclass(frozen=True, slots=True)
class Not:
    part: "Expression"

    def __str__(self) -> str:
        return f"not ({self.part})" if isinstance(self.part, And | Or) else f"not {self.part}"


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple["Expression", ...]

    def __str__(self) -> str:
        return " and ".join(f"({part})" if isinstance(part, And | Or) else str(part) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple["Expression", ...]

    def __str__(self) -> str:
        return " or ".join(f"({part})" if isinstance(part, Or) else str(part) for part in self.parts)


Term: TypeAlias = Comparison | Membership | Like | Presence
Expression: TypeAlias = Everything | Term | Not | And | Or
