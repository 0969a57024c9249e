"""DIRAC's queries as DIRAC's users type them, and the JSON form."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinor.catalog.dirac_find import is_dirac, parse_dirac
from spinor.search import BadQuery, parse
from spinor.search.mapping import from_mapping


@pytest.mark.parametrize(
    ("words", "meaning"),
    [
        ([], ""),
        (["run=1,2,3"], "run in (1, 2, 3)"),
        (["run>=5", "run<9"], "run >= 5 and run < 9"),
        (["site!=a,b"], "site not in (a, b)"),
        (["run=1", "run=2", "run=3"], "run in (1, 2, 3)"),
        (["run!=1", "run!=2"], "run not in (1, 2)"),
        (["x>1", "x>2"], "x > 1 and x > 2"),
        (["run=Any", "site=Missing"], "run exists and site missing"),
        (["run!=Missing"], "run exists"),
        (["site=a,Missing"], "site missing or site = a"),
        (["FileName=*.root"], 'name like "*.root"'),
        (["FileName!=*.root,x"], 'name not like "*.root" and name != x'),
        (["FileName='*.root'"], 'name = "*.root"'),
        (["site='a,b'"], 'site = "a,b"'),
        (["site=a b"], 'site = "a b"'),
        (["site='a", "b'", "run=1"], 'site = "a b" and run = 1'),
        (["run", ">=", "5"], "run >= 5"),
        (["run=1 site=b"], "run = 1 and site = b"),
        (["path=x=y"], 'path = "x=y"'),
        (["SE=CERN-disk"], "se = CERN-disk"),
        (["User=ada", "Group=g", "Size>1000"], "owner = ada and group = g and size > 1000"),
        (["CreationDate>2024-01-01"], "created > 2024-01-01T00:00:00Z"),
        (["CreationDate<2024-01-01 12:00:00"], 'created < "2024-01-01 12:00:00"'),
        (["CheckSum=00AB12CD", "Status=AprioriGood"], "adler32 = 00ab12cd and status = available"),
        (["GUID=0191c7a2-5b1e-7c3d-9f00-1234567890ab"], "guid = 0191c7a2-5b1e-7c3d-9f00-1234567890ab"),
    ],
)
def test_what_dirac_users_type(words: list[str], meaning: str) -> None:
    assert parse_dirac(words) == parse(meaning)
    assert parse(str(parse_dirac(words))) == parse_dirac(words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run"], '"run" is no condition at character 1'),
        (["run=1", "or", "site=2"], '"or" is no condition at character 7'),
        (["run="], "compared with nothing at character 5"),
        (["UID=5"], "use User"),
        (["LastAccessDate>2024-01-01"], "use CreationDate or ModificationDate"),
        (["=5"], "no condition"),
        (["run=\0"], "no value can hold"),
    ],
)
def test_errors_point_at_the_character(words: list[str], message: str) -> None:
    with pytest.raises(BadQuery, match=message):
        parse_dirac(words)


@pytest.mark.parametrize(
    ("words", "is_one"),
    [
        (["run=1", "run=2"], True),
        (["run=1 run=2"], True),
        (["run=Any"], True),
        (["Size>1000"], True),
        (["LastAccessDate>2024-01-01"], True),
        (["run>=5", "site=a,b"], False),
        (["run=1 or run=2"], False),
        (["(Size>1000 or run=1)"], False),
        (["Size>1000 or run = 1"], False),
        (["site = any"], False),
        ([], False),
    ],
)
def test_only_its_own_forms_are_taken_as_diracs(words: list[str], is_one: bool) -> None:
    assert is_dirac(words) is is_one


@given(st.lists(st.text(st.sampled_from("ab=<>!*?,'\" \\()é"), max_size=12), max_size=4))
def test_any_words_are_a_query_or_refused(words: list[str]) -> None:
    is_dirac(words)
    try:
        expression = parse_dirac(words)
    except BadQuery:
        return
    assert parse(str(expression)) == expression


@pytest.mark.parametrize(
    ("query", "meaning"),
    [
        ({}, ""),
        ({"run": {">=": 5}, "site": ["a", "b"]}, "run >= 5 and site in (a, b)"),
        ({"run": {">=": 5, "<": 9.5}, "good": True}, "run >= 5 and run < 9.5 and good = true"),
        ({"site": {"not in": ["a", "b"]}}, "site not in (a, b)"),
        ({"site": {"!=": "a"}}, "site != a"),
        ({"site": None}, "site missing"),
        ({"site": {"exists": True}}, "site exists"),
        ({"name": {"like": "*.root"}}, 'name like "*.root"'),
        ({"name": "*.root"}, 'name = "*.root"'),
        ({"or": [{"run": 1}, {"run": 2, "site": "a"}]}, "run = 1 or (run = 2 and site = a)"),
        ({"not": {"run": 1}}, "not run = 1"),
        ({"or": [{"run": 1}, {}]}, ""),
    ],
)
def test_the_json_form(query: dict[str, Any], meaning: str) -> None:
    assert from_mapping(query) == parse(meaning)


@pytest.mark.parametrize(
    "query",
    [
        {"run": {}}, {"run": []}, {"run": {"~": 5}}, {"run": [[1]]}, {"or": {}}, {"or": []}, {"not": 5}, {"": 1},
        {"run": float("nan")}, {"run": {"<": None}}, {"run": "\0"}, {"run": {"like": 5}}, {"a": 1, "or": ["x"]},
    ],
)  # fmt: skip
def test_a_bad_json_form_is_refused(query: dict[str, Any]) -> None:
    with pytest.raises(BadQuery):
        from_mapping(query)


def test_a_deep_json_form_is_refused() -> None:
    query: dict[str, Any] = {"run": 1}
    for _ in range(2000):
        query = {"not": query}
    with pytest.raises(BadQuery, match="levels"):
        from_mapping(query)
