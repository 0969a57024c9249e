"""Which files of a slice a filter names: the language of `spinor file find`."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from psycopg import sql

from spinor.access import Caller
from spinor.catalog import store as catalog
from spinor.catalog.operations import store
from spinor.catalog.operations.rules import Range
from spinor.catalog.query.fields import FileFields, undeclared_key, unknown_names
from spinor.catalog.query.store import value_of_key
from spinor.catalog.service.permissions import sieve
from spinor.db import Tx
from spinor.search import parse
from spinor.search.where import compile_where

_SELECT = sql.SQL("""
SELECT f.file_id
FROM unnest(%(directory_ids)s::bigint[], %(firsts)s::text[], %(lasts)s::text[]) AS w (directory_id, first, last)
JOIN catalog.directory AS d ON d.directory_id = w.directory_id
JOIN catalog.file AS f ON f.directory_id = w.directory_id AND f.name BETWEEN w.first AND w.last
WHERE d.vo_id = %(vo_id)s::integer
  AND (%(gates)s::integer[] IS NULL OR d.gate_id = ANY (%(gates)s::integer[]))
  AND (%(readable)s::integer[] IS NULL OR d.access_id = ANY (%(readable)s::integer[]))
  AND (%(readable)s::integer[] IS NULL OR f.access_id = ANY (%(readable)s::integer[]))
  AND {where}""")


async def selected(tx: Tx, caller: Caller, where: str, now: datetime, ranges: Sequence[Range]) -> list[int] | None:
    """The file_ids that the filter names and the caller may read; None: there is no filter. Raises BadQuery.

    Relative times of the filter count from `now`, so that all slices of an operation mean the same.
    """
    if not where.strip():
        return None
    condition, values = await checked_where(tx, caller, where, now)
    mine = await sieve(tx, caller)
    values |= {"gates": mine.gates, "readable": mine.readable}
    rows = await store.on_ranges(tx, caller, _SELECT.format(where=condition), ranges, **values)
    return [row[0] for row in rows]


async def checked_where(tx: Tx, caller: Caller, where: str, now: datetime) -> tuple[sql.Composable, dict[str, Any]]:
    """The filter as a condition of SQL, and its parameters. Raises BadQuery."""
    expression = parse(where)
    keys = await catalog.metadata_keys(tx, caller)
    undeclared = [
        undeclared_key(name, value)
        for name in unknown_names([], expression, keys)
        for value in await value_of_key(tx, caller, name)
    ]
    return compile_where(expression, FileFields(keys, undeclared), now)
