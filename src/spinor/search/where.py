"""From an `Expression` over `Fields` to SQL with parameters. No value and no name of a caller ever enters the SQL text.

Logic is two-valued: a condition on a missing value is false, also `!=`, and `not` is the exact complement of what
follows it. SQL's third value is confined to single conditions, because `not` is pushed down to them.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import sql
from psycopg.abc import AdaptContext

from spinor.search.expression import (
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
    Term,
    Value,
    bad_query,
    shown,
)
from spinor.search.fields import Field, FieldKind, Fields, listed
from spinor.search.values import Day, Literal, read

_NOTHING = sql.SQL("")
_SYMBOLS = {
    Operator.EQ: sql.SQL("="),
    Operator.NE: sql.SQL("<>"),
    Operator.LT: sql.SQL("<"),
    Operator.LE: sql.SQL("<="),
    Operator.GT: sql.SQL(">"),
    Operator.GE: sql.SQL(">="),
}
_TYPES: dict[type, sql.SQL] = {
    bool: sql.SQL("boolean"),
    int: sql.SQL("bigint"),
    float: sql.SQL("double precision"),
    str: sql.SQL("text"),
    datetime: sql.SQL("timestamptz"),
    UUID: sql.SQL("uuid"),
}


class Quoted(sql.Composable):
    """A text as an SQL constant, for a dynamic field's SQL (the name of a metadata key).

    Unlike `sql.Literal` it may hold a percent sign; so the statement must be executed with parameters, even if empty.
    """

    def as_bytes(self, context: AdaptContext | None = None) -> bytes:
        return sql.Literal(self._obj).as_bytes(context).replace(b"%", b"%%")


# A pattern of ours read as pieces: an escaped character, a run of stars, a question mark, anything else.
_PATTERN = re.compile(r"\\(.)|(\*+)|(\?)|(.)", re.DOTALL)


class Parameters:
    """The values of one statement, under names (`q0`, `q1` ...) that a store's own parameters must not use.

    What is written apart and goes into the same statement takes another `letter`.
    """

    def __init__(self, letter: str = "q") -> None:
        self.values: dict[str, Any] = {}
        self._letter = letter

    def bind(self, value: object) -> sql.Composable:
        """A bare placeholder, which takes the type of what it is compared with."""
        name = f"{self._letter}{len(self.values)}"
        self.values[name] = value
        return sql.Placeholder(name)

    def literal(self, value: Literal, kind: FieldKind) -> sql.Composable:
        if kind is FieldKind.ENUM:
            return self.bind(value)
        return sql.SQL("{}::{}").format(self.bind(value), _TYPES[type(value)])

    def array(self, values: Sequence[Literal]) -> sql.Composable:
        kinds = {type(value) for value in values}
        if kinds == {int, float}:
            return self.array([float(value) for value in values if isinstance(value, int | float)])
        return sql.SQL("{}::{}[]").format(self.bind(list(values)), _TYPES[kinds.pop()])


def compile_where(expression: Expression, fields: Fields, now: datetime) -> tuple[sql.Composable, dict[str, Any]]:
    """One boolean SQL expression and its parameters; `now` is the instant that relative times count from."""
    parameters = Parameters()
    return Conditions(fields, now, parameters).write(expression), parameters.values


class Conditions:
    def __init__(self, fields: Fields, now: datetime, parameters: Parameters) -> None:
        self._fields = fields
        self._now = now
        self._parameters = parameters

    def write(self, expression: Expression, negated: bool = False) -> sql.Composable:
        match expression:
            case Everything():
                return sql.SQL("FALSE" if negated else "TRUE")
            case Not(part):
                return self.write(part, not negated)
            case And(parts):
                return _joined("OR" if negated else "AND", (self.write(part, negated) for part in parts))
            case Or(parts):
                return _joined("AND" if negated else "OR", (self.write(part, negated) for part in parts))
            case _:
                return self._term(expression, negated)

    def _term(self, term: Term, negated: bool) -> sql.Composable:
        field = self._fields.find(term.field.text, term.field.place)
        _permit(field, term)
        condition = self._condition(field, term)
        if not negated:
            return condition
        can_be_null = field.nullable or field.condition is not None
        return sql.SQL("({} IS NOT TRUE)" if can_be_null else "(NOT {})").format(condition)

    def _condition(self, field: Field, term: Term) -> sql.Composable:
        """A parenthesised condition, true exactly for the rows that are meant, false or NULL for the others."""
        match term:
            case Presence(_, present):
                return self._presence(field, present)
            case Comparison(_, Operator.NE, value):
                return self._other_than(field, self._equality(field, value))
            case Comparison(_, Operator.EQ, value):
                return self._equality(field, value)
            case Comparison(_, operator, value):
                return self._order(field, operator, value)
            case Membership(_, values, negated):
                found = self._membership(field, values)
                return self._other_than(field, found) if negated else found
            case Like(_, pattern, negated):
                found = self._like(field, pattern)
                return self._other_than(field, found) if negated else found

    def _other_than(self, field: Field, condition: sql.Composable) -> sql.Composable:
        """There is a value, and the condition does not hold for it."""
        if field.condition is None:
            return sql.SQL("(NOT {})").format(condition)
        return sql.SQL("({} AND {} IS NOT TRUE)").format(self._presence(field, True), condition)

    def _presence(self, field: Field, present: bool) -> sql.Composable:
        if field.condition is None:
            return sql.SQL("({} IS NOT NULL)" if present else "({} IS NULL)").format(field.sql)
        exists = sql.SQL("({})").format(field.condition(Operator.EXISTS, _NOTHING))
        return exists if present else sql.SQL("({} IS NOT TRUE)").format(exists)

    def _equality(self, field: Field, value: Value) -> sql.Composable:
        literal = read(value, field, self._now)
        if isinstance(literal, Day):
            start = self._compare(field, Operator.GE, literal.start)
            return _joined("AND", [start, self._compare(field, Operator.LT, literal.end)])
        return self._compare(field, Operator.EQ, literal)

    def _order(self, field: Field, operator: Operator, value: Value) -> sql.Composable:
        literal = read(value, field, self._now)
        if not isinstance(literal, Day):
            return self._compare(field, operator, literal)
        match operator:
            case Operator.GT:
                return self._compare(field, Operator.GE, literal.end)
            case Operator.LE:
                return self._compare(field, Operator.LT, literal.end)
            case _:
                return self._compare(field, operator, literal.start)

    def _compare(self, field: Field, operator: Operator, literal: Literal) -> sql.Composable:
        bound = self._parameters.literal(literal, field.kind)
        if field.condition is not None:
            return sql.SQL("({})").format(field.condition(operator, bound))
        return sql.SQL("({} {} {})").format(field.sql, _SYMBOLS[operator], bound)

    def _membership(self, field: Field, values: tuple[Value, ...]) -> sql.Composable:
        if field.kind is FieldKind.TIMESTAMP:
            return _joined("OR", (self._equality(field, value) for value in values))
        return self._any_of(field, [read(value, field, self._now) for value in values])

    def _any_of(self, field: Field, literals: list[Literal]) -> sql.Composable:
        if field.kind is FieldKind.ENUM and field.condition is None:
            # An array would need the name of the enum's type; single placeholders take it from the column.
            bound = [self._parameters.bind(literal) for literal in dict.fromkeys(literals)]
            return sql.SQL("({} IN ({}))").format(field.sql, sql.SQL(", ").join(bound))
        array = self._parameters.array(literals)
        if field.condition is not None:
            return sql.SQL("({})").format(field.condition(Operator.IN, array))
        return sql.SQL("({} = ANY ({}))").format(field.sql, array)

    def _like(self, field: Field, pattern: Value) -> sql.Composable:
        if field.kind is FieldKind.ENUM:
            matching = re.compile(_as_regex(pattern.text), re.DOTALL).fullmatch
            literals: list[Literal] = [value for value in field.values if matching(value)]
            if not literals:
                problem = f"no value of {shown(field.name)} is like {shown(pattern.text)}"
                raise bad_query(problem, pattern.place, listed(list(field.values)))
            return self._any_of(field, literals)
        bound = self._parameters.literal(_as_like(pattern.text), FieldKind.TEXT)
        if field.condition is not None:
            return sql.SQL("({})").format(field.condition(Operator.LIKE, bound))
        return sql.SQL("({} LIKE {})").format(field.sql, bound)


def _permit(field: Field, term: Term) -> None:
    operator, place = _operator(term)
    if operator not in field.operators:
        usable = ", ".join(known for known in Operator if known in field.operators)
        problem = f"{shown(field.name)} ({field.kind}) cannot be compared with {operator}"
        raise bad_query(problem, place.place, f"use {usable}")


def _operator(term: Term) -> tuple[Operator, Name]:
    match term:
        case Comparison(name, operator, _):
            return operator, name
        case Membership(name, _, _):
            return Operator.IN, name
        case Like(name, _, _):
            return Operator.LIKE, name
        case Presence(name, _):
            return Operator.EXISTS, name


def _joined(word: str, parts: Iterable[sql.Composable]) -> sql.Composable:
    joint = sql.SQL(" AND ") if word == "AND" else sql.SQL(" OR ")
    return sql.SQL("(") + joint.join(parts) + sql.SQL(")")


def _as_like(pattern: str) -> str:
    pieces = []
    for escaped, stars, question, plain in _PATTERN.findall(pattern):
        character = escaped or plain
        pieces.append("%" if stars else "_" if question else "\\" + character if character in "%_\\" else character)
    return "".join(pieces)


def _as_regex(pattern: str) -> str:
    """Each run between stars is matched at its first place and never tried again, so no pattern takes long."""
    chunks = [""]
    for escaped, stars, question, plain in _PATTERN.findall(pattern):
        if stars:
            chunks.append("")
        else:
            chunks[-1] += "." if question else re.escape(escaped or plain)
    if len(chunks) == 1:
        return chunks[0]
    return chunks[0] + "".join(f"(?>.*?{chunk})" for chunk in chunks[1:-1]) + ".*" + chunks[-1]
