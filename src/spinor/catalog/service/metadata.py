"""Metadata: typed keys of a VO, values on directories and files. A directory's values hold for all below it."""

from collections.abc import Iterable
from typing import Any

from spinor.access import Caller, Scope
from spinor.catalog import rules, store
from spinor.catalog.errors import BadMetadata, DirectoryDenied, KeyDeclaredOtherwise
from spinor.catalog.models import EntryKind, MetadataChange, MetadataKey, MetadataShown
from spinor.catalog.service.directories import permit, refusal
from spinor.catalog.service.permissions import permissions
from spinor.catalog.service.reading import refuse_missing, unreadable
from spinor.catalog.store import OwnedFile, Q
from spinor.db import Tx
from spinor.search.expression import shown

_CHECKED_VALUES = 10_000


async def metadata_keys(tx: Tx, caller: Caller) -> list[MetadataKey]:
    """The VO's declared keys: those that searches know."""
    return await store.metadata_keys(tx, caller)


async def declare_keys(tx: Tx, caller: Caller, keys: list[MetadataKey]) -> list[MetadataKey]:
    """Declare keys for the VO; all its keys. A second declaration of the same type is no error.

    Raises BadMetadata, and KeyDeclaredOtherwise also when values that are stored under the key do not fit.
    """
    for key in keys:
        if fault := rules.key_fault(key.name):
            raise BadMetadata(f"The metadata key {shown(key.name)} {fault}.", key=key.name[:200])
        await _check_stored(tx, caller, key)
    await store.declare_keys(tx, caller, keys)
    declared = {key.name: key for key in await store.metadata_keys(tx, caller)}
    for key in keys:
        if declared[key.name].type is not key.type:
            raise KeyDeclaredOtherwise(
                f"The metadata key {key.name!r} is declared as {declared[key.name].type}, not {key.type}.", key=key.name
            )
    return list(declared.values())


async def _check_stored(tx: Tx, caller: Caller, key: MetadataKey) -> None:
    for value in await store.values_of_key(tx, caller, key.name, _CHECKED_VALUES):
        try:
            fits = rules.checked_value(key.name, value, key.type) == value
        except BadMetadata:
            fits = False
        if not fits:
            there = shown(str(value)) if caller.may(Scope.FILES_MANAGE) else "a value"  # It may stand on a hidden file.
            raise KeyDeclaredOtherwise(
                f"Under the metadata key {key.name!r} there is {there}, which is no {key.type}; "
                "set it to a fitting value or unset it first.",
                key=key.name,
            )


async def set_metadata(tx: Tx, caller: Caller, change: MetadataChange) -> list[MetadataShown]:
    """Set and unset keys of files and directories, all or nothing; what holds for them now.

    Raises BadMetadata (names key and type), UnknownLFN, DirectoryDenied.
    """
    types = {key.name: key.type for key in await store.metadata_keys(tx, caller)}
    values: dict[str, Any] = {}
    for key, value in change.set.items():
        if fault := rules.key_fault(key):
            raise BadMetadata(f"The metadata key {shown(key)} {fault}.", key=key[:200])
        values[key] = rules.checked_value(key, value, types.get(key))
    paths = [rules.checked_path(path, caller.vo) for path in dict.fromkeys(change.paths)]
    await store.hold_tree(tx, caller)
    found = await store.find_directories(tx, caller, paths)
    trees = [path for path in found if not any(above in found for above in rules.ancestors(path))]
    await _lock(tx, caller, paths, trees)
    await permit(tx, caller, found.values())
    others = [path for path in paths if path not in found]
    files = await store.lock_files(tx, caller, [rules.split_lfn(path, caller.vo) for path in others])
    if len(files) < len(others):
        await refuse_missing(tx, caller, others, set(files))
    await _permit_files(tx, caller, files.values())
    ids = {"directory_ids": [directory.directory_id for directory in found.values()]}
    if found:
        await store.change_metadata(tx, caller, Q.change_directory_metadata, ids, values, change.unset)
        for tree in trees:
            await store.inherit_below(tx, caller, tree)
        rows = [(directory.directory_id, 0, None, None) for directory in found.values()]
        await store.record_changes(tx, caller, "metadata-changed", rows, set=values, unset=change.unset)
    if files:
        ids = {"file_ids": [file.file_id for file in files.values()]}
        await store.change_metadata(tx, caller, Q.change_file_metadata, ids, values, change.unset)
        await store.record_files(tx, caller, "metadata-changed", ids["file_ids"], set=values, unset=change.unset)
    return await show_metadata(tx, caller, paths)


async def _lock(tx: Tx, caller: Caller, paths: list[str], trees: list[str]) -> None:
    """The trees whose inherited values change, and the directories whose files do; in one statement, in id order."""
    above = {path.rpartition("/")[0] for path in paths}
    await store.lock_trees(tx, caller, trees, list(above))


async def _permit_files(tx: Tx, caller: Caller, files: Iterable[OwnedFile]) -> None:
    found = list(files)
    mine = await permissions(tx, caller)
    await mine.learn({file.access_id for file in found}, {file.gate_id for file in found})
    for file in found:
        if not mine.passes(file.gate_id):
            raise await unreadable(tx, mine, file.path, file.gate_id)
        if not mine.bits(file.access_id) & rules.WRITE:
            raise DirectoryDenied(
                f"You may not change the metadata of {shown(file.path)}; see `spinor file getfacl`.", path=file.path
            )


async def show_metadata(tx: Tx, caller: Caller, paths: list[str]) -> list[MetadataShown]:
    """The values of each path, its own and those it inherits, in the order asked. Raises UnknownLFN, FileDenied,
    DirectoryDenied."""
    checked = [rules.checked_path(path, caller.vo) for path in paths]
    around = await store.find_directories(tx, caller, rules.with_ancestors(checked))
    directories = await store.directory_metadata(tx, caller, around)
    mine = await permissions(tx, caller, around.values())
    for path in checked:
        if path in around and not mine.may_list(around[path]):
            raise await refusal(tx, mine, around[path], "list")
    others = [path for path in checked if path not in directories]
    rows = await store.file_metadata(tx, caller, [rules.split_lfn(path, caller.vo) for path in others])
    if len(rows) < len(set(others)):
        await refuse_missing(tx, caller, others, {path for path, *_ in rows})
    await mine.learn({row[2] for row in rows}, {row[3] for row in rows})
    for path, _, access_id, gate_id in rows:
        if not mine.may_read(access_id, gate_id):
            raise await unreadable(tx, mine, path, gate_id)
    files = {path: values for path, values, *_ in rows}
    return [_shown(path, directories, files) for path in checked]


def _shown(path: str, directories: dict[str, dict[str, Any]], files: dict[str, dict[str, Any]]) -> MetadataShown:
    kind = EntryKind.DIRECTORY if path in directories else EntryKind.FILE
    own = directories[path] if kind is EntryKind.DIRECTORY else files[path]
    inherited: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for above in rules.ancestors(path):
        for key, value in directories.get(above, {}).items():
            if key not in own:
                inherited[key], origins[key] = value, above
    return MetadataShown(path=path, kind=kind, own=own, inherited=inherited, origins=origins)
