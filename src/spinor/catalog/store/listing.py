"""What lists and counts read."""

from typing import Any

from psycopg.rows import dict_row

from spinor.access import Caller
from spinor.catalog.models import DirectoryCount, OwnerUsage, SEUsage
from spinor.catalog.store.statements import Q
from spinor.db import Query, Tx, fetch, fetch_rows


async def _dicts(tx: Tx, query: Query, values: dict[str, Any]) -> list[dict[str, Any]]:
    async with tx.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query, values)
        return await cursor.fetchall()


async def list_subdirectories(tx: Tx, values: dict[str, Any]) -> list[tuple[str, str]]:
    """(name, entry as JSON)."""
    return await fetch_rows(tx, Q.list_subdirectories, values)


async def list_files(tx: Tx, values: dict[str, Any]) -> list[tuple[str, str]]:
    """(name, entry as JSON)."""
    return await fetch_rows(tx, Q.list_files, values)


async def directories_below(
    tx: Tx, caller: Caller, path: str, *, after: str, limit: int, gates: list[int] | None
) -> list[DirectoryCount]:
    values = {"vo_id": caller.vo_id, "path": path, "after": after, "limit": limit, "gates": gates}
    return await fetch(tx, DirectoryCount, Q.directories_below, values)


async def usage_of_tree(tx: Tx, caller: Caller, path: str, gates: list[int] | None) -> dict[str, Any]:
    return (await _dicts(tx, Q.usage_of_tree, {"vo_id": caller.vo_id, "path": path, "gates": gates}))[0]


async def usage_by_storage_element(tx: Tx, caller: Caller, path: str, gates: list[int] | None) -> list[SEUsage]:
    return await fetch(tx, SEUsage, Q.usage_by_storage_element, {"vo_id": caller.vo_id, "path": path, "gates": gates})


async def usage_by_owner(tx: Tx, caller: Caller, path: str, gates: list[int] | None) -> list[OwnerUsage]:
    return await fetch(tx, OwnerUsage, Q.usage_by_owner, {"vo_id": caller.vo_id, "path": path, "gates": gates})
