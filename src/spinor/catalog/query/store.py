"""The statements of queries: written from their parts, and always planned for the values at hand."""

from dataclasses import dataclass
from typing import Any

from psycopg import sql
from psycopg.rows import tuple_row
from psycopg.sql import Composable

from spinor.access import Caller
from spinor.catalog.models import MetadataKey, MetadataType
from spinor.catalog.query.levels import Conditioned, Look, contains
from spinor.db import Queries, Tx, fetch_rows
from spinor.search.where import Parameters

Q = Queries("spinor.catalog.query")
_SEARCH = {name: sql.SQL(text) for name, text in Queries("spinor.catalog.query", "search.sql").statements.items()}


@dataclass(frozen=True, slots=True)
class Statement:
    """The parts that all statements of one query share. `look` is there when the index over files is used."""

    conditions: Conditioned
    parameters: Parameters
    values: dict[str, Any]  # vo_id, path, gates, readable.
    look: Look | None = None

    def parts(self) -> dict[str, Composable]:
        told = self.conditions
        fixed: dict[str, Composable] = {
            name: _SEARCH[name] for name in ("reachable", "readable", "all_readable")
        } | {
            "possible": told.possible, "possible_annotated": told.possible_annotated, "certain": told.certain,
            "certain_annotated": told.certain_annotated, "matches": told.matches, "inherits": sql.SQL("TRUE"),
        }  # fmt: skip
        if self.look is not None:
            found = list(self.look.documents)
            fixed["inherits"] = contains(sql.SQL("d.effective"), found, self.parameters)
            fixed["own"] = contains(sql.SQL("f.metadata"), found, self.parameters)
        directories, files = _SEARCH["directories"].format(**fixed), _SEARCH["files"].format(**fixed)
        if self.look is not None:
            directories = sql.SQL("{} {}").format(directories, _SEARCH["picked"].format(**fixed))
            files = sql.SQL("{} {}").format(files, _SEARCH["picked_files"].format(**fixed))
        return fixed | {"directories": directories, "files": files, "near": _SEARCH["near"].format(**fixed)}

    def written(self, name: str, **parts: Composable) -> sql.Composed:
        return _SEARCH[name].format(**(self.parts() | parts))

    def page(self, select: Composable, limit: Composable, *, near: bool) -> sql.Composed:
        """The first files, of the next thousand directories or of all."""
        parts = self.parts() | {"select": select, "limit": limit}
        return _SEARCH["page"].format(**(parts | ({"directories": parts["near"]} if near else {})))

    def facet(
        self, of_file: Composable, of_directory: Composable | None, shown: Composable, *, own: bool
    ) -> sql.Composed:
        """Count by a value that is the directory's, if there is one; `own`: files may say otherwise."""
        counted: Composable = sql.SQL("FALSE")
        whole: Composable = sql.SQL("")
        if of_directory is not None:
            counted = sql.SQL("(d.whole AND {} AND {})").format(
                sql.SQL("d.annotated_files = 0" if own else "TRUE"), _SEARCH["all_readable"]
            )
            whole = _SEARCH["facet_whole"].format(of_directory=of_directory, counted_whole=counted)
        return self.written("facet", of_file=of_file, shown=shown, counted_whole=counted, whole=whole)

    def all_values(self, **values: Any) -> dict[str, Any]:
        return {**self.values, **self.parameters.values, **values}


async def run(tx: Tx, statement: sql.Composed, values: dict[str, Any]) -> list[tuple[Any, ...]]:
    """The rows. Never prepared: how many rows a value stands for decides the plan."""
    async with tx.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(statement, values, prepare=False)
        return await cursor.fetchall()


async def explain(tx: Tx, statement: sql.Composed, values: dict[str, Any]) -> dict[str, Any]:
    """PostgreSQL's plan of a statement."""
    rows = await run(tx, sql.SQL("EXPLAIN (FORMAT JSON) {}").format(statement), values)
    plan: dict[str, Any] = rows[0][0][0]["Plan"]
    return plan


async def estimated_files(tx: Tx, caller: Caller, look: Look) -> int:
    """How many files have such metadata of their own, as PostgreSQL's statistics say."""
    parameters = Parameters()
    own = contains(sql.SQL("f.metadata"), list(look.documents), parameters)
    query = sql.SQL(
        "SELECT FROM catalog.file AS f WHERE f.vo_id = %(vo_id)s::integer AND f.metadata IS NOT NULL AND {}"
    ).format(own)
    return int((await explain(tx, query, {"vo_id": caller.vo_id, **parameters.values}))["Plan Rows"])


async def keys_and_annotated(tx: Tx, caller: Caller, path: str) -> tuple[list[MetadataKey], int]:
    """The declared keys, and how many files of a tree have metadata of their own."""
    rows = await fetch_rows(tx, Q.keys_and_annotated, {"vo_id": caller.vo_id, "path": path})
    return [MetadataKey(name=name, type=MetadataType(kind)) for name, kind, _ in rows if name is not None], rows[0][2]


async def value_of_key(tx: Tx, caller: Caller, key: str) -> list[Any]:
    """One of the values that are stored under a key, or none."""
    rows = await fetch_rows(tx, Q.value_of_key, {"vo_id": caller.vo_id, "key": key})
    return [row[0] for row in rows]


async def undeclare_keys(tx: Tx, caller: Caller, names: list[str]) -> set[str]:
    """Those of the keys that were declared."""
    return {row[0] for row in await fetch_rows(tx, Q.undeclare_keys, {"vo_id": caller.vo_id, "names": names})}
