"""One page of a list, by key: the order is the caller's sort and then the unique key, and a page starts after a row.

A page token holds the values of the last row in that order, the instant from which relative times count (so that all
pages see the same `-1h`), and a digest of the query, because the token of another query would skip rows silently.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg import sql

from spinor.search.expression import BadQuery
from spinor.search.fields import Field, FieldKind, Fields
from spinor.search.grammar import MAX_LENGTH, UNSENDABLE, parse
from spinor.search.models import MAX_FIELDS, MAX_LIMIT, MAX_SORT, Search
from spinor.search.values import Literal, shortest, within_bigint
from spinor.search.where import Conditions, Parameters

_STORED: dict[FieldKind, type] = {
    FieldKind.INTEGER: int,
    FieldKind.BYTES: int,
    FieldKind.BOOLEAN: bool,
    FieldKind.TIMESTAMP: datetime,
    FieldKind.UUID: UUID,
}
# In a token these are text, since JSON has no infinity; selected as the type that their value is sent back with.
_FLOATING = frozenset({FieldKind.FLOAT, FieldKind.SECONDS})
_DIRECTIONS = {"-": True, "+": False}


class _Token(msgspec.Struct, frozen=True, array_like=True):
    digest: str
    now: datetime
    values: list[str | int | bool | None]


@dataclass(frozen=True, slots=True)
class SortKey:
    field: Field
    descending: bool

    @property
    def order(self) -> sql.Composable:
        """Missing values come last in both directions; the words are absent where they would only hide an index."""
        direction = sql.SQL(" DESC" if self.descending else "")
        last = sql.SQL(" NULLS LAST" if self.descending and self.field.nullable else "")
        return sql.SQL("{}{}{}").format(self.field.sql, direction, last)

    @property
    def selected(self) -> sql.Composable:
        floating = self.field.kind in _FLOATING
        return sql.SQL("{}::double precision" if floating else "{}").format(self.field.sql)


@dataclass(frozen=True, slots=True)
class Page:
    """The parts of `SELECT {select} FROM ... WHERE ... AND {where} ORDER BY {order} LIMIT {limit}`, and what to do with
    its rows. The statement fetches one row more than the page shows, to know whether there is another page.

    `where` is the filter together with `after`: the rows that follow `position`, the last row of the page before.
    """

    select: sql.Composable
    where: sql.Composable
    after: sql.Composable
    position: tuple[Literal | None, ...] | None
    order: sql.Composable
    limit: sql.Composable
    params: dict[str, Any]
    names: tuple[str, ...]
    keys: tuple[SortKey, ...]
    size: int
    digest: str
    now: datetime

    @property
    def parts(self) -> dict[str, sql.Composable]:
        """For `sql.SQL(query).format(**page.parts)`."""
        return {"select": self.select, "where": self.where, "order": self.order, "limit": self.limit}

    def split(self, rows: Sequence[Any]) -> tuple[list[dict[str, Any]], str | None]:
        """The rows of the page by field name, and the token of the next page or None. Rows are tuples or dicts."""
        plain = [tuple(row.values()) if isinstance(row, Mapping) else tuple(row) for row in rows[: self.size]]
        width = len(self.names)
        token = self.token(plain[-1][width:]) if len(rows) > self.size else None
        return [dict(zip(self.names, row[:width], strict=True)) for row in plain], token

    def token(self, values: Sequence[Any]) -> str:
        """The token that continues after the row whose sort values, in the order of `keys`, are these."""
        if len(values) != len(self.keys):
            raise ValueError(f"{len(values)} values for {len(self.keys)} sort keys")
        body = msgspec.json.encode(_Token(self.digest, self.now, [_stored(value) for value in values]))
        return base64.urlsafe_b64encode(body).decode().rstrip("=")


def compile_page(search: Search, fields: Fields, key: str, now: datetime, of: str = "") -> Page:
    """`key` is a field that is unique and never missing, at least together with those that are sorted by before it.

    `of` is what else a page token belongs to. Raises `BadQuery`.
    """
    if not 1 <= search.limit <= MAX_LIMIT:
        raise BadQuery(f"limit is {search.limit}; it goes from 1 to {MAX_LIMIT:,}", field="limit")
    keys = _sort_keys(search.sort, fields, key)
    digest = _digest(search, key, of)
    token = _decoded(search.after, digest) if search.after is not None else None
    now = token.now if token else now
    parameters = Parameters()
    where = Conditions(fields, now, parameters).write(parse(search.where))
    position = tuple(_values(keys, token)) if token else None
    after: sql.Composable = sql.SQL("TRUE")
    if position is not None:
        after = _after(keys, list(position), parameters)
        where = sql.SQL("({} AND {})").format(where, after)
    if search.fields is not None and len(search.fields) > MAX_FIELDS:
        raise BadQuery(f"{len(search.fields)} fields are chosen; at most {MAX_FIELDS} are shown", field="fields")
    names = tuple(dict.fromkeys(fields.names if search.fields is None else search.fields))
    return Page(
        select=_select([fields.find(name) for name in names], keys),
        where=where,
        after=after,
        position=position,
        order=sql.SQL(", ").join(sort_key.order for sort_key in keys),
        limit=parameters.literal(search.limit + 1, FieldKind.INTEGER),
        params=parameters.values,
        names=names,
        keys=keys,
        size=search.limit,
        digest=digest,
        now=now,
    )


def _sort_keys(sort: list[str], fields: Fields, key: str) -> tuple[SortKey, ...]:
    """The caller's order up to the unique key, which decides everything that comes after it."""
    keys: dict[str, SortKey] = {}
    unique = fields.find(key)
    if len(sort) > MAX_SORT:
        raise BadQuery(f"sort names {len(sort)} fields; at most {MAX_SORT} are read", field="sort")
    for entry in [*sort, key]:
        descending = _DIRECTIONS.get(entry[:1])
        field = fields.sortable(entry if descending is None else entry[1:])
        keys.setdefault(field.name, SortKey(field, bool(descending)))
        if field.name == unique.name:
            break
    return tuple(keys.values())


def _select(projected: list[Field], keys: tuple[SortKey, ...]) -> sql.Composable:
    """Columns go by position, as a caller's field name may be longer than PostgreSQL lets a column's be."""
    named = [(f"_f{n}", field.sql) for n, field in enumerate(projected)]
    named += [(f"_k{n}", key.selected) for n, key in enumerate(keys)]
    return sql.SQL(", ").join(sql.SQL("{} AS {}").format(column, sql.Identifier(name)) for name, column in named)


def _after(keys: tuple[SortKey, ...], values: list[Literal | None], parameters: Parameters) -> sql.Composable:
    """The rows that follow the row with these values, in the order of the keys."""
    condition = sql.Composed([sql.SQL("FALSE")])
    for key, value in zip(reversed(keys), reversed(values), strict=True):
        column = key.field.sql
        if value is None:
            # Missing values are last: only another row with a missing one can follow.
            condition = sql.SQL("({} IS NULL AND {})").format(column, condition)
            continue
        bound = parameters.literal(value, key.field.kind)
        beyond = sql.SQL("{} < {}" if key.descending else "{} > {}").format(column, bound)
        if key.field.nullable:
            template = sql.SQL("({} OR {} IS NULL OR ({} = {} AND {}))")
            condition = template.format(beyond, column, column, bound, condition)
        else:
            # The first comparison is implied by the rest; it is what an index on the column can start from.
            bounded = sql.SQL("{} <= {}" if key.descending else "{} >= {}").format(column, bound)
            condition = sql.SQL("({} AND ({} OR {}))").format(bounded, beyond, condition)
    return condition


def _digest(search: Search, key: str, of: str) -> str:
    told = [search.where.strip(), search.sort, key, *([of] if of else [])]
    return hashlib.blake2b(msgspec.json.encode(told), digest_size=9).hexdigest()


def _decoded(text: str, digest: str) -> _Token:
    token = _read_token(text)
    if token is None:
        raise BadQuery("`after` is not a page token; take it from the page before, unchanged", field="after")
    if token.digest != digest:
        problem = "the page token belongs to another query; keep `where` and `sort`, or start again without `after`"
        raise BadQuery(problem, field="after")
    return token


def _read_token(text: str) -> _Token | None:
    try:
        body = base64.b64decode(text[:MAX_LENGTH] + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        token = msgspec.json.decode(body, type=_Token)
    except ValueError:
        return None
    return token if token.now.tzinfo else None


def _stored(value: Any) -> str | int | bool | None:
    if value is None or isinstance(value, bool | int):
        return value
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _values(keys: tuple[SortKey, ...], token: _Token) -> list[Literal | None]:
    """The values of a token, checked like any other input: a token is not signed, and grants nothing."""
    try:
        return [_restored(key.field, value) for key, value in zip(keys, token.values, strict=True)]
    except ValueError:
        raise BadQuery("`after` is not a page token of this list; start again without it", field="after") from None


def _restored(field: Field, value: str | int | bool | None) -> Literal | None:
    if value is None and field.nullable:
        return None
    if field.kind in _FLOATING:
        number = float(msgspec.convert(value, str))
        return shortest(number) if field.kind is FieldKind.SECONDS else number
    restored: Literal = msgspec.convert(value, _STORED.get(field.kind, str))
    if field.kind is FieldKind.ENUM and restored not in field.values:
        raise ValueError("not a declared value")
    if isinstance(restored, str) and UNSENDABLE.search(restored):
        raise ValueError("not a text of PostgreSQL")
    if isinstance(restored, datetime) and restored.tzinfo is None:
        raise ValueError("not an instant")
    return within_bigint(restored) if type(restored) is int else restored
