import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.rows import dict_row

from spinor.search import BadQuery, Search
from spinor.search.page import compile_page
from spinor.search.summary import compile_summary

from .things import FIELDS, NOW, STATUSES, Row, fill, rows

LIST = sql.SQL("SELECT {select} FROM thing WHERE id IS NOT NULL AND {where} ORDER BY {order} LIMIT {limit}")
on_postgres = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

names = st.sampled_from([*FIELDS.names, "m.run", 'm.o"d%d'])
sorts = st.lists(st.tuples(st.sampled_from(["", "-", "+"]), names).map("".join), max_size=4)


def page_of(connection: psycopg.Connection, search: Search) -> tuple[list[dict[str, Any]], str | None]:
    page = compile_page(search, FIELDS, "id", NOW)
    return page.split(connection.execute(LIST.format(**page.parts), page.params).fetchall())


def all_pages(connection: psycopg.Connection, **search: Any) -> list[list[dict[str, Any]]]:
    pages, after = [], None
    while True:
        shown, after = page_of(connection, Search(after=after, **search))
        pages.append(shown)
        if after is None:
            return pages
        assert len(pages) < 100


def expected_order(rows: list[Row], sort: list[str]) -> list[int]:
    ordered = sorted(rows, key=lambda row: row["id"])
    for entry in reversed(sort):
        name = entry.lstrip("+-")

        def value(row: Row, name: str = name) -> Any:
            held = row["meta"].get(name[2:]) if name.startswith("m.") else row[name]
            return STATUSES.index(held) if name == "status" else held

        there = [row for row in ordered if value(row) is not None]
        missing = [row for row in ordered if value(row) is None]
        ordered = sorted(there, key=value, reverse=entry.startswith("-")) + missing
    return [row["id"] for row in ordered]


@on_postgres
@given(rows=rows(15), sort=sorts, limit=st.integers(1, 5))
def test_pages_visit_each_row_once_and_in_order(
    connection: psycopg.Connection, rows: list[Row], sort: list[str], limit: int
) -> None:
    fill(connection, rows)
    pages = all_pages(connection, sort=sort, limit=limit, fields=["id"])
    assert [row["id"] for page in pages for row in page] == expected_order(rows, sort)
    assert all(len(page) == limit for page in pages[:-1])
    assert pages[-1] or not rows


@on_postgres
@given(rows=rows(15), sort=sorts)
def test_a_filter_and_a_sort_page_together(connection: psycopg.Connection, rows: list[Row], sort: list[str]) -> None:
    fill(connection, rows)
    pages = all_pages(connection, sort=sort, limit=2, where="status=*ing or count>0", fields=["id"])
    kept = [row for row in rows if row["status"].endswith("ing") or (row["count"] or 0) > 0]
    assert [row["id"] for page in pages for row in page] == expected_order(kept, sort)


def plain_rows(count: int) -> list[Row]:
    empty = dict.fromkeys(("name", "flag", "size", "wall_s", "guid"))
    start = NOW - timedelta(hours=count)
    return [
        {
            "id": n,
            **empty,
            "count": n % 3,
            "ratio": None,
            "at": start + timedelta(hours=n),
            "status": "done",
            "meta": {},
        }
        for n in range(count)
    ]


@pytest.mark.parametrize("special", [float("inf"), float("-inf"), float("nan"), 5e-324, 0.1 + 0.2])
def test_floats_survive_a_token(connection: psycopg.Connection, special: float) -> None:
    fill(connection, [row | {"ratio": special if row["id"] % 2 else 1.0} for row in plain_rows(6)])
    for sort in ("ratio", "-ratio"):
        seen = [row["id"] for page in all_pages(connection, sort=[sort], limit=1) for row in page]
        assert sorted(seen) == list(range(6))


def test_the_projection_names_the_columns(connection: psycopg.Connection) -> None:
    long_key = "m." + "k" * 200
    fill(connection, plain_rows(2))
    (row, _), token = page_of(connection, Search(fields=["status", "id", long_key, "status"], sort=["at"]))
    assert row == {"status": "done", "id": 0, long_key: None}
    assert token is None
    (whole, *_), _ = page_of(connection, Search())
    assert list(whole) == FIELDS.names


def test_rows_may_be_dicts(connection: psycopg.Connection) -> None:
    fill(connection, plain_rows(3))
    page = compile_page(Search(limit=2, fields=["id"]), FIELDS, "id", NOW)
    with connection.cursor(row_factory=dict_row) as cursor:
        shown, token = page.split(cursor.execute(LIST.format(**page.parts), page.params).fetchall())
    assert shown == [{"id": 0}, {"id": 1}]
    assert token == page.token([1])


def test_all_pages_see_the_same_relative_time(connection: psycopg.Connection) -> None:
    fill(connection, plain_rows(10))
    search = Search(where="at>=-5h", limit=3, fields=["id"])
    first, token = page_of(connection, search)
    later = compile_page(msgspec.structs.replace(search, after=token), FIELDS, "id", NOW + timedelta(hours=4))
    assert later.now == NOW
    assert first[0] == {"id": 5}


def test_nothing_after_the_unique_key_matters() -> None:
    page = compile_page(Search(sort=["-id", "name", "count"]), FIELDS, "id", NOW)
    assert page.order.as_string(None) == '"id" DESC'
    page = compile_page(Search(sort=["-name", "name", "+status"]), FIELDS, "id", NOW)
    assert page.order.as_string(None) == '"name" DESC NULLS LAST, "status", "id"'


def forged(change: Any, sort: str = "count") -> str:
    token = compile_page(Search(sort=[sort]), FIELDS, "id", NOW).token([1, 1])
    body = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    return base64.urlsafe_b64encode(json.dumps(change(body)).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    ("after", "words"),
    [
        ("", "not a page token"),
        ("?", "not a page token"),
        ("é", "not a page token"),
        ("AAAA", "not a page token"),
        ("A" * 100_000, "not a page token"),
        (forged(lambda body: body[:2]), "not a page token"),
        (forged(lambda body: [body[0], "2026-11-23T10:00:00", body[2]]), "not a page token"),
        (forged(lambda body: [*body[:2], [{"a": 1}, 1]]), "not a page token"),
        (forged(lambda body: ["0" * 18, *body[1:]]), "belongs to another query"),
        (forged(lambda body: [*body[:2], [1]]), "not a page token of this list"),
        (forged(lambda body: [*body[:2], ["x", 1]]), "not a page token of this list"),
        (forged(lambda body: [*body[:2], [2**70, 1]]), "not a page token of this list"),
        (forged(lambda body: [*body[:2], [1, None]]), "not a page token of this list"),
    ],
)
def test_a_wrong_token_is_refused(after: str, words: str) -> None:
    with pytest.raises(BadQuery, match=words):
        compile_page(Search(sort=["count"], after=after), FIELDS, "id", NOW)


@pytest.mark.parametrize(
    ("sort", "value"),
    [
        ("status", "gone"),
        ("name", "\x00"),
        ("name", 1),
        ("ratio", "x"),
        ("ratio", 1),
        ("at", "2026-11-23T10:00:00"),
        ("at", "x"),
        ("guid", "x"),
        ("flag", "x"),
        ("status", None),
    ],
)
def test_a_token_cannot_carry_what_the_column_cannot_hold(sort: str, value: Any) -> None:
    after = forged(lambda body: [*body[:2], [value, 1]], sort)
    with pytest.raises(BadQuery, match="not a page token of this list"):
        compile_page(Search(sort=[sort], after=after), FIELDS, "id", NOW)


@pytest.mark.parametrize(
    "other", [{"where": "count=1"}, {"sort": ["-count"]}, {"sort": []}, {"sort": ["count", "name"]}]
)
def test_the_token_of_another_query_is_refused(other: dict[str, Any]) -> None:
    token = compile_page(Search(sort=["count"]), FIELDS, "id", NOW).token([1, 1])
    with pytest.raises(BadQuery, match="belongs to another query"):
        compile_page(Search(**({"sort": ["count"], "after": token} | other)), FIELDS, "id", NOW)


@pytest.mark.parametrize(
    ("search", "words"),
    [
        (Search(sort=["nmae"]), 'unknown field "nmae"; did you mean "name"'),
        (Search(sort=[""]), "unknown field"),
        (Search(sort=["-"]), "unknown field"),
        (Search(sort=["name; DROP TABLE thing"]), "unknown field"),
        (Search(sort=["name"] * 17), "at most 16"),
        (Search(fields=["nmae"]), 'did you mean "name"'),
        (Search(fields=["name"] * 501), "at most 500"),
        (Search(limit=0), "from 1 to 10,000"),
        (Search(limit=10_001), "from 1 to 10,000"),
        (Search(where="nmae=1"), "at character 1"),
    ],
)
def test_a_wrong_search_is_refused(search: Search, words: str) -> None:
    with pytest.raises(BadQuery, match=words):
        compile_page(search, FIELDS, "id", NOW)


def test_a_later_page_starts_from_the_index(connection: psycopg.Connection) -> None:
    fill(connection, plain_rows(2_000))
    connection.execute("ANALYZE thing")
    first = compile_page(Search(sort=["-id"], limit=10), FIELDS, "id", NOW)
    later = compile_page(Search(sort=["-id"], limit=10, after=first.token([500])), FIELDS, "id", NOW)
    plan = connection.execute(sql.SQL("EXPLAIN {}").format(LIST.format(**later.parts)), later.params).fetchall()
    text = "\n".join(line for (line,) in plan)
    assert "Index Scan Backward" in text and "Index Cond" in text and "Sort" not in text


COUNT = sql.SQL("SELECT {select} FROM thing GROUP BY {group} ORDER BY {order}")


def test_a_summary_counts_groups(connection: psycopg.Connection) -> None:
    fill(connection, [row | {"status": "failed" if row["id"] == 0 else "done"} for row in plain_rows(7)])

    def groups(*by: str) -> list[dict[str, Any]]:
        summary = compile_summary(by, FIELDS)
        return summary.groups(connection.execute(COUNT.format(**summary.parts), {}).fetchall())

    assert groups() == [{"count": 7}]
    assert groups("status") == [{"status": "done", "count": 6}, {"status": "failed", "count": 1}]
    assert sum(group["count"] for group in groups("status", "m.100%")) == 7
    with pytest.raises(BadQuery, match="did you mean"):
        groups("statsu")


def test_times_in_tokens_keep_their_zone_and_microseconds(connection: psycopg.Connection) -> None:
    at = datetime(2026, 3, 29, 1, 30, 0, 1, tzinfo=UTC)
    spread = [row | {"at": at + timedelta(microseconds=row["id"] // 2)} for row in plain_rows(8)]
    fill(connection, spread)
    with connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL TimeZone = 'Europe/Paris'")
        pages = all_pages(connection, sort=["-at"], limit=1, fields=["id"])
    assert [row["id"] for page in pages for row in page] == expected_order(spread, ["-at"])
