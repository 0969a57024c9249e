"""The catalog's rows: one function per query."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from psycopg import AsyncCursor, sql

from spinor.access import Caller
from spinor.catalog.errors import GuidTaken, LFNExists
from spinor.catalog.models import FileLocation, FileStat, WritableThing
from spinor.db import Queries, Query, Tx, execute, fetch, fetch_rows, fetch_value
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
    return [msgspec.convert(row, FileStat) for row in await _file_rows(tx, caller, Q.stat_files, places)]


async def locate_files(tx: Tx, caller: Caller, places: Sequence[tuple[str, str]]) -> list[FileLocation]:
    """The replicas of those of the (directory, name) pairs that are files, in the order given; a file without one has
    one row without storage element."""
    return [msgspec.convert(row, FileLocation) for row in await _file_rows(tx, caller, Q.locate_files, places)]


async def _file_rows(tx: Tx, caller: Caller, query: Query, places: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    values = {
        "vo_id": caller.vo_id,
        "directories": [directory for directory, _ in places],
        "names": [name for _, name in places],
    }
    async with tx.cursor() as cursor:
        await cursor.execute(query, values)
        names = [column.name for column in cursor.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]
    for row in rows:
        del row["n"]
    return rows
