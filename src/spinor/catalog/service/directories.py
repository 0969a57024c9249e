"""Directories: find them, make them, and hold them while names go in or out.

The rule that keeps writers from waiting for each other in a circle: hold the tree (shared), lock all existing
directories in one statement in id order, and only then insert new ones. Whoever finds that it needs another lock gives
back what it has first, by a savepoint.
"""

from collections.abc import Iterable, Mapping

import psycopg

from spinor.access import Caller, Scope
from spinor.catalog import rules, store
from spinor.catalog.access import store as access_store
from spinor.catalog.errors import DirectoryDenied, LFNExists, StillMoving, UnknownDirectory
from spinor.catalog.models import Access
from spinor.catalog.rules import checked_path, nearest, with_ancestors
from spinor.catalog.service.permissions import Permissions, permissions
from spinor.catalog.store import Directory, NewDirectory
from spinor.db import Tx
from spinor.search.expression import shown

_ROUNDS = 8
_ROOT = Access(owner_id=None, group_id=None, mode=rules.ROOT_MODE)


async def make_directories(tx: Tx, caller: Caller, paths: Iterable[str]) -> list[str]:
    """Make directories and what is missing above them; the paths that are new. One that exists is no error."""
    wanted = {checked_path(path, caller.vo) for path in paths}
    await store.hold_tree(tx, caller)
    known = await store.find_directories(tx, caller, wanted)
    await require_ways(tx, caller, known)
    if missing := wanted - known.keys():
        await writable_directories(tx, caller, missing)
    return sorted(missing)


async def required_directory(tx: Tx, caller: Caller, path: str, *, listed: bool = False) -> Directory:
    """The directory, which the caller can reach, and may list if that is asked.

    Raises UnknownDirectory, and DirectoryDenied, also for one that is not there behind a closed gate.
    """
    path = checked_path(path, caller.vo)
    around = await store.find_directories(tx, caller, with_ancestors([path]))
    there = nearest(path, around)
    mine = await permissions(tx, caller, around.values())
    if there is not None and not mine.passes(around[there].gate_id):
        raise await refusal(tx, mine, around[there], "reach what is in")
    if path not in around:
        raise UnknownDirectory(f"There is no directory {shown(path)} in the catalog.", path=path)
    if listed and not mine.may_list(around[path]):
        raise denied(mine, around[path], "list")
    return around[path]


async def require_ways(tx: Tx, caller: Caller, paths: Iterable[str]) -> None:
    """Raises DirectoryDenied when the way to one of the paths, which may be there or not, is closed to the caller."""
    if caller.may(Scope.FILES_MANAGE):
        return
    parents = {path.rpartition("/")[0] for path in paths}
    around = await store.find_directories(tx, caller, with_ancestors(parents))
    mine = await permissions(tx, caller, around.values())
    for parent in sorted(parents):
        there = nearest(parent, around)
        if there is not None and not mine.passes(around[there].gate_id):
            raise await refusal(tx, mine, around[there], "reach what is in")


async def closed_way(tx: Tx, caller: Caller, path: str) -> DirectoryDenied | None:
    """What `require_ways` would raise."""
    try:
        await require_ways(tx, caller, [path])
    except DirectoryDenied as error:
        return error
    return None


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
            await permit(tx, caller, locked.values())
            return locked
        if f"/{caller.vo}" in missing:
            await _make_root(tx, caller)
            continue
        made = None
        async with tx.transaction() as savepoint:
            made = await _make(tx, caller, wanted, found, sorted(missing))
            if made is None:
                raise psycopg.Rollback(savepoint)
        if made is not None:
            return {path: made[path] for path in wanted}
    raise StillMoving


async def _make_root(tx: Tx, caller: Caller) -> None:
    (access_id,) = await access_store.kept_accesses(tx, caller, [_ROOT])
    gate_id = await access_store.kept_gate(tx, caller, [access_id])
    await store.insert_root(tx, caller, access_id, gate_id)


async def permit(tx: Tx, caller: Caller, directories: Iterable[Directory]) -> Permissions:
    """Raises DirectoryDenied for the first directory that the caller may not write in."""
    found = list(directories)
    mine = await permissions(tx, caller, found)
    for directory in found:
        if not mine.may_write(directory):
            raise await refusal(tx, mine, directory)
    return mine


async def refusal(tx: Tx, mine: Permissions, directory: Directory, act: str = "write in") -> DirectoryDenied:
    """Why the caller may not do this: names the first closed directory on the way, and nothing that is behind it."""
    way = await store.find_directories(tx, mine.caller, with_ancestors([directory.path]))
    await permissions(tx, mine.caller, way.values())
    closed = [path for path in way if not mine.bits(way[path].access_id) & rules.PASS]
    if closed:
        return _denied(mine, way[min(closed, key=len)], "reach what is in")
    return _denied(mine, directory, act)


def denied(mine: Permissions, directory: Directory, act: str = "write in") -> DirectoryDenied:
    """Without a look at the database, and so without the name of what is closed on the way; `refusal` tells it."""
    if not mine.passes(directory.gate_id):
        who = f"{mine.caller.user!r} in group {mine.caller.group!r}"
        return DirectoryDenied(
            f"{who} may not pass a directory on the way there; see `spinor file getfacl` of those above."
        )
    return _denied(mine, directory, act)


def _denied(mine: Permissions, directory: Directory, act: str) -> DirectoryDenied:
    mode = mine.access(directory.access_id).mode
    return DirectoryDenied(
        f"{mine.caller.user!r} in group {mine.caller.group!r} may not {act} {shown(directory.path)} "
        f"(mode {mode:04o}); see `spinor file getfacl`, use a directory of your own, or ask its owner.",
        path=directory.path,
    )


def not_taken(mine: Permissions, directory: Directory, path: str) -> DirectoryDenied:
    """Why an entry may not be removed or moved out of a directory that the caller can reach."""
    if not mine.may_write(directory):
        return denied(mine, directory)
    return DirectoryDenied(
        f"{shown(directory.path)} is sticky: {shown(path)} can be removed or moved by its owner, by the owner of the "
        f"directory, or by who manages files; {mine.caller.user!r} in group {mine.caller.group!r} is none of these.",
        path=path,
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
    mine = await permit(tx, caller, locked.values())
    await _refuse_files(tx, caller, locked, tops)
    ids = dict(zip(missing, await store.next_directory_ids(tx, len(missing)), strict=True))
    known = dict(locked)
    above: dict[str, int] = {path: directory.directory_id for path, directory in locked.items()}
    given = await _inherited_access(tx, mine, {path: locked[path] for path in parents})
    rows = []
    for path in missing:
        parent = path.rpartition("/")[0]
        above[path] = above[parent]
        given[path] = given[parent]
        access_id, gate_id = given[path]
        known[path] = Directory(
            directory_id=ids[path], path=path, file_count=0, access_id=access_id, gate_id=gate_id
        )  # fmt: skip
        rows.append(NewDirectory(ids[path], known[parent].directory_id, above[path], access_id, gate_id, path))
    await store.insert_directories(tx, caller, rows)
    await store.record_changes(tx, caller, "directory-made", [(row.directory_id, 0, None, None) for row in rows])
    await permissions(tx, caller, [known[path] for path in missing])
    return known


async def _inherited_access(tx: Tx, mine: Permissions, parents: Mapping[str, Directory]) -> dict[str, tuple[int, int]]:
    """For each parent the access and gate of new directories at any depth below it."""
    by_access: dict[int, int] = {}
    for access_id in {parent.access_id for parent in parents.values()}:
        new = rules.access_of_new(mine.access(access_id), mine.caller, directory=True)
        (by_access[access_id],) = await access_store.kept_accesses(tx, mine.caller, [new])
    gates: dict[tuple[int, int], int] = {}
    for place in {(parent.gate_id, by_access[parent.access_id]) for parent in parents.values()}:
        gates[place] = await gate_below(tx, mine.caller, *place)
    return {
        path: (by_access[parent.access_id], gates[parent.gate_id, by_access[parent.access_id]])
        for path, parent in parents.items()
    }


async def gate_below(tx: Tx, caller: Caller, gate_id: int, access_id: int) -> int:
    """The gate of a directory of this access, whose parent has that gate."""
    above = (await access_store.find_gates(tx, caller, [gate_id]))[gate_id]
    return gate_id if access_id in above else await access_store.kept_gate(tx, caller, [*above, access_id])


async def make_gates_anew(tx: Tx, caller: Caller, path: str) -> None:
    """Give a directory and all below it the gates that follow from their accesses and places. Hold the tree alone."""
    rows = await access_store.accesses_below(tx, caller, path)
    gates: dict[int, int] = {}
    known: dict[tuple[int, int], int] = {}
    for directory_id, parent_id, access_id, _, above in rows:
        place = (gates.get(parent_id, above), access_id)
        if place not in known:
            known[place] = await gate_below(tx, caller, *place) if place[0] else await access_store.kept_gate(
                tx, caller, [access_id]
            )  # fmt: skip
        gates[directory_id] = known[place]
    await access_store.set_gates(tx, caller, {row[0]: gates[row[0]] for row in rows if gates[row[0]] != row[3]})


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
    nearest_ones = {path: found[top] for path in wanted if (top := nearest(path, found))}
    mine = await permissions(tx, caller, nearest_ones.values())
    reasons: dict[str, str] = {}
    for path in wanted:
        if path in nearest_ones and not mine.may_write(nearest_ones[path]):
            reasons[path] = (await refusal(tx, mine, nearest_ones[path])).message
        elif blocking := nearest(path, files):
            reasons[path] = f"{shown(blocking)} is a file, so it cannot be a directory too"
    return reasons


def _name(path: str) -> str:
    return path.rpartition("/")[2]


async def permit_new_below(tx: Tx, caller: Caller, paths: Iterable[str]) -> None:
    """Make sure, without a lock, that the caller may make or write these directories: for promises such as places."""
    wanted = set(paths)
    found = await store.find_directories(tx, caller, with_ancestors(wanted))
    tops = {nearest(path, found) for path in wanted} - {None}
    await permit(tx, caller, [found[path] for path in tops if path is not None])
