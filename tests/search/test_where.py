import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg import sql

from spinor.search import BadQuery, Comparison, Expression, Like, Name, Operator, Value, parse
from spinor.search.fields import Field, FieldKind, Fields
from spinor.search.grammar import MAX_DEPTH
from spinor.search.where import compile_where

from .things import FIELDS, NOW, STATUSES, Row, expressions, fill, matches, rows

on_postgres = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
FIND = sql.SQL("SELECT id FROM thing WHERE {} ORDER BY id")


def found(connection: psycopg.Connection, expression: Expression, fields: Fields = FIELDS) -> list[int]:
    where, params = compile_where(expression, fields, NOW)
    return [row[0] for row in connection.execute(FIND.format(where), params)]


def thing(number: int, **values: Any) -> Row:
    empty = dict.fromkeys(("name", "count", "ratio", "flag", "at", "size", "wall_s", "guid"))
    return {"id": number, **empty, "status": "waiting", "meta": {}, **values}


@on_postgres
@given(rows=rows(), asked=st.lists(expressions, min_size=1, max_size=4))
def test_agrees_with_plain_python(connection: psycopg.Connection, rows: list[Row], asked: list[Expression]) -> None:
    fill(connection, rows)
    for expression in asked:
        expected = sorted(row["id"] for row in rows if matches(expression, row))
        assert found(connection, expression) == expected
        assert found(connection, parse(str(expression))) == expected


ATTACKS = ["' OR true --", '"; DROP TABLE thing; --', "%s", "%(q0)s", "%", "{}", "$1", "\\", "'||(SELECT 1)||'", "a*'b"]


@pytest.mark.parametrize("attack", ATTACKS)
def test_values_stay_values(connection: psycopg.Connection, attack: str) -> None:
    fill(connection, [thing(1, name=attack), thing(2, name="harmless"), thing(3)])
    assert found(connection, Comparison(Name("name"), Operator.EQ, Value(attack))) == [1]
    assert found(connection, parse(str(Comparison(Name("name"), Operator.NE, Value(attack))))) == [2]
    literal = attack.replace("\\", "\\\\").replace("*", "\\*").replace("?", "\\?")
    assert found(connection, Like(Name("name"), Value(literal))) == [1]
    where, _ = compile_where(Comparison(Name("name"), Operator.EQ, Value(attack)), FIELDS, NOW)
    assert where.as_string(None) == '("name" = %(q0)s::text)'


@pytest.mark.parametrize("attack", ATTACKS)
def test_names_stay_names(connection: psycopg.Connection, attack: str) -> None:
    fill(connection, [thing(1)])
    with pytest.raises(BadQuery, match="unknown field"):
        found(connection, Comparison(Name(attack), Operator.EQ, Value("1")))
    assert found(connection, Comparison(Name(f"m.{attack}"), Operator.EQ, Value("1"))) == []


@on_postgres
@given(text=st.text(max_size=20))
@example("\\")
@example("%_")
def test_any_text_finds_itself(connection: psycopg.Connection, text: str) -> None:
    if "\x00" in text:
        return
    fill(connection, [thing(1, name=text), thing(2, name=text + "x")])
    assert found(connection, parse(str(Comparison(Name("name"), Operator.EQ, Value(text))))) == [1]


@pytest.mark.parametrize(
    ("text", "matching"),
    [
        ("name=run*", [1, 2]),
        ("name='run*'", [2]),
        ("name like 'run\\*'", [2]),
        ("name != run*", [3]),
        ("not name=run*", [3, 4]),
        ("missing name", [4]),
        ("not (exists name and count=1)", [2, 3, 4]),
        ("size=1GB", [1]),
        ("size=1GiB", [2]),
        ("size>=1.5k size<1TB", [1, 2]),
        ("size in (1000000000, 1GiB)", [1, 2]),
        ("wall_s=10m", [1]),
        ("wall_s<=1h30m", [1, 2]),
        ("wall_s in (600, 0.5)", [1, 2]),
        ("at=2026-11-23", [1]),
        ("at>2026-11-23", [3]),
        ("at<=2026-11-23", [1, 2]),
        ("at<2026-11-23", [2]),
        ("at!=2026-11-23", [2, 3]),
        ("at in (2026-11-22, 2026-11-24)", [2, 3]),
        ("at>-1h", [1, 3]),
        ("at>=2026-11-23T11:30Z at<'2026-11-23 12:00'", [1]),
        ("at=2026-11-23T12:30+01:00", [1]),
        ("status=f*", [1]),
        ("status=failed,done", [1, 2]),
        ("status!=failed,done", [3, 4]),
        ("status=*ing,done", [2, 3, 4]),
        ("flag=yes", [1]),
        ("flag in (true, no)", [1, 2]),
        ("guid=0000000000000000000000000000000A", [1]),
        ("", [1, 2, 3, 4]),
    ],
)
def test_examples(connection: psycopg.Connection, text: str, matching: list[int]) -> None:
    at = datetime(2026, 11, 23, 11, 30, tzinfo=UTC)
    day = timedelta(days=1)
    guid = "00000000-0000-0000-0000-00000000000a"
    one = thing(1, name="run1", count=1, size=10**9, wall_s=600.0, at=at, status="failed", flag=True, guid=guid)
    two = thing(2, name="run*", count=2, size=2**30, wall_s=0.5, at=at - day, status="done", flag=False)
    fill(connection, [one, two, thing(3, name="other", at=at + day), thing(4)])
    assert found(connection, parse(text)) == matching


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("a=1 stauts=failed", 5, 'unknown field "stauts" at character 5; did you mean "status"?'),
        ("Status=failed", 1, 'did you mean "status"?'),
        ("zzz=1", 1, "there is id, name"),
        ("status=faild", 8, 'did you mean "failed"?'),
        ("status=zzz*", 8, "there is waiting, running, done, failed"),
        ("status in (done, x)", 18, "is not a value of"),
        ("status>done", 1, "cannot be compared with >"),
        ("count like 1", 1, "cannot be compared with like"),
        ("count=1.5", 7, "not a whole number"),
        ("count=\u0663", 7, "not a whole number"),
        ("count=99999999999999999999", 7, "not within 64 bits"),
        ("count=" + "9" * 5000, 7, "not a whole number"),
        ("ratio=nan", 7, "not a number"),
        ("ratio=1e999", 7, "not a number"),
        ("size=1.0000001k", 6, "whole number of bytes"),
        ("size=10E", 6, "not within 64 bits"),
        ("size=-1", 6, "not a size"),
        ("wall_s=soon", 8, "not a duration"),
        ("flag=maybe", 6, "not true or false"),
        ("guid=123", 6, "not a UUID"),
        ("at=yesterday", 4, "not a time such as"),
        ("at=1h", 4, "not a time such as"),
        ("at=2026-02-30", 4, "not a time such as"),
        ("at=9999-12-31", 4, "not in range"),
        ("at>-99999999999d", 4, "not in range"),
        ("at>-9999d at>-99999999d", 14, "not in range"),
    ],
)
def test_errors_point_at_the_character(text: str, position: int, words: str) -> None:
    fields = Fields([*(FIELDS.find(name) for name in FIELDS.names), Field("a", sql.SQL("1"), FieldKind.INTEGER)])
    with pytest.raises(BadQuery) as caught:
        compile_where(parse(text), fields, NOW)
    assert words in caught.value.message
    assert caught.value.facts["position"] == position


def test_an_expression_that_no_text_wrote_has_errors_without_a_place() -> None:
    with pytest.raises(BadQuery) as caught:
        compile_where(Comparison(Name("stauts"), Operator.EQ, Value("x")), FIELDS, NOW)
    assert caught.value.message == 'unknown field "stauts"; did you mean "status"?'
    assert caught.value.facts == {}


def test_the_deepest_query_is_written_without_exhausting_the_stack(connection: psycopg.Connection) -> None:
    fill(connection, [thing(1)])
    deepest = "id=1 or count=2 and (" * MAX_DEPTH + "id=5" + ")" * MAX_DEPTH
    assert found(connection, parse(deepest)) == [1]
    assert found(connection, parse("not " * MAX_DEPTH + "id=1")) == [1]


def test_many_conditions_and_long_lists(connection: psycopg.Connection) -> None:
    fill(connection, [thing(1), thing(999)])
    assert found(connection, parse(" or ".join(f"id={n}" for n in range(1_000)))) == [1, 999]
    assert found(connection, parse("id=" + ",".join(map(str, range(10_000))))) == [1, 999]


def test_a_wild_pattern_over_an_enum_takes_no_time() -> None:
    fields = Fields([Field("e", sql.SQL("e"), FieldKind.ENUM, values=("a" * 60, *STATUSES))])
    with pytest.raises(BadQuery, match="is like"):
        compile_where(parse("e=" + "*a" * 40 + "*b"), fields, NOW)


def storage_element(operator: Operator, value: sql.Composable) -> sql.Composable:
    """A field that is a set of rows: here, the keys of the document."""
    match operator:
        case Operator.EXISTS:
            return sql.SQL("meta <> '{{}}'").format()
        case Operator.IN:
            return sql.SQL("meta ?| {}").format(value)
        case Operator.LIKE:
            return sql.SQL("EXISTS (SELECT FROM jsonb_object_keys(meta) AS k WHERE k LIKE {})").format(value)
        case _:
            return sql.SQL("meta ? {}").format(value)


def test_a_field_may_write_its_own_condition(connection: psycopg.Connection) -> None:
    se = Field(
        "se",
        sql.SQL("NULL"),
        FieldKind.TEXT,
        sortable=False,
        summable=False,
        condition=storage_element,
        ops=frozenset(Operator) - {Operator.LT, Operator.LE, Operator.GT, Operator.GE},
    )
    fields = Fields([se])
    metas: list[dict[str, int]] = [{}, {"CERN": 1}, {"CERN": 1, "IN2P3": 1}, {"KEK": 1}]
    fill(connection, [thing(number, meta=meta) for number, meta in enumerate(metas)])
    for text, matching in [
        ("se=CERN", [1, 2]),
        ("se!=CERN", [3]),
        ("not se=CERN", [0, 3]),
        ("se=KEK,IN2P3", [2, 3]),
        ("se!=KEK,IN2P3", [1]),
        ("se=IN*", [2]),
        ("se!=IN*", [1, 3]),
        ("missing se", [0]),
        ("not missing se", [1, 2, 3]),
        ("se=CERN se=IN2P3", [2]),
    ]:
        assert found(connection, parse(text), fields) == matching, text
    with pytest.raises(BadQuery, match="cannot be compared with > at character 1; use =, !=, in, like, exists"):
        found(connection, parse("se>a"), fields)


@pytest.mark.parametrize("text", ["id=5", "id>5", "id in (1,2)", "count=7", "at>-1h", "wall_s>=1h", "status=failed"])
def test_conditions_go_through_an_index(connection: psycopg.Connection, text: str) -> None:
    for column in ("count", "at", "wall_s", "status"):
        connection.execute(
            sql.SQL("CREATE INDEX IF NOT EXISTS {} ON thing ({})").format(
                sql.Identifier(f"by_{column}"), sql.Identifier(column)
            )
        )
    where, params = compile_where(parse(text), FIELDS, NOW)
    with connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL enable_seqscan = off")
        plan = connection.execute(sql.SQL("EXPLAIN SELECT * FROM thing WHERE {}").format(where), params).fetchall()
    assert any("Index Cond" in line for (line,) in plan), plan


def test_only_an_enum_field_declares_values() -> None:
    with pytest.raises(ValueError, match="declares its values"):
        Field("status", sql.SQL("status"), FieldKind.ENUM)
    with pytest.raises(ValueError, match="declares its values"):
        Field("name", sql.SQL("name"), FieldKind.TEXT, values=("a",))


def test_the_command_line_can_read_a_filter_without_a_database_driver() -> None:
    program = "import sys, spinor.search, spinor.search.fields; print({'psycopg', 'asyncio'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_documented_error_is_the_real_one() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/search.md").read_text()
    with pytest.raises(BadQuery) as caught:
        compile_where(parse("site=a  stauts=failed"), Fields([*map(FIELDS.find, ["status"]), SITE]), NOW)
    error = caught.value
    assert f"{error.message}\n    {error.facts['query']}\n    {error.facts['caret']}\n" in page


SITE = Field("site", sql.SQL("site"), FieldKind.TEXT)
