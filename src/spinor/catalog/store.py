"""The catalog's rows: one function per query."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa
from psycopg import AsyncCursor
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from spinor.access import Caller
from spinor.catalog.datasets.errors import DatasetExists
from spinor.catalog.errors import CountersWrong, GuidTaken, LFNExists
from spinor.catalog.models import DirectoryCount, FileStat, MetadataKey, OwnerUsage, SEUsage
from spinor.db import Queries, Query, Tx, array_text, execute, fetch, fetch_rows, fetch_value
from spinor.errors import SpinorError
from spinor.tables import fetch_table

Q = Queries("spinor.catalog")

ERRORS: dict[str, type[SpinorError]] = {
    "file_name_unique": LFNExists,
    "directory_name_unique": LFNExists,
    "file_guid_unique": GuidTaken,
    "dataset_name_unique": DatasetExists,
    "directory_files_positive": CountersWrong,
    "directory_bytes_positive": CountersWrong,
    "directory_annotated_within": CountersWrong,
    "directory_usage_files_positive": CountersWrong,
    "directory_usage_bytes_positive": CountersWrong,
}

# Files that are there, as `find_names` and `all_names` tell them; `se_ids` in PostgreSQL's writing: {1,2}.
KNOWN = pa.schema(
    [
        ("directory_id", pa.int64()), ("name", pa.string()), ("file_id", pa.int64()), ("size_bytes", pa.int64()),
        ("adler32", pa.int64()), ("sha256", pa.string()), ("access_id", pa.int64()), ("owner_id", pa.int64()),
        ("se_ids", pa.string()),
    ]
)  # fmt: skip


class Directory(msgspec.Struct, frozen=True, kw_only=True):
    directory_id: int
    path: str
    file_count: int
    access_id: int
    gate_id: int


class KnownFile(msgspec.Struct, frozen=True):
    """A file among those that `find_names` found."""

    directory_id: int
    name: str
    file_id: int
    owner_id: int
    access_id: int


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


async def insert_root(tx: Tx, caller: Caller, access_id: int, gate_id: int) -> None:
    values = {"vo_id": caller.vo_id, "name": caller.vo, "access_id": access_id, "gate_id": gate_id}
    await execute(tx, Q.insert_root, values)


async def next_directory_ids(tx: Tx, count: int) -> list[int]:
    return [row[0] for row in await fetch_rows(tx, Q.next_directory_ids, {"count": count})]


class NewDirectory(msgspec.Struct, frozen=True):
    """`above_id` is the nearest directory above it that was there before."""

    directory_id: int
    parent_id: int
    above_id: int
    access_id: int
    gate_id: int
    path: str


async def insert_directories(tx: Tx, caller: Caller, rows: Sequence[NewDirectory]) -> None:
    """Parents may be among them."""
    values = {
        "vo_id": caller.vo_id,
        "directory_ids": [row.directory_id for row in rows],
        "parent_ids": [row.parent_id for row in rows],
        "above_ids": [row.above_id for row in rows],
        "access_ids": [row.access_id for row in rows],
        "gate_ids": [row.gate_id for row in rows],
        "names": [row.path.rpartition("/")[2] for row in rows],
        "paths": [row.path for row in rows],
    }
    await execute(tx, Q.insert_directories, values)


async def directories_with_children(tx: Tx, caller: Caller, directory_ids: Sequence[int]) -> set[int]:
    rows = await fetch_rows(
        tx, Q.directories_with_children, {"vo_id": caller.vo_id, "directory_ids": list(directory_ids)}
    )
    return {row[0] for row in rows}


async def find_names(tx: Tx, caller: Caller, directory_ids: Sequence[int], names: Sequence[str]) -> list[KnownFile]:
    """Those of the (directory, name) pairs that are files."""
    if not names:
        return []
    values = {"vo_id": caller.vo_id, "directory_ids": list(directory_ids), "names": list(names)}
    return await fetch(tx, KnownFile, Q.find_names, values)


async def known_among(tx: Tx, caller: Caller, directory_ids: Sequence[int], names: Sequence[str]) -> pa.Table:
    """Those of the (directory, name) pairs that are files, as a table of KNOWN."""
    values = {"directory_ids": array_text(directory_ids), "names": array_text(names)}
    return await fetch_table(tx, Q.find_names, {"vo_id": caller.vo_id, **values}, KNOWN)


async def known_in(tx: Tx, caller: Caller, directory_ids: Sequence[int]) -> pa.Table:
    """All files directly inside the directories, as a table of KNOWN."""
    values = {"vo_id": caller.vo_id, "directory_ids": array_text(directory_ids)}
    return await fetch_table(tx, Q.all_names, values, KNOWN)


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


async def add_replicas(
    tx: Tx, caller: Caller, file_ids: Sequence[int], se_ids: Sequence[int], pfns: Sequence[str | None]
) -> None:
    values = {"file_ids": array_text(file_ids), "se_ids": array_text(se_ids), "pfns": array_text(pfns)}
    await execute(tx, Q.add_replicas, {"vo_id": caller.vo_id, **values})


async def add_to_directories(tx: Tx, caller: Caller, sums: Sequence[tuple[int, int, int, int]]) -> None:
    """Rows are (directory_id, files, bytes, files with metadata). The directories must be locked."""
    if sums:
        ids, files, sizes, annotated = (array_text(column) for column in zip(*sums, strict=True))
        values = {"directory_ids": ids, "files": files, "sizes": sizes, "annotated": annotated}
        await execute(tx, Q.add_to_directories, {"vo_id": caller.vo_id, **values})


async def add_to_usage(tx: Tx, caller: Caller, sums: Sequence[tuple[int, int, int, int, int]]) -> None:
    """Rows are (directory_id, se_id, owner_id, files, bytes). The directories must be locked."""
    if sums:
        ids, ses, owners, files, sizes = (array_text(column) for column in zip(*sums, strict=True))
        values = {"directory_ids": ids, "se_ids": ses, "owner_ids": owners, "files": files, "sizes": sizes}
        await execute(tx, Q.add_to_usage, {"vo_id": caller.vo_id, **values})


async def any_removals(tx: Tx, se_ids: Sequence[int]) -> bool:
    return bool(await fetch_value(tx, Q.any_removals, {"se_ids": list(se_ids)}))


async def find_removals(tx: Tx, places: Iterable[tuple[int, str]]) -> set[tuple[int, str]]:
    """All (se_id, PFN) about to be deleted in these (se_id, directory of PFNs) places."""
    ses, paths = zip(*places, strict=True)
    rows = await fetch_rows(tx, Q.find_removals, {"se_ids": list(ses), "paths": list(paths)})
    return {(se_id, pfn) for se_id, pfn in rows}


async def record_changes(
    tx: Tx, caller: Caller, kind: str, rows: Sequence[tuple[int, int, int | None, int | None]], **detail: Any
) -> None:
    """Tell the change feed of directories: (directory_id, files, first and last file_id)."""
    if rows:
        ids, files, first, last = (array_text(column) for column in zip(*rows, strict=True))
        values = {"directory_ids": ids, "files": files, "first_file_ids": first, "last_file_ids": last}
        given = Jsonb(detail) if detail else None
        await execute(tx, Q.record_changes, {"vo_id": caller.vo_id, "kind": kind, "detail": given, **values})


async def record_files(tx: Tx, caller: Caller, kind: str, file_ids: Sequence[int], **detail: Any) -> None:
    """Tell the change feed of files, by name."""
    given = Jsonb(detail) if detail else None
    await on_files(tx, caller, Q.record_files, file_ids, kind=kind, detail=given)


class FoundStat(FileStat, frozen=True, kw_only=True):
    """With its place among those asked for, and what its reader's rights depend on."""

    n: int
    access_id: int
    gate_id: int


async def stat_files(tx: Tx, caller: Caller, places: Sequence[tuple[str, str]]) -> list[FoundStat]:
    """Those of the (directory, name) pairs that are files, in the order given."""
    return await fetch(tx, FoundStat, Q.stat_files, {"vo_id": caller.vo_id, **_columns(places)})


async def locate_files(tx: Tx, caller: Caller, places: Sequence[tuple[str, str]]) -> list[tuple[Any, ...]]:
    """Rows of `locate_files` for those of the (directory, name) pairs that are files; numbered from 1, in any order."""
    return await fetch_rows(tx, Q.locate_files, {"vo_id": caller.vo_id, **_columns(places)})


async def _dicts(tx: Tx, query: Query, values: dict[str, Any]) -> list[dict[str, Any]]:
    async with tx.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query, values)
        return await cursor.fetchall()


class OwnedFile(msgspec.Struct, frozen=True):
    path: str
    file_id: int
    directory_id: int
    access_id: int
    gate_id: int


class DueRemoval(msgspec.Struct, frozen=True):
    """Bytes to delete, all in one directory of a storage element; `attempts` counts this one."""

    removal_id: int
    se_id: int
    path: str
    names: list[str]
    attempts: int


async def lock_tree(tx: Tx, caller: Caller, path: str) -> list[Directory]:
    return await fetch(tx, Directory, Q.lock_tree, {"vo_id": caller.vo_id, "path": path})


async def lock_trees(tx: Tx, caller: Caller, trees: Sequence[str], paths: Sequence[str]) -> None:
    """Lock all directories at and below some paths, and some single ones."""
    await execute(tx, Q.lock_trees, {"vo_id": caller.vo_id, "trees": list(trees), "paths": list(paths)})


async def foreign_file(tx: Tx, caller: Caller, directory_ids: Sequence[int]) -> tuple[int, str] | None:
    """A file in these directories that another owns: (directory_id, name)."""
    values = {"vo_id": caller.vo_id, "user_id": caller.user_id, "directory_ids": list(directory_ids)}
    rows = await fetch_rows(tx, Q.foreign_file, values)
    return (rows[0][0], rows[0][1]) if rows else None


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


async def remove_files(tx: Tx, caller: Caller, ranges: Sequence[tuple[int, str, str]], *, delete_bytes: bool) -> None:
    """Remove all files of these (directory_id, first name, last name). The directories must be locked."""
    directory_ids, firsts, lasts = (array_text(column) for column in zip(*ranges, strict=True))
    values = {
        "vo_id": caller.vo_id, "directory_ids": directory_ids, "firsts": firsts, "lasts": lasts,
        "own_only": [False] * len(ranges), "own": [], "fixed": [], "file_ids": None, "lineage": False,
        "delete_bytes": delete_bytes,
    }  # fmt: skip
    await execute(tx, Q.remove_files, values)
    await execute(tx, Q.wake_followers, {"vo_id": caller.vo_id})


async def any_provenance(tx: Tx, caller: Caller) -> bool:
    return bool(await fetch_value(tx, Q.any_provenance, {"vo_id": caller.vo_id}))


async def delete_directories(tx: Tx, caller: Caller, directory_ids: Sequence[int]) -> None:
    await execute(tx, Q.delete_directories, {"vo_id": caller.vo_id, "directory_ids": list(directory_ids)})


async def take_due_removals(tx: Tx, limit: int) -> list[DueRemoval]:
    return await fetch(tx, DueRemoval, Q.take_due_removals, {"limit": limit})


async def names_in_use(tx: Tx, removal_ids: Sequence[int]) -> set[tuple[int, str]]:
    """(removal_id, name) of bytes that a file has (again), and which must stay."""
    rows = await fetch_rows(tx, Q.names_in_use, {"removal_ids": list(removal_ids)})
    return {(removal_id, name) for removal_id, name in rows}


async def settle_removals(tx: Tx, left: Mapping[int, tuple[Sequence[str], str | None]]) -> None:
    """removal_id -> the names whose bytes are still there, and why."""
    values = {
        "removal_ids": list(left),
        "names": ["/".join(names) for names, _ in left.values()],
        "errors": [error for _, error in left.values()],
    }
    await execute(tx, Q.settle_removals, values)


async def longest_path_below(tx: Tx, caller: Caller, path: str, least: int) -> int:
    """0 when no directory has a path of at least so many bytes."""
    values = {"vo_id": caller.vo_id, "path": path, "least": least}
    return int(await fetch_value(tx, Q.longest_path_below, values) or 0)


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


async def file_metadata(tx: Tx, caller: Caller, places: Sequence[tuple[str, str]]) -> list[tuple[Any, ...]]:
    """Rows of path, metadata, access_id, gate_id."""
    return await fetch_rows(tx, Q.file_metadata, {"vo_id": caller.vo_id, **_columns(places)})


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


def _columns(places: Sequence[tuple[str, str]]) -> dict[str, str]:
    return {
        "directories": array_text([directory for directory, _ in places]),
        "names": array_text([name for _, name in places]),
    }


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
