"""Directories: find them, make them, and hold them while names go in or out.

The rule that keeps writers from waiting for each other in a circle: hold the tree (shared), lock all existing
directories in one statement in id order, and only then insert new ones. Whoever finds that it needs another lock gives
back what it has first, by a savepoint.
"""

from collections.abc import Iterable

import psycopg

from spinor.access import Caller
from spinor.catalog import store
from spinor.catalog.errors import DirectoryDenied, LFNExists, StillMoving
from spinor.catalog.rules import (
    ROOT_MODE,
    checked_path,
    may_write,
    nearest,
    with_ancestors,
)
from spinor.catalog.store import Directory
from spinor.db import Tx
from spinor.search.expression import shown

_ROUNDS = 8


async def make_directories(tx: Tx, caller: Caller, paths: Iterable[str]) -> list[str]:
    """Make directories and what is missing above them; the paths that are new. One that exists is no error."""
    wanted = {checked_path(path, caller.vo) for path in paths}
    await store.hold_tree(tx, caller)
    known = await store.find_directories(tx, caller, wanted)
    if missing := wanted - known.keys():
        await writable_directories(tx, caller, missing)
    return sorted(missing)


async def writable_directories(tx: Tx, caller: Caller, paths: Iterable[str]) -> dict[str, Directory]:
    """Make what is missing, lock all of them until the transaction ends, and make sure the caller may write there.

    Raises DirectoryDenied, LFNExists (there is a file of that name), StillMoving (try again).
    """
    wanted = set(paths)
    everything = with_ancestors(wanted)
    await store.hold_tree(tx, caller)
    for _ in range(_ROUNDS):
        found = await store.find_directories(tx, caller, everything)
        missing = everything - found.keys()
        if not missing:
            locked = await store.lock_directories(tx, caller, wanted)
            permit(caller, locked.values())
            return locked
        if f"/{caller.vo}" in missing:
            await store.insert_root(tx, caller, ROOT_MODE)
            continue
        made = None
        async with tx.transaction() as savepoint:
            made = await _make(tx, caller, wanted, found, sorted(missing))
            if made is None:
                raise psycopg.Rollback(savepoint)
        if made is not None:
            return {path: made[path] for path in wanted}
    raise StillMoving


def permit(caller: Caller, directories: Iterable[Directory]) -> None:
    """Raises DirectoryDenied for the first directory that the caller may not write in."""
    for directory in directories:
        if not may_write(directory, caller):
            raise denied(caller, directory)


def denied(caller: Caller, directory: Directory) -> DirectoryDenied:
    return DirectoryDenied(
        f"{caller.user!r} in group {caller.group!r} may not write in {shown(directory.path)} "
        f"(mode {directory.mode:04o}); write below a directory of your own, or ask its owner.",
        path=directory.path,
    )


async def _make(
    tx: Tx, caller: Caller, wanted: set[str], found: dict[str, Directory], missing: list[str]
) -> dict[str, Directory] | None:
    """Lock and insert; None when another made some of them meanwhile. `missing` is sorted: parents come first."""
    tops = [path for path in missing if path.rpartition("/")[0] in found]
    parents = {path.rpartition("/")[0] for path in tops}
    locked = await store.lock_directories(tx, caller, parents | (wanted & found.keys()))
    if await store.find_directories(tx, caller, missing):
        return None
    permit(caller, locked.values())
    await _refuse_files(tx, caller, locked, tops)
    ids = dict(zip(missing, await store.next_directory_ids(tx, len(missing)), strict=True))
    known = ids | {path: directory.directory_id for path, directory in locked.items()}
    await store.insert_directories(tx, caller, [(ids[path], known[path.rpartition("/")[0]], path) for path in missing])
    new = {}
    for path in missing:
        owned = {"owner_id": caller.user_id, "group_id": caller.group_id, "mode": 0o755}
        new[path] = Directory(directory_id=ids[path], path=path, file_count=0, **owned)
    return locked | new


async def _refuse_files(tx: Tx, caller: Caller, locked: dict[str, Directory], paths: list[str]) -> None:
    pairs = [path.rpartition("/") for path in paths]
    files = await store.find_names(
        tx, caller, [locked[parent].directory_id for parent, _, _ in pairs], [name for _, _, name in pairs]
    )
    if files:
        path = next(p for p in paths if p.rpartition("/")[2] == files[0].name)
        raise LFNExists(f"{shown(path)} is a file, so it cannot be a directory too.", lfn=path)


async def refused_directories(tx: Tx, caller: Caller, paths: Iterable[str]) -> dict[str, str]:
    """Which of the directories the caller could not make or write in just now, and why. Takes no lock."""
    wanted = set(paths)
    everything = with_ancestors(wanted)
    found = await store.find_directories(tx, caller, everything)
    tops = [path for path in everything - found.keys() if path.rpartition("/")[0] in found]
    parents = [found[path.rpartition("/")[0]].directory_id for path in tops]
    pairs = {(f.directory_id, f.name) for f in await store.find_names(tx, caller, parents, [_name(p) for p in tops])}
    files = {path for path, parent in zip(tops, parents, strict=True) if (parent, _name(path)) in pairs}
    reasons: dict[str, str] = {}
    for path in wanted:
        if blocking := nearest(path, files):
            reasons[path] = f"{shown(blocking)} is a file, so it cannot be a directory too"
        elif (top := nearest(path, found)) and not may_write(found[top], caller):
            reasons[path] = denied(caller, found[top]).message
    return reasons


def _name(path: str) -> str:
    return path.rpartition("/")[2]


async def permit_new_below(tx: Tx, caller: Caller, paths: Iterable[str]) -> None:
    """Make sure, without a lock, that the caller may make or write these directories: for promises such as places."""
    wanted = set(paths)
    found = await store.find_directories(tx, caller, with_ancestors(wanted))
    tops = {nearest(path, found) for path in wanted} - {None}
    permit(caller, [found[path] for path in tops if path is not None])
