"""The catalog's rows: one function per query."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from psycopg import AsyncCursor, sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from spinor.access import Caller
from spinor.catalog.errors import GuidTaken, LFNExists
from spinor.catalog.models import DirectoryCount, FileLocation, FileStat, MetadataKey, SEUsage, WritableThing
from spinor.db import Queries, Query, Tx, array_text, execute, fetch, fetch_rows, fetch_value
from spinor.errors import SpinorError

Q = Queries("spinor.catalog")
# A COPY cannot be prepared, so these are not among the queries.
COPY_FILES = sql.SQL(
    "COPY catalog.file (file_id, directory_id, size_bytes, guid, vo_id, owner_id, group_id, name, adler32, sha256)"
    " FROM STDIN (FORMAT binary)"
)
COPY_REPLICAS = sql.SQL("COPY catalog.replica (file_id, se_id, vo_id, pfn) FROM STDIN (FORMAT binary)")

ERRORS: dict[str, type[SpinorError]] = {
    "file_name_unique": LFNExists,
    "directory_path_unique": LFNExists,
    "file_guid_unique": GuidTaken,
}


class Directory(WritableThing, frozen=True):
    directory_id: int
    path: str
    file_count: int


class KnownFile(msgspec.Struct, frozen=True, array_like=True):
    """A row of `all_names` and `find_names`."""

    directory_id: int
    name: str
    file_id: int
    size_bytes: int
    adler32: int | None
    sha256: bytes | None
    owner_id: int


async def hold_tree(tx: Tx, caller: Caller) -> None:
    """Keep directories where they are until the end of the transaction."""
    await execute(tx, Q.hold_tree, {"vo_id": caller.vo_id})


async def hold_tree_alone(tx: Tx, caller: Caller) -> None:
    """Wait for every writer of names in this VO, and keep new ones out until the end of the transaction."""
    await execute(tx, Q.hold_tree_alone, {"vo_id": caller.vo_id})


async def find_directories(tx: Tx, caller: Caller, paths: Iterable[str]) -> dict[str, Directory]:
    rows = await fetch(tx, Directory, Q.find_directories, {"vo_id": caller.vo_id, "paths": list(paths)})
    return {row.path: row for row in rows}


async def lock_directories(tx: Tx, caller: Caller, paths: Iterable[str]) -> dict[str, Directory]:
    rows = await fetch(tx, Directory, Q.lock_directories, {"vo_id": caller.vo_id, "paths": list(paths)})
    return {row.path: row for row in rows}


async def insert_root(tx: Tx, caller: Caller, mode: int) -> None:
    await execute(tx, Q.insert_root, {"vo_id": caller.vo_id, "path": f"/{caller.vo}", "mode": mode})


async def next_directory_ids(tx: Tx, count: int) -> list[int]:
    return [row[0] for row in await fetch_rows(tx, Q.next_directory_ids, {"count": count})]


async def insert_directories(tx: Tx, caller: Caller, rows: Sequence[tuple[int, int, str]]) -> None:
    """Rows are (directory_id, parent_id, path); parents may be among them."""
    ids, parents, paths = (list(column) for column in zip(*rows, strict=True))
    await execute(
        tx,
        Q.insert_directories,
        {"vo_id": caller.vo_id, "owner_id": caller.user_id, "group_id": caller.group_id,
         "directory_ids": ids, "parent_ids": parents, "paths": paths},
    )  # fmt: skip


async def directories_with_children(tx: Tx, caller: Caller, directory_ids: Sequence[int]) -> set[int]:
    rows = await fetch_rows(
        tx, Q.directories_with_children, {"vo_id": caller.vo_id, "directory_ids": list(directory_ids)}
    )
    return {row[0] for row in rows}


async def find_names(tx: Tx, caller: Caller, directory_ids: Sequence[int], names: Sequence[str]) -> list[KnownFile]:
    """Those of the (directory, name) pairs that are files."""
    values = {"vo_id": caller.vo_id, "directory_ids": list(directory_ids), "names": list(names)}
    return [KnownFile(*row) for row in await fetch_rows(tx, Q.find_names, values)]


async def all_names(tx: Tx, caller: Caller, directory_ids: Sequence[int]) -> list[KnownFile]:
    values = {"vo_id": caller.vo_id, "directory_ids": list(directory_ids)}
    return [KnownFile(*row) for row in await fetch_rows(tx, Q.all_names, values)]


async def find_replicas(tx: Tx, file_ids: Sequence[int]) -> set[tuple[int, int]]:
    """All (file_id, se_id) of these files."""
    rows = await fetch_rows(tx, Q.find_replicas, {"file_ids": list(file_ids)})
    return {(file_id, se_id) for file_id, se_id in rows}


async def next_file_blocks(tx: Tx, count: int) -> list[int]:
    """The first ids of `count` blocks of 1000 file ids each."""
    return [row[0] for row in await fetch_rows(tx, Q.next_file_blocks, {"count": count})]


async def copy_in(tx: Tx, statement: Query, parts: Sequence[Any]) -> None:
    """Send encoded rows."""
    cursor: AsyncCursor[Any]
    async with tx.cursor() as cursor, cursor.copy(statement) as copy:
        for part in parts:
            await copy.write(part)


async def find_locations(tx: Tx, directory_ids: Sequence[int]) -> dict[tuple[int, int], str]:
    """(directory_id, se_id) -> path on the storage element."""
    rows = await fetch_rows(tx, Q.find_locations, {"directory_ids": list(directory_ids)})
    return {(directory_id, se_id): path for directory_id, se_id, path in rows}


async def insert_locations(tx: Tx, locations: dict[tuple[int, int], str]) -> None:
    values = {
        "directory_ids": [directory_id for directory_id, _ in locations],
        "se_ids": [se_id for _, se_id in locations],
        "paths": list(locations.values()),
    }
    await execute(tx, Q.insert_locations, values)


async def add_to_directories(tx: Tx, caller: Caller, sums: Sequence[tuple[int, int, int]]) -> None:
    """Rows are (directory_id, files, bytes), of either sign. The directories must be locked."""
    if sums:
        ids, files, sizes = (list(column) for column in zip(*sums, strict=True))
        values = {"vo_id": caller.vo_id, "directory_ids": ids, "files": files, "sizes": sizes}
        await execute(tx, Q.add_to_directories, values)


async def add_to_usage(tx: Tx, caller: Caller, sums: Sequence[tuple[int, int, int, int, int]]) -> None:
    """Rows are (directory_id, se_id, owner_id, files, bytes). The directories must be locked."""
    if sums:
        ids, ses, owners, files, sizes = (list(column) for column in zip(*sums, strict=True))
        values = {"directory_ids": ids, "se_ids": ses, "owner_ids": owners, "files": files, "sizes": sizes}
        await execute(tx, Q.add_to_usage, {"vo_id": caller.vo_id, **values})


async def any_removals(tx: Tx, caller: Caller, se_ids: Sequence[int]) -> bool:
    return bool(await fetch_value(tx, Q.any_removals, {"vo_id": caller.vo_id, "se_ids": list(se_ids)}))


async def find_removals(tx: Tx, se_ids: Sequence[int], pfns: Sequence[str]) -> set[tuple[int, str]]:
    rows = await fetch_rows(tx, Q.find_removals, {"se_ids": list(se_ids), "pfns": list(pfns)})
    return {(se_id, pfn) for se_id, pfn in rows}


async def stat_files(tx: Tx, caller: Caller, places: Sequence[tuple[str, str]]) -> list[FileStat]:
    """Those of the (directory, name) pairs that are files, in the order given."""
    return await fetch(tx, FileStat, Q.stat_files, {"vo_id": caller.vo_id, **_columns(places)})


async def locate_files(tx: Tx, caller: Caller, places: Sequence[tuple[str, str]]) -> list[FileLocation]:
    """The replicas of those of the (directory, name) pairs that are files, in the order given; a file without one has
    one row without storage element."""
    return await fetch(tx, FileLocation, Q.locate_files, {"vo_id": caller.vo_id, **_columns(places)})


async def _dicts(tx: Tx, query: Query, values: dict[str, Any]) -> list[dict[str, Any]]:
    async with tx.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query, values)
        return await cursor.fetchall()


class OwnedFile(WritableThing, frozen=True):
    path: str
    file_id: int


class DueRemoval(msgspec.Struct, frozen=True):
    """Bytes to delete; `attempts` counts this one."""

    removal_id: int
    se_id: int
    pfn: str
    attempts: int


async def lock_tree(tx: Tx, caller: Caller, path: str) -> list[Directory]:
    return await fetch(tx, Directory, Q.lock_tree, {"vo_id": caller.vo_id, "path": path})


async def files_in(tx: Tx, caller: Caller, directory_ids: Sequence[int]) -> list[int]:
    values = {"vo_id": caller.vo_id, "directory_ids": list(directory_ids)}
    return [row[0] for row in await fetch_rows(tx, Q.files_in, values)]


async def read_only_replicas(tx: Tx, caller: Caller, file_ids: Sequence[int]) -> dict[int, str]:
    """file_id -> a storage element that is read-only."""
    rows = await fetch_rows(tx, Q.read_only_replicas, {"vo_id": caller.vo_id, "file_ids": list(file_ids)})
    return dict(rows)


async def on_files(tx: Tx, caller: Caller, query: Query, file_ids: Sequence[int], **values: Any) -> None:
    """Run one of the statements over a set of files."""
    await execute(tx, query, {"vo_id": caller.vo_id, "file_ids": list(file_ids), **values})


async def delete_directories(tx: Tx, caller: Caller, directory_ids: Sequence[int]) -> None:
    await execute(tx, Q.delete_directories, {"vo_id": caller.vo_id, "directory_ids": list(directory_ids)})


async def take_due_removals(tx: Tx, limit: int) -> list[DueRemoval]:
    return await fetch(tx, DueRemoval, Q.take_due_removals, {"limit": limit})


async def forget_removals(tx: Tx, removal_ids: Sequence[int]) -> None:
    await execute(tx, Q.forget_removals, {"removal_ids": list(removal_ids)})


async def note_removals(tx: Tx, errors: dict[int, str]) -> None:
    await execute(tx, Q.note_removals, {"removal_ids": list(errors), "errors": list(errors.values())})


async def longest_path_below(tx: Tx, caller: Caller, path: str) -> int:
    return int(await fetch_value(tx, Q.longest_path_below, {"vo_id": caller.vo_id, "path": path}) or 0)


async def move_tree(tx: Tx, caller: Caller, source: str, target: str, parent_id: int) -> None:
    values = {"vo_id": caller.vo_id, "source": source, "target": target, "parent_id": parent_id}
    await execute(tx, Q.move_tree, values)


async def lock_files(tx: Tx, caller: Caller, places: Sequence[tuple[str, str]]) -> dict[str, OwnedFile]:
    rows = await fetch(tx, OwnedFile, Q.lock_files, {"vo_id": caller.vo_id, **_columns(places)})
    return {row.path: row for row in rows}


async def change_metadata(
    tx: Tx, caller: Caller, query: Query, ids: dict[str, list[int]], values: dict[str, Any], unset: Sequence[str]
) -> None:
    await execute(tx, query, {"vo_id": caller.vo_id, **ids, "set": Jsonb(values), "unset": list(unset)})


async def directory_metadata(tx: Tx, caller: Caller, paths: Iterable[str]) -> dict[str, dict[str, Any]]:
    return dict(await fetch_rows(tx, Q.directory_metadata, {"vo_id": caller.vo_id, "paths": list(paths)}))


async def file_metadata(tx: Tx, caller: Caller, places: Sequence[tuple[str, str]]) -> dict[str, dict[str, Any]]:
    return dict(await fetch_rows(tx, Q.file_metadata, {"vo_id": caller.vo_id, **_columns(places)}))


async def metadata_keys(tx: Tx, caller: Caller) -> list[MetadataKey]:
    return await fetch(tx, MetadataKey, Q.metadata_keys, {"vo_id": caller.vo_id})


async def declare_keys(tx: Tx, caller: Caller, keys: Sequence[MetadataKey]) -> None:
    values = {"names": [key.name for key in keys], "types": [key.type.value for key in keys]}
    await execute(tx, Q.declare_keys, {"vo_id": caller.vo_id, **values})


async def values_of_key(tx: Tx, caller: Caller, key: str, limit: int) -> list[Any]:
    rows = await fetch_rows(tx, Q.values_of_key, {"vo_id": caller.vo_id, "key": key, "limit": limit})
    return [row[0] for row in rows]


def _columns(places: Sequence[tuple[str, str]]) -> dict[str, str]:
    return {
        "directories": array_text([directory for directory, _ in places]),
        "names": array_text([name for _, name in places]),
    }


async def list_subdirectories(tx: Tx, values: dict[str, Any]) -> list[dict[str, Any]]:
    return await _dicts(tx, Q.list_subdirectories, values)


async def list_files(tx: Tx, values: dict[str, Any]) -> list[dict[str, Any]]:
    return await _dicts(tx, Q.list_files, values)


async def find_files(
    tx: Tx, statement: sql.Composed, values: dict[str, Any], inherited: dict[str, Any] | None = None
) -> list[tuple[Any, ...]]:
    return await fetch_rows(tx, statement, {**values, "inherited": Jsonb(inherited or {})})


async def directories_below(tx: Tx, caller: Caller, path: str, after: str, limit: int) -> list[DirectoryCount]:
    values = {"vo_id": caller.vo_id, "path": path, "after": after, "limit": limit}
    return await fetch(tx, DirectoryCount, Q.directories_below, values)


async def usage_of_tree(tx: Tx, caller: Caller, path: str) -> dict[str, Any]:
    return (await _dicts(tx, Q.usage_of_tree, {"vo_id": caller.vo_id, "path": path}))[0]


async def usage_by_storage_element(tx: Tx, caller: Caller, path: str) -> list[SEUsage]:
    return await fetch(tx, SEUsage, Q.usage_by_storage_element, {"vo_id": caller.vo_id, "path": path})
