"""What callers may name in a filter, a sort, a projection or a summary: declared fields over trusted SQL."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from spinor.search.expression import BadQuery, Operator, Place, bad_query, shown

if TYPE_CHECKING:
    from psycopg.sql import Composable


class FieldKind(StrEnum):
    TEXT = "text"
    INTEGER = "integer"  # smallint, integer or bigint
    FLOAT = "float"  # real or double precision
    BOOLEAN = "boolean"
    TIMESTAMP = "timestamp"  # timestamptz
    BYTES = "bytes"  # bigint
    SECONDS = "seconds"  # bigint or double precision
    ENUM = "enum"  # an enum type or text, with declared values
    UUID = "uuid"


_EQUALITY = frozenset({Operator.EQ, Operator.NE, Operator.IN, Operator.EXISTS})
_ORDER = _EQUALITY | {Operator.LT, Operator.LE, Operator.GT, Operator.GE}
_OPERATORS = {
    FieldKind.TEXT: _ORDER | {Operator.LIKE},
    FieldKind.INTEGER: _ORDER,
    FieldKind.FLOAT: _ORDER,
    FieldKind.BOOLEAN: _EQUALITY,
    FieldKind.TIMESTAMP: _ORDER,
    FieldKind.BYTES: _ORDER,
    FieldKind.SECONDS: _ORDER,
    FieldKind.ENUM: _EQUALITY | {Operator.LIKE},
    FieldKind.UUID: _EQUALITY,
}


@dataclass(frozen=True, slots=True)
class Field:
    """One field over one SQL expression, written by the system's store and never by a caller.

    `nullable` says whether the expression can be NULL; a field wrongly declared as not nullable loses rows on later
    pages. `values` are what an enum field can hold. `ops` narrows the operators of the kind. `condition`, where
    given, writes the comparison in place of `sql <operator> value`, for a field that is a set of rows (the storage
    elements of a file) or has an index of its own kind (`metadata @> ...`). It gets `=`, an order operator or `like`
    with a typed value, `in` with a typed array, or `exists` with an empty value; what it writes may be NULL for false.
    """

    name: str
    sql: "Composable"
    kind: FieldKind
    _: KW_ONLY
    sortable: bool = True
    summable: bool = True
    nullable: bool = False
    values: tuple[str, ...] = ()
    ops: frozenset[Operator] | None = None
    condition: "Callable[[Operator, Composable], Composable] | None" = None

    def __post_init__(self) -> None:
        if bool(self.values) != (self.kind is FieldKind.ENUM):
            raise ValueError(f"field {self.name!r}: an enum field, and no other, declares its values")

    @property
    def operators(self) -> frozenset[Operator]:
        allowed = _OPERATORS[self.kind]
        return allowed if self.ops is None else allowed & self.ops


class Fields:
    """The fields of one list, by the names callers may use (a field may go by two names).

    `dynamic` answers names that are not declared, such as the metadata keys of a VO; None means there is no such name.
    """

    def __init__(
        self, declared: Mapping[str, Field] | Iterable[Field], *, dynamic: Callable[[str], Field | None] | None = None
    ) -> None:
        by_name = declared if isinstance(declared, Mapping) else {field.name: field for field in declared}
        self._declared: dict[str, Field] = dict(by_name)
        self._dynamic = dynamic

    @property
    def names(self) -> list[str]:
        """The declared fields under their own names: what a list shows when the caller does not choose."""
        return list(dict.fromkeys(field.name for field in self._declared.values()))

    def find(self, name: str, place: Place | None = None) -> Field:
        field = self._declared.get(name)
        if field is None and self._dynamic is not None:
            field = self._dynamic(name)
        if field is None:
            raise bad_query(f"unknown field {shown(name)}", place, did_you_mean(name, self._declared))
        return field

    def sortable(self, name: str) -> Field:
        return self._permitted(name, [n for n, field in self._declared.items() if field.sortable], "sort by")

    def summable(self, name: str) -> Field:
        return self._permitted(name, [n for n, field in self._declared.items() if field.summable], "count by")

    def _permitted(self, name: str, permitted: list[str], verb: str) -> Field:
        field = self.find(name)
        if not (field.sortable if verb == "sort by" else field.summable):
            raise BadQuery(f"cannot {verb} {shown(name)}; {listed(permitted)}", field=name)
        return field


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint: the nearest known words, or all of them when none is near."""
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word[:100].lower(), by_lower, n=1, cutoff=0.6)
    return f'did you mean "{by_lower[near[0]]}"?' if near else listed(list(by_lower.values()))


def listed(names: list[str]) -> str:
    shown_names = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    return f"there is {shown_names}" if names else "there is none"
