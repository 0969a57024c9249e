"""One expression, asked of directories before files.

What a directory does not decide is unknown: fields of files always, and metadata where files have their own. Negation
stands at single terms only (`Conditions` pushes it down), so that the expression with all unknown terms true is what
may hold for some file of the directory, and with all of them false what holds for every one.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from psycopg import sql
from psycopg.sql import Composable

from spinor.catalog.models import MetadataType
from spinor.catalog.query.fields import BUILT_IN, FileFields, Level, named
from spinor.search import And, Comparison, Expression, Membership, Operator
from spinor.search.expression import BadQuery, Term, Value
from spinor.search.fields import Field, FieldKind
from spinor.search.values import Literal, read
from spinor.search.where import Conditions, Parameters

_LISTED = 20  # Of a longer list each value's own look into an index costs more than it saves.
_NUMBERS = frozenset({FieldKind.INTEGER, FieldKind.FLOAT})
_EXACT = 2.0**53  # Beyond it, numbers that are equal as `double precision` may differ as they are stored.

Document = dict[str, Any]


class AtDirectory(Conditions):
    """Conditions on directories, with what is above `known` replaced by `verdict`."""

    def __init__(
        self, fields: FileFields, now: datetime, parameters: Parameters, known: Level, verdict: Composable
    ) -> None:
        super().__init__(fields, now, parameters)
        self._files = fields
        self._known = known
        self._verdict = verdict
        self._other = False

    def _term(self, term: Term, negated: bool) -> Composable:
        field = self._files.find(term.field.text, term.field.place)
        if self._files.level(field) > self._known:
            return self._verdict
        return super()._term(term, negated)

    def _condition(self, field: Field, term: Term) -> Composable:
        # Where the index's look is negated, a missing value would pass.
        self._other = isinstance(term, Membership) and term.negated
        self._other |= isinstance(term, Comparison) and term.operator is Operator.NE
        return super()._condition(field, term)

    def _compare(self, field: Field, operator: Operator, literal: Literal) -> Composable:
        condition = super()._compare(field, operator, literal)
        if self._other:
            return condition
        if operator is not Operator.EQ:
            return self._ordered(field, operator, literal, condition)
        found = documents(self._files, field, literal)
        if not found:
            return condition
        return sql.SQL("({} AND {})").format(contains(sql.SQL("d.effective"), found, self._parameters), condition)

    def _ordered(self, field: Field, operator: Operator, literal: Literal, condition: Composable) -> Composable:
        """Numbers are in the order of their documents, which is compared in a fifth of the time."""
        if field.kind not in _NUMBERS or field.name in BUILT_IN:
            return condition
        document = self._parameters.bind(msgspec.json.encode(literal).decode())
        column = sql.SQL("d.effective -> {}").format(sql.Literal(field.name))
        return sql.SQL("({} {} {}::jsonb AND {})").format(column, sql.SQL(operator.value), document, condition)

    def _any_of(self, field: Field, literals: list[Literal]) -> Composable:
        distinct = list(dict.fromkeys(literals))
        if self._other or len(distinct) > _LISTED or not documents(self._files, field, distinct[0]):
            return super()._any_of(field, literals)
        parts = [self._compare(field, Operator.EQ, literal) for literal in distinct]
        return sql.SQL("({})").format(sql.SQL(" OR ").join(parts))


def documents(fields: FileFields, field: Field, literal: Literal) -> list[Document]:
    """Documents of which any metadata with this value under this key contains one; none: no index can help."""
    key = fields.keys.get(field.name) or fields.undeclared.get(field.name)
    if key is None or key.type is MetadataType.TIMESTAMP:
        return []
    if isinstance(literal, float) and abs(literal) >= _EXACT:
        return []
    values: list[Any] = [literal]
    if key.name in fields.undeclared and isinstance(literal, str):
        values += _other_writings(literal)
    return [{key.name: value} for value in values]


def _other_writings(text: str) -> list[Any]:
    """The numbers and booleans that PostgreSQL writes so."""
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return []
    return [value] if isinstance(value, bool | int | float) else []


def contains(column: Composable, found: list[Document], parameters: Parameters) -> Composable:
    """Whether a document contains one of these."""
    looks = [
        sql.SQL("{} @> {}::jsonb").format(column, parameters.bind(msgspec.json.encode(document).decode()))
        for document in found
    ]
    return sql.SQL("({})").format(sql.SQL(" OR ").join(looks))


@dataclass(frozen=True, slots=True)
class Look:
    """An equality that every file of the answer meets, by its own metadata or its directory's."""

    key: str
    documents: tuple[Document, ...]


@dataclass(frozen=True, slots=True)
class Conditioned:
    """An expression as SQL: of a directory `d`, without and with files that have metadata of their own; of a file."""

    possible: Composable
    possible_annotated: Composable
    certain: Composable
    certain_annotated: Composable
    matches: Composable
    levels: frozenset[Level]
    looks: tuple[Look, ...]


def conditioned(expression: Expression, fields: FileFields, now: datetime, parameters: Parameters) -> Conditioned:
    """Raises BadQuery."""
    matches = Conditions(fields, now, parameters).write(expression)  # First: it meets every term, and so every fault.
    at_directory = fields.at(Level.DIRECTORY)

    def written(known: Level, verdict: str) -> Composable:
        return AtDirectory(at_directory, now, parameters, known, sql.SQL(verdict)).write(expression)

    return Conditioned(
        possible=written(Level.INHERITED, "TRUE"),
        possible_annotated=written(Level.DIRECTORY, "TRUE"),
        certain=written(Level.INHERITED, "FALSE"),
        certain_annotated=written(Level.DIRECTORY, "FALSE"),
        matches=matches,
        levels=frozenset(_levels(expression, fields)),
        looks=tuple(_looks(expression, fields, now)),
    )


def _levels(expression: Expression, fields: FileFields) -> set[Level]:
    return {fields.level(fields.find(name)) for name in named(expression)}


def _looks(expression: Expression, fields: FileFields, now: datetime) -> list[Look]:
    looks = []
    for part in expression.parts if isinstance(expression, And) else (expression,):
        match part:
            case Comparison(name, Operator.EQ, value):
                values: tuple[Value, ...] = (value,)
            case Membership(name, values, False) if len(values) <= _LISTED:
                pass
            case _:
                continue
        field = fields.find(name.text, name.place)
        if fields.level(field) is not Level.INHERITED:
            continue
        found = [_documents_of(fields, field, value, now) for value in values]
        if all(found):
            looks.append(Look(field.name, tuple(document for some in found for document in some)))
    return looks


def _documents_of(fields: FileFields, field: Field, value: Value, now: datetime) -> list[Document]:
    try:
        literal = read(value, field, now)
    except BadQuery:
        return []
    return [] if not isinstance(literal, str | int | float | bool) else documents(fields, field, literal)
