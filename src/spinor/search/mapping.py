"""The JSON form of a filter, for programs that put one together: `{"run": {">=": 5}, "site": ["a", "b"]}`.

Every member must hold. A key is a field, and its value a plain value (equal), a list (one of these), null (no value),
or an object of operators: `=` `!=` `<` `<=` `>` `>=` `in` `not in` `like` `not like` `exists`. The keys `and` and `or`
take a list of such objects, `not` takes one. Texts are literal but after `like`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from spinor.search.expression import (
    And,
    BadQuery,
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
    shown,
)
from spinor.search.grammar import MAX_DEPTH, MAX_TERMS, UNSENDABLE

_OPERATORS = "= != < <= > >= in, not in, like, not like, exists"


def from_mapping(query: Mapping[str, Any]) -> Expression:
    """Raises BadQuery, which names the field."""
    return _Reader().all_of(query, MAX_DEPTH)


class _Reader:
    def __init__(self) -> None:
        self.terms = 0

    def all_of(self, query: Any, depth: int) -> Expression:
        if not isinstance(query, Mapping):
            raise BadQuery('a filter in JSON is an object of fields, like {"run": 5}')
        if depth == 0:
            raise BadQuery(f"more than {MAX_DEPTH} levels inside each other")
        parts = [self._member(name, value, depth) for name, value in query.items()]
        return _joined(And, parts)

    def _member(self, name: str, value: Any, depth: int) -> Expression:
        match name:
            case "and" | "or":
                if not isinstance(value, Sequence) or isinstance(value, str) or not value:
                    raise BadQuery(f"{shown(name)} takes a list of objects", field=name)
                return _joined(And if name == "and" else Or, [self.all_of(part, depth - 1) for part in value])
            case "not":
                return Not(self.all_of(value, depth - 1))
            case _:
                if not isinstance(value, Mapping):
                    return self._term(name, "=", value)
                if not value:
                    raise BadQuery(f"{shown(name)} has no operator; one of {_OPERATORS}", field=name[:200])
                return _joined(And, [self._term(name, operator, operand) for operator, operand in value.items()])

    def _term(self, text: str, operator: str, operand: Any) -> Expression:
        self.terms += 1
        if self.terms > MAX_TERMS:
            raise BadQuery(f"more than {MAX_TERMS:,} conditions")
        if not text or UNSENDABLE.search(text):
            raise BadQuery(f"{shown(text)} is not the name of a field")
        name = Name(text)
        match operator, operand:
            case (("=" | "!="), None):
                return Presence(name, operator == "!=")
            case (("=" | "in"), list()):
                return _choice(name, operand, negated=False)
            case (("!=" | "not in" | "nin"), list()):
                return _choice(name, operand, negated=True)
            case (("like" | "not like"), str()):
                return Like(name, _value(text, operand), operator == "not like")
            case "exists", bool():
                return Presence(name, operand)
            case (("=" | "!=" | "<" | "<=" | ">" | ">="), _):
                return Comparison(name, Operator(operator), _value(text, operand))
        raise BadQuery(f"{shown(text)} cannot be {shown(operator)} that; one of {_OPERATORS}", field=text[:200])


def _joined(kind: type[And] | type[Or], parts: list[Expression]) -> Expression:
    if not parts:
        return Everything()
    if kind is And:
        parts = [one for part in parts for one in (part.parts if isinstance(part, And) else [part])]
        parts = [part for part in parts if not isinstance(part, Everything)] or [Everything()]
    elif any(isinstance(part, Everything) for part in parts):
        return Everything()
    return parts[0] if len(parts) == 1 else kind(tuple(parts))


def _choice(name: Name, operands: list[Any], *, negated: bool) -> Expression:
    if not operands:
        raise BadQuery(f"the list of {shown(name.text)} is empty", field=name.text[:200])
    values = tuple(_value(name.text, operand) for operand in operands)
    if len(values) == 1:
        return Comparison(name, Operator.NE if negated else Operator.EQ, values[0])
    return Membership(name, values, negated)


def _value(name: str, operand: Any) -> Value:
    match operand:
        case bool():
            return Value("true" if operand else "false")
        case str() if not UNSENDABLE.search(operand):
            return Value(operand)
        case int():
            return Value(str(operand))
        case float() if math.isfinite(operand):
            return Value(repr(operand))
    raise BadQuery(f"the value of {shown(name)} is no text, number or boolean", field=name[:200])
