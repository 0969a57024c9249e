"""The rows of metadata and its keys."""

from collections.abc import Iterable, Sequence
from typing import Any

from psycopg.types.json import Jsonb

from spinor.access import Caller
from spinor.catalog.models import MetadataKey
from spinor.catalog.store.statements import Q, columns_of
from spinor.db import Query, Tx, execute, fetch, fetch_rows


async def change_metadata(
    tx: Tx, caller: Caller, query: Query, ids: dict[str, list[int]], values: dict[str, Any], unset: Sequence[str]
) -> None:
    await execute(tx, query, {"vo_id": caller.vo_id, **ids, "set": Jsonb(values), "unset": list(unset)})


async def directory_metadata(tx: Tx, caller: Caller, paths: Iterable[str]) -> dict[str, dict[str, Any]]:
    return dict(await fetch_rows(tx, Q.directory_metadata, {"vo_id": caller.vo_id, "paths": list(paths)}))


async def file_metadata(tx: Tx, caller: Caller, places: Sequence[tuple[str, str]]) -> list[tuple[Any, ...]]:
    """Rows of path, metadata, access_id, gate_id."""
    return await fetch_rows(tx, Q.file_metadata, {"vo_id": caller.vo_id, **columns_of(places)})


async def inherit_below(tx: Tx, caller: Caller, path: str) -> None:
    """Bring what holds below a directory up to date. The whole tree must be locked."""
    await execute(tx, Q.inherit_below, {"vo_id": caller.vo_id, "path": path})


async def metadata_keys(tx: Tx, caller: Caller) -> list[MetadataKey]:
    return await fetch(tx, MetadataKey, Q.metadata_keys, {"vo_id": caller.vo_id})


async def declare_keys(tx: Tx, caller: Caller, keys: Sequence[MetadataKey]) -> None:
    values = {"names": [key.name for key in keys], "types": [key.type.value for key in keys]}
    await execute(tx, Q.declare_keys, {"vo_id": caller.vo_id, **values})


async def values_of_key(tx: Tx, caller: Caller, key: str, limit: int) -> list[Any]:
    rows = await fetch_rows(tx, Q.values_of_key, {"vo_id": caller.vo_id, "key": key, "limit": limit})
    return [row[0] for row in rows]
