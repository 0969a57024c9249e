"""Rows that say who may do what."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from spinor.access import Caller
from spinor.catalog.models import Access
from spinor.catalog.store import Directory
from spinor.db import Queries, Tx, array_text, execute, fetch, fetch_rows, fetch_value

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


async def find_accesses(tx: Tx, caller: Caller, access_ids: Iterable[int]) -> list[Access]:
    return await fetch(tx, Access, Q.find_accesses, {"vo_id": caller.vo_id, "access_ids": list(access_ids)})


async def accesses_after(tx: Tx, caller: Caller, known: int) -> list[Access]:
    return await fetch(tx, Access, Q.accesses_after, {"vo_id": caller.vo_id, "known": known})


async def find_gates(tx: Tx, caller: Caller, gate_ids: Iterable[int]) -> dict[int, list[int]]:
    """gate_id -> the accesses on the way."""
    return dict(await fetch_rows(tx, Q.find_gates, {"vo_id": caller.vo_id, "gate_ids": list(gate_ids)}))


async def gates_after(tx: Tx, caller: Caller, known: int) -> dict[int, list[int]]:
    return dict(await fetch_rows(tx, Q.gates_after, {"vo_id": caller.vo_id, "known": known}))


async def kept_accesses(tx: Tx, caller: Caller, accesses: Sequence[Access]) -> list[int]:
    """The ids of accesses that say this, which are added if need be, in the order given."""
    values = {
        "vo_id": caller.vo_id,
        "owner_ids": [access.owner_id for access in accesses],
        "group_ids": [access.group_id for access in accesses],
        "modes": [access.mode for access in accesses],
        "acls": [access.acl for access in accesses],
        "default_acls": [access.default_acl for access in accesses],
    }
    found = dict(await fetch_rows(tx, Q.same_accesses, values))
    if len(found) < len(accesses):
        await execute(tx, Q.insert_accesses, values)
        found = dict(await fetch_rows(tx, Q.same_accesses, values))
    return [found[n] for n in range(1, len(accesses) + 1)]


async def kept_gate(tx: Tx, caller: Caller, access_ids: Iterable[int]) -> int:
    """The gate of these accesses, which is added if need be."""
    values = {"vo_id": caller.vo_id, "access_ids": sorted(set(access_ids))}
    gate_id = await fetch_value(tx, Q.same_gate, values)
    if gate_id is None:
        await execute(tx, Q.insert_gate, values)
        gate_id = await fetch_value(tx, Q.same_gate, values)
    return int(gate_id)


async def accesses_below(tx: Tx, caller: Caller, path: str) -> list[tuple[Any, ...]]:
    """Rows of directory_id, parent_id, access_id, gate_id and the parent's gate_id, parents first."""
    return await fetch_rows(tx, Q.accesses_below, {"vo_id": caller.vo_id, "path": path})


async def set_gates(tx: Tx, caller: Caller, gates: Mapping[int, int]) -> None:
    """directory_id -> gate_id."""
    values = {"directory_ids": list(gates), "gate_ids": list(gates.values())}
    await execute(tx, Q.set_gates, {"vo_id": caller.vo_id, **values})


async def any_below(tx: Tx, caller: Caller, path: str, access_ids: Sequence[int]) -> bool:
    """Whether a directory below a path has one of these accesses."""
    values = {"vo_id": caller.vo_id, "path": path, "access_ids": list(access_ids)}
    return bool(await fetch_value(tx, Q.any_below, values))
