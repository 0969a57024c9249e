"""Remove files and directories: rows now, bytes as soon as their storages let them go."""

from collections.abc import Mapping, Sequence

from spinor.access import Caller
from spinor.catalog import rules, store
from spinor.catalog.errors import DirectoryDenied, DirectoryNotEmpty, DirectoryTooLarge, ReplicaReadOnly, UnknownLFN
from spinor.catalog.models import BytesFate, Contents, Outcome, Refusal, RemoveRequest
from spinor.catalog.service.directories import closed_way, not_taken, refusal
from spinor.catalog.service.permissions import permissions
from spinor.catalog.store import Directory, DueRemoval, Q
from spinor.chores import enqueue
from spinor.db import Tx
from spinor.errors import SpinorError
from spinor.search.expression import shown

REMOVE_BYTES = "storage.remove_bytes"  # The chore's name; the storage, which stands above the catalog, has the chore.


async def remove_files(tx: Tx, caller: Caller, request: RemoveRequest) -> Outcome:
    """Remove each path from the catalog, with its replicas; a refused one leaves the others alone.

    With `recursive` a path may be a directory of up to MAX_REMOVED_FILES files, which goes whole or not at all.
    """
    refused: dict[str, SpinorError] = {}
    paths: dict[str, str] = {}  # As it was given -> as it is.
    for path in dict.fromkeys(request.paths):
        try:
            paths[path] = rules.checked_path(path, caller.vo)
        except SpinorError as error:
            refused[path] = error
    await (store.hold_tree_alone if request.recursive else store.hold_tree)(tx, caller)
    found = await store.find_directories(tx, caller, paths.values())
    trees = {given: path for given, path in paths.items() if path in found}
    files = {given: path for given, path in paths.items() if path not in found}
    if request.recursive:
        for given, path in trees.items():
            if problem := await _remove_tree(tx, caller, path, request):
                refused[given] = problem
    else:
        refused |= {given: await _is_directory(tx, caller, given, path) for given, path in trees.items()}
    refused |= await _remove_files(tx, caller, files, request.bytes)
    return Outcome(
        done=[path for path in dict.fromkeys(request.paths) if path not in refused],
        refused=[Refusal(id=path, code=error.code, reason=error.message) for path, error in refused.items()],
    )


async def _is_directory(tx: Tx, caller: Caller, given: str, path: str) -> SpinorError:
    if closed := await closed_way(tx, caller, path):
        return closed
    return UnknownLFN(f"{shown(given)} is a directory; remove it with all below it by `--recursive`.")


async def _remove_files(tx: Tx, caller: Caller, files: dict[str, str], fate: BytesFate) -> dict[str, SpinorError]:
    if not files:
        return {}
    pairs = {given: (path.rpartition("/")[0], path.rpartition("/")[2]) for given, path in files.items()}
    locked = await store.lock_directories(tx, caller, {directory for directory, _ in pairs.values()})
    mine = await permissions(tx, caller, locked.values())
    here = {given: pair for given, pair in pairs.items() if pair[0] in locked}
    rows = await store.find_names(
        tx, caller, [locked[directory].directory_id for directory, _ in here.values()], [n for _, n in here.values()]
    )
    known = {(row.directory_id, row.name): row for row in rows}
    refused: dict[str, SpinorError] = {}
    going: dict[str, int] = {}
    for given, (directory, name) in pairs.items():
        file = known.get((locked[directory].directory_id, name)) if directory in locked else None
        if directory in locked and not mine.passes(locked[directory].gate_id):
            refused[given] = await refusal(tx, mine, locked[directory])
        elif file is None:
            closed = None if directory in locked else await closed_way(tx, caller, files[given])
            refused[given] = closed or UnknownLFN(f"There is no file {shown(given)}.")
        elif not mine.may_take(locked[directory], file.owner_id):
            refused[given] = not_taken(mine, locked[directory], given)
        else:
            going[given] = file.file_id
    fixed = await _read_only(tx, caller, list(going.values()), fate)
    refused |= {given: _cannot_delete(given, fixed[going[given]]) for given in going if going[given] in fixed}
    ids = [file_id for file_id in going.values() if file_id not in fixed]
    places = {row.file_id: (row.directory_id, row.name, row.name) for row in rows}
    await _delete(tx, caller, [places[file_id] for file_id in ids], ids, fate)
    return refused


async def _remove_tree(tx: Tx, caller: Caller, path: str, request: RemoveRequest) -> SpinorError | None:
    """The tree is held alone. What is refused is refused before anything changed."""
    if path == f"/{caller.vo}":
        return DirectoryTooLarge("The top directory of a VO is not removed.")
    directories = await store.lock_tree(tx, caller, path)
    if not directories:
        return None  # It went with a path before this one.
    fate = request.bytes
    count = sum(directory.file_count for directory in directories)
    if count and request.contents is not Contents.ANYTHING:
        return DirectoryNotEmpty(f"{shown(path)} has files in it ({count:,}).")
    if len(directories) > 1 and request.contents is Contents.NOTHING:
        return DirectoryNotEmpty(f"{shown(path)} has directories in it ({len(directories) - 1:,}).")
    if count > rules.MAX_REMOVED_FILES:
        return DirectoryTooLarge(
            f"{shown(path)} holds {count:,} files; one removal takes up to {rules.MAX_REMOVED_FILES:,}. "
            "A file operation removes it in the background (`spinor file rm -r`; POST /api/file-operations)."
        )
    if problem := await _not_writable(tx, caller, path, directories):
        return problem
    ids = [directory.directory_id for directory in directories]
    files = await store.files_in(tx, caller, ids)
    if fixed := await _read_only(tx, caller, files, fate):
        return _cannot_delete(path, next(iter(fixed.values())))
    ranges = [(directory.directory_id, "", rules.LAST_NAME) for directory in directories if directory.file_count]
    await _delete(tx, caller, ranges, files, fate)
    gone = [(directory_id, 0, None, None) for directory_id in ids]
    await store.record_changes(tx, caller, "directory-removed", gone)
    await store.delete_directories(tx, caller, ids)
    return None


async def _not_writable(tx: Tx, caller: Caller, path: str, directories: Sequence[Directory]) -> DirectoryDenied | None:
    """Everything below goes as if taken out one by one, also where a sticky bit keeps what others own."""
    parent = path.rpartition("/")[0]
    above = (await store.find_directories(tx, caller, [parent]))[parent]
    mine = await permissions(tx, caller, [above, *directories])
    known = {directory.path: directory for directory in (above, *directories)}
    if not mine.may_write(above):
        return await refusal(tx, mine, above)
    for directory in directories:
        around = known[directory.path.rpartition("/")[0]]
        if not mine.may_take(around, mine.access(directory.access_id).owner_id):
            return not_taken(mine, around, directory.path)
        if not mine.may_write(directory):
            return await refusal(tx, mine, directory)
    keeping = [d for d in directories if rules.keeps_others(mine.access(d.access_id), caller)]
    if keeping and (foreign := await store.foreign_file(tx, caller, [d.directory_id for d in keeping])):
        directory = next(d for d in keeping if d.directory_id == foreign[0])
        return not_taken(mine, directory, f"{directory.path}/{foreign[1]}")
    return None


async def _read_only(tx: Tx, caller: Caller, file_ids: Sequence[int], fate: BytesFate) -> dict[int, str]:
    if fate is BytesFate.KEEP or not file_ids:
        return {}
    return await store.read_only_replicas(tx, caller, file_ids)


def _cannot_delete(path: str, se: str) -> ReplicaReadOnly:
    return ReplicaReadOnly(
        f"{shown(path)} has bytes on {se}, which is read-only; `--catalog-only` removes the names and keeps the bytes."
    )


async def _delete(
    tx: Tx, caller: Caller, ranges: Sequence[tuple[int, str, str]], file_ids: Sequence[int], fate: BytesFate
) -> None:
    """The files of these (directory_id, first name, last name), which have these ids."""
    if not file_ids:
        return
    await store.remove_files(tx, caller, ranges, delete_bytes=fate is BytesFate.DELETE)
    if fate is BytesFate.DELETE:
        await enqueue(tx, REMOVE_BYTES, dedupe_key="due")
    # After the files: their deletion waits for whoever is just making one of them an ancestor.
    if await store.any_provenance(tx, caller):
        await store.on_files(tx, caller, Q.forget_provenance, file_ids)


async def due_removals(tx: Tx, limit: int) -> tuple[list[DueRemoval], set[tuple[int, str]]]:
    """Take bytes that are due for deletion, and those of the names, (removal_id, name), that a file has again and that
    must stay. Whoever takes them and dies has forgotten nothing: they come back later."""
    due = await store.take_due_removals(tx, limit)
    return due, await store.names_in_use(tx, [removal.removal_id for removal in due])


async def settle_removals(tx: Tx, left: Mapping[int, tuple[Sequence[str], str | None]]) -> None:
    """Forget what was deleted, and note why the rest was not: removal_id -> names that are left, error."""
    await store.settle_removals(tx, left)
