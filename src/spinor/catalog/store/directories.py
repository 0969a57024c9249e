"""The rows of directories: names, places on storage elements, counters."""

from collections.abc import Iterable, Sequence

import msgspec

from spinor.access import Caller
from spinor.catalog.store.statements import Q
from spinor.db import Tx, array_text, execute, fetch, fetch_rows, fetch_value


class Directory(msgspec.Struct, frozen=True, kw_only=True):
    directory_id: int
    path: str
    file_count: int
    access_id: int
    gate_id: int


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


async def lock_tree(tx: Tx, caller: Caller, path: str) -> list[Directory]:
    return await fetch(tx, Directory, Q.lock_tree, {"vo_id": caller.vo_id, "path": path})


async def lock_trees(tx: Tx, caller: Caller, trees: Sequence[str], paths: Sequence[str]) -> None:
    """Lock all directories at and below some paths, and some single ones."""
    await execute(tx, Q.lock_trees, {"vo_id": caller.vo_id, "trees": list(trees), "paths": list(paths)})


async def delete_directories(tx: Tx, caller: Caller, directory_ids: Sequence[int]) -> None:
    await execute(tx, Q.delete_directories, {"vo_id": caller.vo_id, "directory_ids": list(directory_ids)})


async def longest_path_below(tx: Tx, caller: Caller, path: str, least: int) -> int:
    """0 when no directory has a path of at least so many bytes."""
    values = {"vo_id": caller.vo_id, "path": path, "least": least}
    return int(await fetch_value(tx, Q.longest_path_below, values) or 0)


async def move_tree(tx: Tx, caller: Caller, source: str, target: str, parent_id: int) -> None:
    values = {"vo_id": caller.vo_id, "source": source, "target": target, "parent_id": parent_id}
    await execute(tx, Q.move_tree, values)
