import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spinor.search import (
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
    parse,
)
from spinor.search.grammar import MAX_DEPTH, MAX_LENGTH, MAX_TERMS

from .things import expressions


def compare(name: str, operator: str, value: str) -> Comparison:
    return Comparison(Name(name), Operator(operator), Value(value))


def member(name: str, *values: str, negated: bool = False) -> Membership:
    return Membership(Name(name), tuple(map(Value, values)), negated)


def like(name: str, pattern: str, negated: bool = False) -> Like:
    return Like(Name(name), Value(pattern), negated)


A, B, C = compare("a", "=", "1"), compare("b", "=", "2"), compare("c", "=", "3")


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("", Everything()),
        (" \t\n\u3000", Everything()),
        ("a=1", A),
        ("  a \n =  1 ", A),
        ("(a=1)", A),
        ("((a=1))", A),
        ("a!=1", compare("a", "!=", "1")),
        ("a<1", compare("a", "<", "1")),
        ("a<=1", compare("a", "<=", "1")),
        ("a>-1", compare("a", ">", "-1")),
        ("a>=1", compare("a", ">=", "1")),
        ("a=1 b=2", And((A, B))),
        ("a=1 and b=2", And((A, B))),
        ("a=1 AND b=2 c=3", And((A, B, C))),
        ("a=1 or b=2 c=3", Or((A, And((B, C))))),
        ("(a=1 or b=2)c=3", And((Or((A, B)), C))),
        ("a=1(b=2)", And((A, B))),
        ("not a=1 b=2", And((Not(A), B))),
        ("not (a=1 b=2)", Not(And((A, B)))),
        ("NOT not a=1", Not(Not(A))),
        ("a=1 or b=2 or c=3", Or((A, B, C))),
        ("a=1 or (b=2 or c=3)", Or((A, Or((B, C))))),
        ("site=x,y", member("site", "x", "y")),
        ("site = x , y", member("site", "x", "y")),
        ("site!=x,y", member("site", "x", "y", negated=True)),
        ("site in (x,y)", member("site", "x", "y")),
        ("site IN(x, 'y z')", member("site", "x", "y z")),
        ("site in (x)", compare("site", "=", "x")),
        ("site not in (x,y)", member("site", "x", "y", negated=True)),
        ("site not in (x)", compare("site", "!=", "x")),
        ("name like run*", like("name", "run*")),
        ("name like 'run *?'", like("name", "run *?")),
        (r"name like 'run\*'", like("name", r"run\*")),
        (r"name like a\b", like("name", r"a\\b")),
        ("name not like x", like("name", "x", True)),
        ("name=run*", like("name", "run*")),
        ("name=?", like("name", "?")),
        ("name!=run*", like("name", "run*", True)),
        ("name='run*'", compare("name", "=", "run*")),
        ("name<run*", compare("name", "<", "run*")),
        ("name=a*,b,c", Or((like("name", "a*"), member("name", "b", "c")))),
        ("name!=a*,b", And((like("name", "a*", True), compare("name", "!=", "b")))),
        ("exists a", Presence(Name("a"), True)),
        ("missing a", Presence(Name("a"), False)),
        ("a exists", Presence(Name("a"), True)),
        ("a Missing", Presence(Name("a"), False)),
        ("a exists exists b", And((Presence(Name("a"), True), Presence(Name("b"), True)))),
        ("exists a b missing", And((Presence(Name("a"), True), Presence(Name("b"), False)))),
        ("exists=1", compare("exists", "=", "1")),
        ("'and'=1", compare("and", "=", "1")),
        ("'my key'=1", compare("my key", "=", "1")),
        ("a=in", compare("a", "=", "in")),
        ("a='and'", compare("a", "=", "and")),
        ("a=''", compare("a", "=", "")),
        (r"""a="x\"\\\n\t\r\u00e9'" """, compare("a", "=", "x\"\\\n\t\r\u00e9'")),
        (r"a='it\'s'", compare("a", "=", "it's")),
        (r"a=C:\x", compare("a", "=", r"C:\x")),
        ("a=O'Brien", compare("a", "=", "O'Brien")),
        ("a=hey!", compare("a", "=", "hey!")),
        ("a=2026-11-23T10:00Z", compare("a", "=", "2026-11-23T10:00Z")),
        ("path=/vo/用户/\U0001f600", compare("path", "=", "/vo/用户/\U0001f600")),
        ("Größe>1", compare("Größe", ">", "1")),
        ("run>=5 site=a,b", And((compare("run", ">=", "5"), member("site", "a", "b")))),
    ],
)
def test_meaning(text: str, meaning: Expression) -> None:
    assert parse(text) == meaning
    assert parse(str(meaning)) == meaning


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("failed", 7, 'expected an operator after "failed", found the end'),
        ("a=1 b", 6, "expected an operator"),
        ("a==1", 3, "expected a value"),
        ("a=", 3, "expected a value"),
        ("a= and b=1", 4, "quote the value if it is meant"),
        ("a=1,", 5, "expected a value"),
        ("a=1,,2", 5, "expected a value"),
        ("a>1,2", 5, '">" takes one value'),
        ("a=1=2", 4, "quote a value"),
        ("a=1 or", 7, "expected the name of a field"),
        ("or a=1", 1, "expected the name of a field"),
        ("and", 1, "expected the name of a field"),
        ("()", 2, "expected the name of a field"),
        ("''=1", 1, "expected the name of a field"),
        ("not", 4, "expected the name of a field"),
        ("(a=1", 1, "closes"),
        ("a=1)", 4, "closes nothing"),
        ("(a=1,2 3)", 9, "expected an operator"),
        ("(a=1 =)", 6, 'expected "and", "or" or ")"'),
        ("a in 1", 6, 'expected "("'),
        ("a in ()", 7, "expected a value"),
        ("a in (1 2)", 9, 'expected "," or ")"'),
        ("a in (1", 8, 'expected "," or ")"'),
        ("a not 1", 7, "expected an operator"),
        ("a like", 7, "expected a value"),
        ("a='x", 3, "quote"),
        ("a=1 b=\"x'", 7, "quote"),
        (r"a='x\q'", 5, "unknown escape"),
        (r"a='\u12'", 4, "unknown escape"),
        (r"a='\u0000'", 4, "unknown escape"),
        (r"a='\ud800'", 4, "unknown escape"),
        ("a=\x00", 3, "no value can hold"),
        ("a=\ud800", 3, "no value can hold"),
        ("a != = 1", 6, "expected a value"),
        ("a=1\nb=", 7, "expected a value"),
    ],
)
def test_errors_point_at_the_character(text: str, position: int, words: str) -> None:
    with pytest.raises(BadQuery) as caught:
        parse(text)
    error = caught.value
    assert words in error.message
    assert f"at character {position}" in error.message
    assert error.facts["position"] == position
    assert (error.status, error.code) == (400, "bad-query")
    line_start = text.rfind("\n", 0, position - 1) + 1
    assert error.facts["caret"] == " " * (position - 1 - line_start) + "^"
    assert "\n" not in error.message + error.facts["query"]


def test_the_caret_stands_under_its_character_in_a_long_or_wide_text() -> None:
    with pytest.raises(BadQuery) as caught:
        parse("a=" + "x" * 500 + " 用户=1,,2 " + "y" * 500)
    query, caret = caught.value.facts["query"], caught.value.facts["caret"]
    assert len(query) < 130
    assert query.startswith("…") and query.endswith("…")
    # The two ideographs before the caret are two columns wide each.
    assert query[len(caret) - 1 - 2] == ","


def test_limits_are_errors_and_not_crashes() -> None:
    deep = "(" * MAX_DEPTH + "a=1" + ")" * MAX_DEPTH
    assert parse(deep) == A
    assert parse(" ".join(["a=1"] * MAX_TERMS)) == And((A,) * MAX_TERMS)
    many = parse("a in (" + ",".join(map(str, range(10_000))) + ")")
    assert isinstance(many, Membership) and len(many.values) == 10_000
    for text, words in [
        (f"({deep})", "levels"),
        ("(" * 60_000, "levels"),
        ("not " * 16_000, "levels"),
        ("a=1 " * (MAX_TERMS + 1), "conditions"),
        ("x" * (MAX_LENGTH + 1), "characters"),
        ("a='" + "\\" * 60_001, "quote"),
    ]:
        with pytest.raises(BadQuery, match=words):
            parse(text)


@given(expressions)
def test_what_is_printed_reads_back(expression: Expression) -> None:
    assert parse(str(expression)) == expression


@given(st.text(st.sampled_from("ab=!<>(),'\"\\ *?\nandornotinlike1") | st.characters(), max_size=60))
@example("a='\\")
@example("a=1 or (b!=x*,y c)")
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        expression = parse(text)
    except BadQuery as error:
        assert "\n" not in error.message
    else:
        assert parse(str(expression)) == expression
