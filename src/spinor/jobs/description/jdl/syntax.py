"""JDL text -> attributes with values, and where each stands. The grammar of values is HTCondor's own, by its classad2.

classad2 says neither where a fault is nor, for some texts (an open bracket, an open quote, a number too large), that
there is one: it answers with fewer attributes. So a scanner goes first. It knows no more of the grammar than brackets,
quotes and where an attribute begins, and it bounds what classad2 is given.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from spinor.errors import SpinorError
from spinor.jobs.description.faults import BadDescription, shown

MAX_JDL_BYTES = 64 * 1024 * 1024
MAX_VALUE_BYTES = 1024 * 1024  # Of one attribute that is no list of parameters.
MAX_ATTRIBUTES = 1000
_MAX_DEPTH = 16

_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<comment>//[^\n]*|\#[^\n]*|/\*.*?\*/)
    |(?P<text>"[^"\\]*(?:\\.[^"\\]*)*")
    |(?P<quoted>'[^'\\]*(?:\\.[^'\\]*)*')
    |(?P<stand>%(?:s|n|\([A-Za-z0-9_.]+\)s)(?![A-Za-z0-9_]))
    |(?P<number>\d[A-Za-z0-9_.]*(?:(?<=[eE])[+-]\d+)?)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)*)
    |(?P<open>[\[{(])
    |(?P<close>[\]})])
    |(?P<end>;)
    |(?P<comma>,)
    |(?P<equals>=(?![=?!]))
    |(?P<sign>=[=?!]=?|[^\s"'])
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_PAIRS = {"[": "]", "{": "}", "(": ")"}
_BAD_CHARACTER = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_NUL_ESCAPE = re.compile(r"(?<!\\)(?:\\\\)*\\0{1,3}(?![0-7])")


class BadJDL(BadDescription):
    """The JDL is refused."""

    code = "bad-jdl"


class NoJDL(SpinorError):
    """JDL needs HTCondor's classad2; install it by `pip install 'spinor[jdl]'`."""

    code = "jdl-not-installed"


class Place(NamedTuple):
    line: int
    column: int


class Attribute(msgspec.Struct, frozen=True):
    """A value is text, a number, a boolean, or a list of these and of lists; anything else is an Expression."""

    name: str
    value: Any
    place: Place


class Expression(NamedTuple):
    text: str


class Token(NamedTuple):
    kind: str
    text: str
    start: int


class Statement(msgspec.Struct, frozen=True):
    name: Token
    expression: str


def place_of(text: str, position: int) -> Place:
    start = text.rfind("\n", 0, position) + 1
    return Place(text.count("\n", 0, position) + 1, position - start + 1)


def refusal(place: Place, problem: str, **facts: Any) -> BadJDL:
    return BadJDL(f"line {place.line}, column {place.column}: {problem}", line=place.line, column=place.column, **facts)


def attributes(text: str) -> list[Attribute]:
    """Every attribute in the order of the text. Raises BadJDL with line and column."""
    _check_bytes(text)
    statements = _statements(text, list(_tokens(text)))
    found = _evaluated(statements)
    if found is None:
        raise _first_fault(text, statements)
    return [
        Attribute(statement.name.text, _plain(value, statement), place_of(text, statement.name.start))
        for statement, value in zip(statements, found, strict=True)
    ]


def _check_bytes(text: str) -> None:
    if len(text) > MAX_JDL_BYTES:
        raise BadJDL(f"The JDL has {len(text):,} characters; {MAX_JDL_BYTES:,} are the most.")
    bad = _BAD_CHARACTER.search(text)
    if bad:
        raise refusal(
            place_of(text, bad.start()), f"there is a control character (U+{ord(bad.group()):04X}); remove it"
        )


def _tokens(text: str) -> Iterator[Token]:
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise refusal(place_of(text, position), f"the quote {text[position]} that opens here is never closed")
        kind = match.lastgroup or ""
        if kind not in ("space", "comment"):
            if text.startswith("/*", position):
                raise refusal(place_of(text, position), "the comment that opens here is never closed by */")
            if kind == "text" and _NUL_ESCAPE.search(match.group()):
                raise refusal(place_of(text, position), r"there is a NUL character (\0) in this text; remove it")
            yield Token(kind, match.group(), position)
        position = match.end()


def _statements(text: str, tokens: list[Token]) -> list[Statement]:
    """`name = expression`, separated by semicolons, with or without brackets around all of it."""
    _check_brackets(text, tokens)
    if tokens and tokens[0].text == "[":
        end = _closing(tokens)
        if end + 1 < len(tokens):
            after = tokens[end + 1]
            raise refusal(place_of(text, after.start), f"nothing may follow the closing ]: {shown(after.text)}")
        tokens = tokens[1:end]
    statements: list[Statement] = []
    seen: dict[str, Token] = {}
    position = 0
    while position < len(tokens):
        if tokens[position].kind == "end":
            position += 1
            continue
        statement, position = _statement(text, tokens, position)
        earlier = seen.setdefault(statement.name.text.lower(), statement.name)
        if earlier is not statement.name:
            where = place_of(text, earlier.start)
            problem = f"{statement.name.text} is given a second time; it is in line {where.line} already"
            raise refusal(place_of(text, statement.name.start), problem, field=statement.name.text)
        statements.append(statement)
    if len(statements) > MAX_ATTRIBUTES:
        raise BadJDL(f"The JDL has {len(statements):,} attributes; {MAX_ATTRIBUTES:,} are the most.")
    return statements


def _check_brackets(text: str, tokens: list[Token]) -> None:
    opened: list[Token] = []
    for token in tokens:
        if token.kind == "open":
            opened.append(token)
            if len(opened) > _MAX_DEPTH:
                raise refusal(place_of(text, token.start), f"brackets are nested more than {_MAX_DEPTH} deep")
        elif token.kind == "close":
            if not opened:
                raise refusal(place_of(text, token.start), f"this {token.text} closes nothing")
            if _PAIRS[opened[-1].text] != token.text:
                where = place_of(text, opened[-1].start)
                problem = f"{token.text} cannot close the {opened[-1].text} of line {where.line}, column {where.column}"
                raise refusal(place_of(text, token.start), problem)
            opened.pop()
    if opened:
        raise refusal(place_of(text, opened[-1].start), f"the {opened[-1].text} that opens here is never closed")


def _closing(tokens: list[Token]) -> int:
    depth = 0
    for n, token in enumerate(tokens):
        depth += (token.kind == "open") - (token.kind == "close")
        if depth == 0:
            return n
    raise AssertionError("brackets were counted before")


def _statement(text: str, tokens: list[Token], position: int) -> tuple[Statement, int]:
    name = tokens[position]
    if name.kind == "quoted" and len(name.text) > 2 and "\\" not in name.text:
        name = Token("name", name.text[1:-1], name.start)
    if name.kind != "name":
        raise refusal(place_of(text, name.start), f"an attribute's name is wanted here, not {shown(name.text)}")
    if position + 1 >= len(tokens) or tokens[position + 1].kind != "equals":
        problem = (
            f"`=` is missing after {shown(name.text)}; or is it text that wants quotes, or a `;` that is too much?"
        )
        raise refusal(place_of(text, name.start), problem)
    depth, end = 0, position + 2
    while end < len(tokens) and not (depth == 0 and tokens[end].kind == "end"):
        token = tokens[end]
        depth += (token.kind == "open") - (token.kind == "close")
        if depth == 0 and token.kind == "equals":
            before = tokens[end - 1]
            raise refusal(place_of(text, before.start), f"a semicolon is missing before {shown(before.text)}")
        end += 1
    value = tokens[position + 2 : end]
    if not value:
        raise refusal(place_of(text, name.start), f"{name.text} has no value", field=name.text)
    _check_value(text, name, value)
    # A placeholder may stand without quotes where DIRAC puts text or a list: `InputData = {%s};`.
    return Statement(name, " ".join(f'"{t.text}"' if t.kind == "stand" else t.text for t in value)), end


def _check_value(text: str, name: Token, value: list[Token]) -> None:
    length = value[-1].start + len(value[-1].text) - value[0].start
    if length > MAX_VALUE_BYTES and not name.text.lower().startswith("parameters"):
        problem = f"{name.text} takes {length:,} characters; {MAX_VALUE_BYTES:,} are the most, so put it into a file"
        raise refusal(place_of(text, name.start), problem, field=name.text)
    for before, token in zip([None, *value], value, strict=False):
        if token.kind == "number" and token.text.isdigit() and len(token.text.lstrip("0")) > 18:
            raise refusal(place_of(text, token.start), f"{shown(token.text)} is too large a number", field=name.text)
        if before is None:
            continue
        wants_value = before.kind == "comma" or before.text == "{"
        if (token.kind == "comma" and wants_value) or (token.text == "}" and before.kind == "comma"):
            raise refusal(place_of(text, token.start), f"a value is missing before {token.text}", field=name.text)
        if before.kind in _VALUES and token.kind in _VALUES:
            raise refusal(
                place_of(text, token.start), f"a comma is missing before {shown(token.text)}", field=name.text
            )


_VALUES = frozenset({"text", "number", "stand", "name", "quoted"})


def _evaluated(statements: list[Statement]) -> list[Any] | None:
    """The values by classad2; None when it could not read them all."""
    try:
        import classad2
    except ImportError:
        raise NoJDL() from None
    source = ";\n".join(f"'a{n}' = {statement.expression}" for n, statement in enumerate(statements))
    try:
        ad = classad2.parseOne(f"[{source}]", classad2.ParserType.New)
        values = [ad[f"a{n}"] for n in range(len(statements))]
    except (ValueError, KeyError):  # UnicodeDecodeError is a ValueError.
        return None
    return values if len(ad) == len(statements) else None


def _first_fault(text: str, statements: list[Statement]) -> BadJDL:
    for statement in statements:
        if _evaluated([statement]) is None:
            problem = f"the value of {statement.name.text} is not one: {shown(statement.expression)}"
            return refusal(place_of(text, statement.name.start), problem, field=statement.name.text)
    return BadJDL("The JDL cannot be read.")


def _plain(value: Any, statement: Statement) -> Any:
    if isinstance(value, list):
        return [_plain(item, statement) for item in value]
    if isinstance(value, bool | str) or (isinstance(value, int | float) and abs(value) < 1e300):
        return value
    return Expression(statement.expression)


def written(attribute: Attribute) -> Attribute:
    """The attribute, if its value is written down: what would have to be evaluated has no place in a description."""
    if not _is_written(attribute.value):
        problem = f"{attribute.name} is an expression; write text, a number, true, false, or a list of these"
        raise refusal(attribute.place, problem, field=attribute.name)
    return attribute


def _is_written(value: Any) -> bool:
    return all(map(_is_written, value)) if isinstance(value, list) else not isinstance(value, Expression)
