"""Move and rename files and whole directories. Bytes stay where they are: only names change."""

from collections.abc import Sequence

from spinor.access import Caller
from spinor.catalog import rules, store
from spinor.catalog.errors import BadMove, LFNExists, StillMoving, UnknownDirectory, UnknownLFN
from spinor.catalog.models import EntryKind, Move, Moved
from spinor.catalog.quotas import store as quota_store
from spinor.catalog.service.directories import make_gates_anew, not_taken, permit, require_ways
from spinor.catalog.service.quotas import check_moved
from spinor.catalog.store import Directory, Q
from spinor.db import Tx
from spinor.search.expression import shown


async def move(tx: Tx, caller: Caller, moves: Sequence[Move]) -> list[Moved]:
    """Move each source to its target, or into it when the target is a directory: all of them, or none.

    The directory to which something moves must exist. Raises UnknownLFN, UnknownDirectory, LFNExists, BadMove,
    DirectoryDenied.
    """
    pairs = [(rules.checked_path(m.source, caller.vo), rules.checked_path(m.target, caller.vo)) for m in moves]
    before = await store.find_directories(tx, caller, {source for source, _ in pairs})
    await (store.hold_tree_alone if before else store.hold_tree)(tx, caller)
    await require_ways(tx, caller, {path for pair in pairs for path in pair})
    known = await store.find_directories(tx, caller, {path for pair in pairs for path in pair})
    if not before and any(source in known for source, _ in pairs):
        raise StillMoving
    done: list[Moved] = []
    files: list[tuple[str, str]] = []
    for source, target in pairs:
        into = f"{target}/{source.rpartition('/')[2]}" if target in known else target
        kind = EntryKind.DIRECTORY if source in known else EntryKind.FILE
        done.append(Moved(source=source, target=into, kind=kind))
        if kind is EntryKind.FILE:
            files.append((source, into))
        else:
            await _move_tree(tx, caller, source, into)
    if files:
        await _move_files(tx, caller, files)
    return done


async def _move_files(tx: Tx, caller: Caller, moves: Sequence[tuple[str, str]]) -> None:
    targets = [rules.split_lfn(target, caller.vo) for _, target in moves]
    sources = [rules.split_lfn(source, caller.vo) for source, _ in moves]
    if len(set(targets)) < len(targets):
        raise BadMove("Two files cannot move to the same name.")
    locked = await store.lock_directories(tx, caller, {directory for directory, _ in [*sources, *targets]})
    mine = await permit(tx, caller, locked.values())
    _require(locked, {directory for directory, _ in targets})
    found = await store.find_names(tx, caller, *_ids(locked, [*sources, *targets]))
    known = {(row.directory_id, row.name): row for row in found}
    ids: list[int] = []
    for (source, _), (directory, name) in zip(moves, sources, strict=True):
        file = known.get((locked[directory].directory_id, name)) if directory in locked else None
        if file is None:
            raise UnknownLFN(f"There is no file or directory {shown(source)}.", lfns=[source], count=1)
        if not mine.may_take(locked[directory], file.owner_id):
            raise not_taken(mine, locked[directory], source)
        ids.append(file.file_id)
    taken = [f"{d}/{name}" for d, name in targets if (locked[d].directory_id, name) in known]
    await _refuse_taken(tx, caller, [target for _, target in moves], taken)
    await store.record_files(tx, caller, "files-moved", ids, to=[target for _, target in moves])
    await store.on_files(tx, caller, Q.pin_replicas, ids)
    await store.on_files(tx, caller, Q.count_out_usage, ids)
    await store.on_files(tx, caller, Q.count_files, ids, sign=-1)
    directory_ids, names = _ids(locked, targets)
    await store.on_files(tx, caller, Q.move_files, ids, directory_ids=directory_ids, names=names)
    await store.on_files(tx, caller, Q.count_in_usage, ids)
    await store.on_files(tx, caller, Q.count_files, ids, sign=1)
    ways = {(source, target) for (source, _), (target, _) in zip(sources, targets, strict=True)}
    await check_moved(tx, caller, ways, {file.owner_id for file in found})


async def _move_tree(tx: Tx, caller: Caller, source: str, target: str) -> None:
    """The tree of the VO is held alone, so nothing but this moves."""
    above = source.rpartition("/")[0]
    parent = target.rpartition("/")[0]
    if not above:
        raise BadMove("The top directory of a VO is not moved.")
    if f"{target}/".startswith(f"{source}/"):
        raise BadMove(f"{shown(source)} cannot move into itself.", source=source, target=target)
    locked = await store.lock_directories(tx, caller, {source, above, parent})
    if source not in locked:
        raise UnknownLFN(f"There is no file or directory {shown(source)} any more.", lfns=[source], count=1)
    _require(locked, {parent})
    mine = await permit(tx, caller, [locked[source], locked[above], locked[parent]])
    if not mine.may_take(locked[above], mine.access(locked[source].access_id).owner_id):
        raise not_taken(mine, locked[above], source)
    taken = await store.find_names(tx, caller, *_ids(locked, [(parent, target.rpartition("/")[2])]))
    await _refuse_taken(tx, caller, [target], [target] if taken else [])
    growth = len(target.encode()) - len(source.encode())
    least = rules.MAX_PATH_BYTES - growth - rules.MAX_NAME_BYTES - 1
    longest = await store.longest_path_below(tx, caller, source, least)
    if longest + growth > rules.MAX_PATH_BYTES:
        raise BadMove(f"Below {shown(target)} there would be paths of more than {rules.MAX_PATH_BYTES:,} bytes.")
    moved = [(locked[source].directory_id, locked[source].file_count, None, None)]
    await store.record_changes(tx, caller, "directory-moved", moved, to=target)
    await store.move_tree(tx, caller, source, target, locked[parent].directory_id)
    if above != parent:
        await make_gates_anew(tx, caller, target)
        await store.inherit_below(tx, caller, target)
        if await quota_store.any_quotas(tx, caller):
            await check_moved(tx, caller, [(above, parent)], await quota_store.owners_within(tx, caller, target))


def _require(locked: dict[str, Directory], paths: set[str]) -> None:
    for path in sorted(paths - locked.keys()):
        raise UnknownDirectory(f"There is no directory {shown(path)}; make it with `spinor file mkdir`.", path=path)


async def _refuse_taken(tx: Tx, caller: Caller, targets: Sequence[str], files: Sequence[str]) -> None:
    directories = await store.find_directories(tx, caller, targets)
    for target in [*files, *directories]:
        raise LFNExists(f"{shown(target)} exists; remove it first, or choose another name.", lfn=target)


def _ids(locked: dict[str, Directory], pairs: Sequence[tuple[str, str]]) -> tuple[list[int], list[str]]:
    here = [(locked[directory].directory_id, name) for directory, name in pairs if directory in locked]
    return [directory_id for directory_id, _ in here], [name for _, name in here]
