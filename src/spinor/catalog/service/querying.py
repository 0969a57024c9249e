"""Queries over the files of a tree: a page of them, their number, their values, and how the answer is found."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from psycopg import sql

from spinor.access import Caller
from spinor.catalog import store as catalog
from spinor.catalog.errors import UnknownKey
from spinor.catalog.models import FoundPage, MetadataKey
from spinor.catalog.query import store
from spinor.catalog.query.fields import FACETS, FileFields, Level, named, undeclared_key, unknown_names
from spinor.catalog.query.levels import Look, conditioned
from spinor.catalog.query.models import Counted, Facet, FacetQuery, FacetValue
from spinor.catalog.query.store import Statement
from spinor.catalog.service.directories import required_directory
from spinor.catalog.service.permissions import sieve
from spinor.db import Tx
from spinor.search import Expression, Search, parse
from spinor.search.mapping import from_mapping
from spinor.search.page import Page, compile_page
from spinor.search.where import Parameters

_FEW = 20_000  # So many files are looked at as fast as an index over them is asked.
_FIRST_DIRECTORIES, _MOST_DIRECTORIES = 4, 4096

Where = str | dict[str, Any]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A query, understood and permitted."""

    where: str
    fields: FileFields
    statement: Statement
    annotated: int  # Files of the tree with metadata of their own.


async def find_files(tx: Tx, caller: Caller, path: str, search: Search) -> FoundPage:
    """One page of the files at or below a path that the filter names, by directory and name unless sorted otherwise.

    A metadata key means a file's own value, else that of the nearest directory above. Raises BadQuery,
    UnknownDirectory.
    """
    asked = ["lfn", "size_bytes", *(search.fields or [])]
    prepared = await prepare(tx, caller, path, search.where, [*search.sort, *asked])
    sorting = [*search.sort, "path"]
    page = compile_page(
        msgspec.structs.replace(search, where="", sort=sorting, fields=asked), prepared.fields, "name",
        datetime.now(UTC), of=f"{path} {prepared.where}",
    )  # fmt: skip
    if search.sort:
        return await _sorted(tx, prepared.statement, page)
    rows = await _first_files(tx, prepared.statement, page)
    found, after = page.split(rows)
    return FoundPage(rows=found, next=after)


async def _sorted(tx: Tx, statement: Statement, page: Page) -> FoundPage:
    query = statement.written("sorted", select=page.select, after=page.after, order=page.order, limit=page.limit)
    found, after = page.split(await store.run(tx, query, statement.all_values(**page.params)))
    return FoundPage(rows=found, next=after)


async def _first_files(tx: Tx, statement: Statement, page: Page) -> list[tuple[Any, ...]]:
    """One row more than the page, if there is: from few directories first, and near ones, then from more."""
    # Two equalities together name so few directories that the index over them is faster than any look around.
    near = statement.look is None and len(statement.conditions.looks) < 2
    query = statement.page(page.select, page.limit, near=near)
    first, name = page.position or (None, "")
    count = _FIRST_DIRECTORIES
    found: list[tuple[Any, ...]] = []
    while len(found) <= page.size:
        values = statement.all_values(**page.params, first=first, name=name, directories=count)
        rows = await store.run(tx, query, values)
        found += [row for row in rows if row[-1] is not None]
        seen = dict.fromkeys(row[-2] for row in rows)
        if len(seen) < count and not near:
            break
        if seen:
            # No name lies behind this one, so that the last directory is not looked at again.
            first, name = next(reversed(seen)), "\U0010ffff" * 64
        if len(seen) < count:
            near, count = False, max(count, 32)
            query = statement.page(page.select, page.limit, near=near)
        else:
            count = min(4 * count, _MOST_DIRECTORIES)
    return found


async def count_files(tx: Tx, caller: Caller, path: str, where: Where) -> Counted:
    """How many files a query finds, and their bytes together; exact. Raises BadQuery, UnknownDirectory."""
    statement = (await prepare(tx, caller, path, where)).statement
    ((files, size_bytes),) = await store.run(tx, statement.written("count"), statement.all_values())
    return Counted(files=files, size_bytes=size_bytes)


async def facets(tx: Tx, caller: Caller, query: FacetQuery) -> list[Facet]:
    """The different values of fields among the files that a query finds, with how many files have each; exact.

    Raises BadQuery, UnknownDirectory.
    """
    prepared = await prepare(tx, caller, query.path, query.where, query.keys)
    return [await _facet(tx, prepared, key, query.limit) for key in dict.fromkeys(query.keys)]


async def _facet(tx: Tx, prepared: Prepared, key: str, limit: int) -> Facet:
    fields, statement = prepared.fields, prepared.statement
    field = fields.summable(key)
    level = fields.level(field)
    of_file, shown = FACETS.get(field.name, (field.sql, sql.SQL("{}")))
    of_directory = None if level is Level.FILE else fields.at(Level.DIRECTORY).find(key).sql
    query = statement.facet(of_file, of_directory, shown.format(sql.SQL("v")), own=level is Level.INHERITED)
    rows = await store.run(tx, query, statement.all_values(values=limit))
    values = [FacetValue(value=value, files=files) for value, files in rows[:limit]]
    return Facet(key=key, values=values, complete=len(rows) <= limit)


def understood(where: Where) -> Expression:
    """A filter as a text of the query language, or in its JSON form. Raises BadQuery."""
    return from_mapping(where) if isinstance(where, dict) else parse(where)


async def prepare(tx: Tx, caller: Caller, path: str, where: Where, asked: Sequence[str] = ()) -> Prepared:
    """Raises BadQuery, UnknownDirectory, DirectoryDenied."""
    directory = await required_directory(tx, caller, path, listed=True)
    expression = understood(where)
    keys, annotated = await store.keys_and_annotated(tx, caller, directory.path)
    fields = await _fields(tx, caller, keys, expression, asked)
    parameters = Parameters("w")
    told = conditioned(expression, fields, datetime.now(UTC), parameters)
    look = await _look(tx, caller, told.looks) if annotated > _FEW else None
    mine = await sieve(tx, caller, directory)
    values = {
        "vo_id": caller.vo_id, "path": directory.path, "gates": mine.gates, "readable": mine.readable,
        "keys": [name for name in named(expression) if fields.level(fields.find(name)) is Level.INHERITED],
    }  # fmt: skip
    return Prepared(
        where=where.strip() if isinstance(where, str) else str(expression),
        fields=fields,
        statement=Statement(told, parameters, values, look),
        annotated=annotated,
    )


async def _look(tx: Tx, caller: Caller, looks: tuple[Look, ...]) -> Look | None:
    """The equality by which an index finds few files."""
    estimates = [(await store.estimated_files(tx, caller, look), n) for n, look in enumerate(looks)]
    fewest, n = min(estimates, default=(_FEW + 1, 0))
    return looks[n] if fewest <= _FEW else None


async def _fields(
    tx: Tx, caller: Caller, keys: list[MetadataKey], expression: Expression, asked: Sequence[str]
) -> FileFields:
    undeclared = [
        undeclared_key(name, value)
        for name in unknown_names(asked, expression, keys)
        for value in await store.value_of_key(tx, caller, name)
    ]
    return FileFields(keys, undeclared)


async def undeclare_keys(tx: Tx, caller: Caller, names: list[str]) -> list[MetadataKey]:
    """Forget the types of keys, all or none; the keys that are still declared. Values stay. Raises UnknownKey."""
    gone = await store.undeclare_keys(tx, caller, names)
    if missing := [name for name in names if name not in gone]:
        raise UnknownKey(f"The metadata key {missing[0][:200]!r} is not declared; see `spinor file metadata keys`.")
    return await catalog.metadata_keys(tx, caller)
