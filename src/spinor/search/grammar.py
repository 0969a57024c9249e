"""From the text of a filter to its `Expression`: a scanner, and a recursive descent no deeper than `MAX_DEPTH`.

filter  = [ any ]
any     = all { "or" all }
all     = unit { [ "and" ] unit }
unit    = "not" unit | "(" any ")" | term
term    = ( "exists" | "missing" ) name | name ( "exists" | "missing" )
        | name ( "=" | "!=" ) value { "," value } | name ( "<" | "<=" | ">" | ">=" ) value
        | name [ "not" ] "in" "(" value { "," value } ")" | name [ "not" ] "like" value
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from spinor.search.expression import (
    KEYWORDS,
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
    Place,
    Presence,
    Value,
    bad_query,
    shown,
)

MAX_LENGTH = 65_536  # Characters; room for a list of several thousand ids.
MAX_DEPTH = 50  # Parentheses and `not` inside each other.
MAX_TERMS = 1_000  # Conditions; a list in `in (...)` is one of them.

_TOKEN = re.compile(
    r"""
      (?P<blank>\s+)
    | (?P<operator>!=|<=|>=|=|<|>)
    | (?P<mark>[(),])
    | (?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<bare>(?:[^\s()=<>,!"']|!(?!=))(?:[^\s()=<>,!]|!(?!=))*)
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))|([^\\])", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "'": "'", "*": "*", "?": "?"}
UNSENDABLE = re.compile("[\x00\ud800-\udfff]")
_WILD = re.compile(r"[*?]")
_OPERATORS = "= != < <= > >= in like exists missing"


class _Kind(StrEnum):
    OPERATOR = "operator"
    MARK = "mark"
    QUOTED = "quoted"
    BARE = "bare"
    END = "end"


@dataclass(frozen=True, slots=True)
class _Token:
    kind: _Kind
    text: str
    pattern: str
    place: Place

    @property
    def is_word(self) -> bool:
        return self.kind in (_Kind.QUOTED, _Kind.BARE)

    def is_keyword(self, *words: str) -> bool:
        return self.kind is _Kind.BARE and self.text.lower() in words

    def is_mark(self, mark: str) -> bool:
        return self.kind is _Kind.MARK and self.text == mark

    def __str__(self) -> str:
        return "the end" if self.kind is _Kind.END else shown(self.text)


def parse(text: str) -> Expression:
    """The meaning of `text`; an empty text means everything.

    Raises `BadQuery`, which points at the character.
    """
    if len(text) > MAX_LENGTH:
        raise BadQuery(f"the query has {len(text):,} characters; at most {MAX_LENGTH:,} are read", limit=MAX_LENGTH)
    if unsendable := UNSENDABLE.search(text):
        raise bad_query("a character that no value can hold", Place(text, unsendable.start()))
    return _Parser(list(_scan(text))).filter()


def _scan(text: str) -> Iterator[_Token]:
    offset = 0
    while offset < len(text):
        place = Place(text, offset)
        match = _TOKEN.match(text, offset)
        if match is None:
            raise _unreadable(place)
        offset = match.end()
        raw = match.group()
        if match.lastgroup == "quoted":
            yield _Token(_Kind.QUOTED, *_unescape(raw[1:-1], place), place)
        elif match.lastgroup == "bare":
            yield _Token(_Kind.BARE, raw, raw.replace("\\", "\\\\"), place)
        elif match.lastgroup != "blank":
            yield _Token(_Kind(str(match.lastgroup)), raw, raw, place)
    yield _Token(_Kind.END, "", "", Place(text, len(text)))


def _unreadable(place: Place) -> BadQuery:
    if place.text[place.offset] in "\"'":
        return bad_query("no quote closes the one", place)
    return bad_query(f"{shown(place.text[place.offset])} has no meaning here", place)


def _unescape(inner: str, place: Place) -> tuple[str, str]:
    """The text between quotes, and the same as a pattern, in which what was escaped stays literal."""
    text, pattern = [], []
    for match in _ESCAPE.finditer(inner):
        code, escaped, plain = match.groups()
        if plain is not None:
            character, literal = plain, False
        elif code is not None:
            character, literal = chr(int(code, 16)), True
        else:
            character, literal = _ESCAPED.get(escaped, ""), True
        if not character or UNSENDABLE.match(character):
            at = Place(place.text, place.offset + 1 + match.start())
            known = "there are \\\\ \\\" \\' \\* \\? \\n \\r \\t and \\uXXXX"
            raise bad_query(f"unknown escape {shown(match.group())}", at, known)
        text.append(character)
        pattern.append("\\" + character if literal and character in "*?\\" else character)
    return "".join(text), "".join(pattern)


class _Parser:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._depth = 0
        self._terms = 0

    def filter(self) -> Expression:
        if self._peek().kind is _Kind.END:
            return Everything()
        expression = self._any()
        token = self._peek()
        if token.kind is _Kind.END:
            return expression
        if token.is_mark(")"):
            raise bad_query('")" closes nothing', token.place)
        hint = 'quote a value that contains = < > , ( ) or blanks, like name="a=b"'
        raise bad_query(f"unexpected {token}", token.place, hint)

    def _any(self) -> Expression:
        parts = [self._all()]
        while self._peek().is_keyword("or"):
            self._take()
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _all(self) -> Expression:
        parts = [self._unit()]
        while True:
            token = self._peek()
            if token.is_keyword("and"):
                self._take()
            elif not (token.is_mark("(") or token.is_word) or token.is_keyword("or"):
                break
            parts.append(self._unit())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _unit(self) -> Expression:
        token = self._peek()
        if token.is_keyword("not"):
            self._take()
            return self._deeper(token, lambda: Not(self._unit()))
        if token.is_mark("("):
            self._take()
            return self._deeper(token, lambda: self._closed(token))
        return self._term()

    def _deeper(self, token: _Token, inside: Callable[[], Expression]) -> Expression:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise bad_query(f"more than {MAX_DEPTH} levels inside each other", token.place)
        expression = inside()
        self._depth -= 1
        return expression

    def _closed(self, opening: _Token) -> Expression:
        expression = self._any()
        token = self._peek()
        if token.kind is _Kind.END:
            raise bad_query('no ")" closes the "("', opening.place)
        if not token.is_mark(")"):
            raise bad_query(f'expected "and", "or" or ")", found {token}', token.place)
        self._take()
        return expression

    def _term(self) -> Expression:
        token = self._take()
        self._terms += 1
        if self._terms > MAX_TERMS:
            hint = "a list such as job_id in (1, 2) is one condition"
            raise bad_query(f"more than {MAX_TERMS:,} conditions", token.place, hint)
        if token.is_keyword("exists", "missing") and self._peek().is_word:
            name = self._name(self._take())
            return Presence(name, token.text.lower() == "exists")
        return self._condition(self._name(token))

    def _name(self, token: _Token) -> Name:
        follows = self._peek()
        named = token.is_keyword("exists", "missing") and follows.kind is _Kind.OPERATOR
        if not token.is_word or not token.text or (token.is_keyword(*KEYWORDS) and not named):
            raise bad_query(f"expected the name of a field, found {token}", token.place)
        return Name(token.text, token.place)

    def _condition(self, name: Name) -> Expression:
        token = self._take()
        if token.kind is _Kind.OPERATOR:
            return self._comparison(name, token)
        if token.is_keyword("exists", "missing"):
            return Presence(name, token.text.lower() == "exists")
        negated = token.is_keyword("not")
        verb = self._take() if negated else token
        if verb.is_keyword("in"):
            return self._choice(name, self._listed(), negated=negated)
        if verb.is_keyword("like"):
            value = self._value(verb)
            return Like(name, Value(value.pattern, value.place), negated)
        raise bad_query(
            f"expected an operator after {shown(name.text)}, found {verb}", verb.place, f"one of {_OPERATORS}"
        )

    def _comparison(self, name: Name, operator: _Token) -> Expression:
        values = self._values(operator)
        if operator.text in ("=", "!="):
            return self._choice(name, values, negated=operator.text == "!=")
        if len(values) > 1:
            hint = "a list goes with = != and in"
            raise bad_query(f"{operator} takes one value", values[1].place, hint)
        return Comparison(name, Operator(operator.text), _plain(values[0]))

    def _listed(self) -> list[_Token]:
        opening = self._take()
        if not opening.is_mark("("):
            raise bad_query(f'expected "(" after in, found {opening}', opening.place, "like site in (a, b)")
        values = self._values(opening)
        closing = self._take()
        if not closing.is_mark(")"):
            raise bad_query(f'expected "," or ")" in the list, found {closing}', closing.place)
        return values

    def _values(self, before: _Token) -> list[_Token]:
        values = [self._value(before)]
        while self._peek().is_mark(","):
            values.append(self._value(self._take()))
        return values

    def _value(self, before: _Token) -> _Token:
        token = self._peek()
        if not token.is_word or token.is_keyword("and", "or", "not"):
            hint = "quote the value if it is meant" if token.kind is not _Kind.END else ""
            raise bad_query(f"expected a value after {before}, found {token}", token.place, hint)
        return self._take()

    def _choice(self, name: Name, values: list[_Token], *, negated: bool) -> Expression:
        """One of the values, some of which may be patterns; `negated` means none of them."""
        parts: list[Expression] = [
            Like(name, Value(token.pattern, token.place), negated) for token in values if _is_pattern(token)
        ]
        plain = tuple(_plain(token) for token in values if not _is_pattern(token))
        if len(plain) == 1:
            parts.append(Comparison(name, Operator.NE if negated else Operator.EQ, plain[0]))
        elif plain:
            parts.append(Membership(name, plain, negated))
        if len(parts) == 1:
            return parts[0]
        return And(tuple(parts)) if negated else Or(tuple(parts))

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        if token.kind is not _Kind.END:
            self._next += 1
        return token


def _is_pattern(token: _Token) -> bool:
    return token.kind is _Kind.BARE and _WILD.search(token.text) is not None


def _plain(token: _Token) -> Value:
    return Value(token.text, token.place, quoted=token.kind is _Kind.QUOTED)
