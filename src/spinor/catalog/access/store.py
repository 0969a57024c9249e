"""Rows that say who may do what."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from spinor.access import Caller
from spinor.catalog.store import Directory
from spinor.db import Queries, Tx, array_text, execute, fetch, fetch_rows

Q = Queries("spinor.catalog.access")


async def users_of_vo(tx: Tx, caller: Caller, names: Iterable[str]) -> dict[str, int]:
    return dict(await fetch_rows(tx, Q.users_of_vo, {"vo_id": caller.vo_id, "names": list(names)}))


async def groups_of_vo(tx: Tx, caller: Caller, names: Iterable[str]) -> dict[str, int]:
    return dict(await fetch_rows(tx, Q.groups_of_vo, {"vo_id": caller.vo_id, "names": list(names)}))


async def users_known_to_vo(tx: Tx, caller: Caller, names: Iterable[str]) -> dict[str, int]:
    """Also those who have left."""
    return dict(await fetch_rows(tx, Q.users_known_to_vo, {"vo_id": caller.vo_id, "names": list(names)}))


async def groups_known_to_vo(tx: Tx, caller: Caller, names: Iterable[str]) -> dict[str, int]:
    """Also those that are retired."""
    return dict(await fetch_rows(tx, Q.groups_known_to_vo, {"vo_id": caller.vo_id, "names": list(names)}))


async def groups_of_user(tx: Tx, caller: Caller) -> frozenset[int]:
    rows = await fetch_rows(tx, Q.groups_of_user, {"vo_id": caller.vo_id, "user_id": caller.user_id})
    return frozenset(row[0] for row in rows)


async def names_of_users(tx: Tx, ids: Iterable[int]) -> dict[int, str]:
    return dict(await fetch_rows(tx, Q.names_of_users, {"ids": list(ids)}))


async def names_of_groups(tx: Tx, caller: Caller, ids: Iterable[int]) -> dict[int, str]:
    return dict(await fetch_rows(tx, Q.names_of_groups, {"vo_id": caller.vo_id, "ids": list(ids)}))


async def size_of_trees(tx: Tx, caller: Caller, paths: Sequence[str]) -> tuple[int, int]:
    """Directories and files."""
    ((directories, files),) = await fetch_rows(tx, Q.size_of_trees, {"vo_id": caller.vo_id, "paths": list(paths)})
    return directories, files


async def directories_within(tx: Tx, caller: Caller, paths: Sequence[str]) -> list[Directory]:
    return await fetch(tx, Directory, Q.directories_within, {"vo_id": caller.vo_id, "paths": list(paths)})


async def accesses_of_files(tx: Tx, caller: Caller, file_ids: Sequence[int]) -> list[tuple[Any, ...]]:
    """Rows of file_id, access_id, directory_id, gate_id and the directory's path."""
    return await fetch_rows(tx, Q.accesses_of_files, {"vo_id": caller.vo_id, "file_ids": array_text(file_ids)})


async def paths_of_files(tx: Tx, caller: Caller, file_ids: Sequence[int]) -> dict[int, str]:
    return dict(await fetch_rows(tx, Q.paths_of_files, {"vo_id": caller.vo_id, "file_ids": array_text(file_ids)}))


async def set_file_accesses(tx: Tx, caller: Caller, file_ids: Sequence[int], new: Mapping[int, int]) -> None:
    """`new` is access_id -> access_id."""
    values = {"file_ids": array_text(file_ids), "old_ids": list(new), "new_ids": list(new.values())}
    await execute(tx, Q.set_file_accesses, {"vo_id": caller.vo_id, **values})


async def set_directory_accesses(tx: Tx, caller: Caller, directory_ids: Sequence[int], new: Mapping[int, int]) -> None:
    values = {"directory_ids": array_text(directory_ids), "old_ids": list(new), "new_ids": list(new.values())}
    await execute(tx, Q.set_directory_accesses, {"vo_id": caller.vo_id, **values})
