"""DIRAC's way of writing a query, `run>=5 site=a,b CreationDate>2024-01-01 FileName=*.root`, as our expressions.

Each word is a condition, and all must hold. What differs from our own language: conditions of equality on one name add
up to a list (`run=1 run=2`), `Any` means that there is a value and `Missing` that there is none, and a date is its
midnight in an order. Imports no database driver: the command line uses it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from spinor.catalog.rules import DIRAC_NAMES
from spinor.search import (
    And,
    BadQuery,
    Comparison,
    Everything,
    Expression,
    Like,
    Membership,
    Name,
    Operator,
    Or,
    Place,
    Presence,
    Value,
)
from spinor.search.expression import bad_query, shown
from spinor.search.grammar import MAX_TERMS, UNSENDABLE

_TERM = re.compile(r"(?P<name>[^\s=<>!()\"',]+)(?P<operator>!=|>=|<=|=|>|<)(?P<value>.*)", re.DOTALL)
_OPERATOR = re.compile(r"\s*(!=|>=|<=|=|>|<)\s*")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_OURS = re.compile(r"\s(and|or|not|in|like|exists|missing)(\s|$)", re.IGNORECASE)  # A query of ours in one word.
_WILD = re.compile(r"[*?]")
_TIMES = frozenset({"CreationDate", "ModificationDate"})
_REFUSED = {
    "UID": "User, which takes the name", "GID": "Group, which takes the name",
    "LastAccessDate": "CreationDate or ModificationDate: nobody keeps the time of the last access",
}  # fmt: skip
_STATUSES = {"AprioriGood": "available"}


@dataclass
class _Equal:
    """All conditions of (in)equality on one name."""

    name: Name
    negated: bool
    values: list[Value] = field(default_factory=list)
    patterns: list[Value] = field(default_factory=list)
    presence: list[bool] = field(default_factory=list)


@dataclass(frozen=True)
class _Term:
    name: str
    operator: str
    value: str
    place: Place
    value_place: Place


def parse_dirac(words: Sequence[str]) -> Expression:
    """The meaning of the words as the shell gives them; none means everything. Raises BadQuery."""
    terms = _terms(words)
    if len(terms) > MAX_TERMS:
        raise BadQuery(f"more than {MAX_TERMS:,} conditions")
    equal: dict[tuple[str, bool], _Equal] = {}
    parts: list[Expression | _Equal] = []
    for term in terms:
        name = _name(term)
        if term.operator not in ("=", "!="):
            parts.append(Comparison(name, Operator(term.operator), _value(term)))
            continue
        negated = term.operator == "!="
        if (name.text, negated) not in equal:
            equal[name.text, negated] = _Equal(name, negated)
            parts.append(equal[name.text, negated])
        _take(equal[name.text, negated], term)
    written = [_written(part) if isinstance(part, _Equal) else part for part in parts]
    if not written:
        return Everything()
    return written[0] if len(written) == 1 else And(tuple(written))


def is_dirac(words: Sequence[str]) -> bool:
    """Whether words can only be meant DIRAC's way: a name of DIRAC's, `Any` or `Missing`, or one name equal to two
    values."""
    try:
        terms = _terms(words)
    except BadQuery:
        return False
    if any(_OURS.search(term.value) for term in terms):
        return False
    equal = [term.name for term in terms if term.operator == "="]
    return (
        any(term.name in DIRAC_NAMES or term.name in _REFUSED for term in terms)
        or any(term.value in ("Any", "Missing") for term in terms if term.operator in ("=", "!="))
        or len(set(equal)) < len(equal)
    )


def _terms(words: Sequence[str]) -> list[_Term]:
    text = " ".join(words)
    if unsendable := UNSENDABLE.search(text):
        raise bad_query("a character that no value can hold", Place(text, unsendable.start()))
    found = []
    offset = 0
    for word in _joined(words):
        for part, at in _split(word):
            found.append(_term(part, Place(text, offset + at)))
        offset += len(word) + 1
    return found


def _term(word: str, place: Place) -> _Term:
    match = _TERM.fullmatch(word)
    if match is None:
        raise bad_query(f"{shown(word)} is no condition", place, "like run>=5, site=a,b or FileName=*.root")
    value = match["value"]
    value_place = Place(place.text, place.offset + match.start("value"))
    if not value:
        raise bad_query(f"{shown(match['name'])} is compared with nothing", value_place)
    return _Term(match["name"], match["operator"], value, place, value_place)


def _joined(words: Sequence[str]) -> list[str]:
    """The words, with those put together again that a quote or blanks around an operator hold together."""
    found: list[str] = []
    for word in words:
        last = found[-1] if found else ""
        if found and (_open_quote(last) or re.search(r"[=<>]$", last) or re.match(r"[=<>]|!=", word)):
            found[-1] = f"{last} {word}"
        else:
            found.append(word)
    return found


def _open_quote(word: str) -> bool:
    """Whether the value of the condition begins with a quote that nothing closes."""
    match = _TERM.fullmatch(_OPERATOR.sub(r"\1", word, count=1))
    value = match["value"] if match else ""
    return value[:1] in ("'", '"') and (len(value) == 1 or value[-1] != value[0])


def _split(word: str) -> list[tuple[str, int]]:
    """The conditions in one word, which has several when a whole query was quoted, and where they begin in it."""
    if _TERM.fullmatch(word) and not re.search(r"\s", word):
        return [(word, 0)]
    pieces = [(match.group(), match.start()) for match in re.finditer(r"\S+", word)]
    if len(pieces) > 1 and all(_TERM.fullmatch(piece) and not _open_quote(piece) for piece, _ in pieces):
        return pieces
    return [(_OPERATOR.sub(r"\1", word, count=1), 0)]


def _name(term: _Term) -> Name:
    if remedy := _REFUSED.get(term.name):
        raise bad_query(f"files have no {shown(term.name)}", term.place, f"use {remedy}")
    return Name(DIRAC_NAMES.get(term.name, term.name), term.place)


def _value(term: _Term) -> Value:
    text = _unquoted(term.value)
    if term.name in _TIMES and _DATE.fullmatch(text):
        text = f"{text}T00:00:00Z"
    return Value(text, term.value_place)


def _take(equal: _Equal, term: _Term) -> None:
    """A quoted value is one, also with a comma in it."""
    whole = term.value[:1] in ("'", '"') and len(term.value) > 1 and term.value[-1] == term.value[0]
    for text in [term.value] if whole else term.value.split(","):
        value = _unquoted(text)
        if not whole and value in ("Any", "Missing"):
            equal.presence.append(value == "Any")
        elif not whole and _WILD.search(value):
            equal.patterns.append(Value(value.replace("\\", "\\\\"), term.value_place))
        else:
            equal.values.append(Value(_translated(term.name, value), term.value_place))


def _translated(name: str, value: str) -> str:
    if name in ("CheckSum", "Checksum"):
        return value.lower()
    return _STATUSES.get(value, value) if name == "Status" else value


def _unquoted(text: str) -> str:
    closed = len(text) > 1 and text[0] in "'\"" and text[-1] == text[0]
    return text[1:-1] if closed else text


def _written(equal: _Equal) -> Expression:
    parts: list[Expression] = [Presence(equal.name, present != equal.negated) for present in equal.presence]
    parts += [Like(equal.name, pattern, equal.negated) for pattern in equal.patterns]
    if len(equal.values) == 1:
        parts.append(Comparison(equal.name, Operator.NE if equal.negated else Operator.EQ, equal.values[0]))
    elif equal.values:
        parts.append(Membership(equal.name, tuple(equal.values), equal.negated))
    if len(parts) == 1:
        return parts[0]
    return And(tuple(parts)) if equal.negated else Or(tuple(parts))
