"""The verbs of access: show it, change it."""

from spinor.access import Caller
from spinor.catalog import rules as names
from spinor.catalog import store as catalog
from spinor.catalog.access import store
from spinor.catalog.access.changing import change_slice, prepare_change
from spinor.catalog.access.models import AccessChanged, AccessRequest, AccessShown
from spinor.catalog.access.naming import Naming
from spinor.catalog.errors import BadAccess, StillMoving, TreeTooLarge
from spinor.catalog.models import Access, EntryKind
from spinor.catalog.service.directories import require_ways
from spinor.catalog.service.permissions import permissions
from spinor.catalog.service.reading import refuse_missing
from spinor.catalog.store import Directory, OwnedFile
from spinor.db import Tx

MAX_DIRECTORIES, MAX_FILES = 20_000, 200_000  # That one request changes; file operations change any number.

__all__ = ["change_access", "change_slice", "prepare_change", "show_access"]


async def show_access(tx: Tx, caller: Caller, paths: list[str]) -> list[AccessShown]:
    """Who may do what with each path, in the order asked; to be reached it need be, not read. Raises UnknownLFN,
    DirectoryDenied."""
    checked = [names.checked_path(path, caller.vo) for path in paths]
    directories = await catalog.find_directories(tx, caller, checked)
    mine = await permissions(tx, caller, directories.values())
    await require_ways(tx, caller, checked)
    others = [path for path in checked if path not in directories]
    pairs = [names.split_lfn(path, caller.vo) for path in others]
    files = {path: access_id for path, _, access_id, _ in await catalog.file_metadata(tx, caller, pairs)}
    if len(files) < len(set(others)):
        await refuse_missing(tx, caller, others, set(files))
    await mine.learn(files.values())
    accesses: dict[str, tuple[EntryKind, Access]] = {
        path: (EntryKind.DIRECTORY, mine.access(directory.access_id)) for path, directory in directories.items()
    }
    accesses |= {path: (EntryKind.FILE, mine.access(access_id)) for path, access_id in files.items()}
    naming = await Naming.of(tx, caller, [access for _, access in accesses.values()])
    return [naming.shown(path, *accesses[path]) for path in checked]


async def change_access(tx: Tx, caller: Caller, request: AccessRequest) -> AccessChanged:
    """Change who may do what with each path, and with `recursive` with all that is below: all of them, or none.

    Raises BadAccess, UnknownUser, UnknownGroup, UnknownLFN, AccessDenied (you are not the owner), DirectoryDenied,
    TreeTooLarge (a file operation does it), QuotaExceeded.
    """
    change = await prepare_change(tx, caller, request)
    paths = [names.checked_path(path, caller.vo) for path in dict.fromkeys(request.paths)]
    before = await catalog.find_directories(tx, caller, paths)
    await (catalog.hold_tree_alone if before else catalog.hold_tree)(tx, caller)
    await require_ways(tx, caller, paths)
    named = await catalog.find_directories(tx, caller, paths)
    if named and not before:
        raise StillMoving
    trees = _tops(named) if request.recursive else []
    if trees:
        await _refuse_large(tx, caller, trees)
    others = [path for path in paths if path not in named]
    if others and (request.default_acl is not None or request.default_acl_set or request.default_acl_drop):
        raise BadAccess(f"{others[0]} is no directory; only directories have a default ACL.", path=others[0])
    await catalog.lock_trees(tx, caller, trees, [*named, *{path.rpartition("/")[0] for path in others}])
    pairs = [names.split_lfn(path, caller.vo) for path in others]
    files = await catalog.lock_files(tx, caller, pairs)
    if len(files) < len(others):
        await refuse_missing(tx, caller, others, set(files))
    directories, file_ids = await _all_of(tx, caller, named, trees, files)
    done = await change_slice(tx, caller, change, directories, file_ids)
    for error in done.refused.values():
        raise error
    return AccessChanged(files=done.files, directories=done.directories)


def _tops(found: dict[str, Directory]) -> list[str]:
    """Those that are not below another."""
    return [path for path in found if not any(above in found for above in names.ancestors(path))]


async def _refuse_large(tx: Tx, caller: Caller, trees: list[str]) -> None:
    directories, files = await store.size_of_trees(tx, caller, trees)
    if directories > MAX_DIRECTORIES or files > MAX_FILES:
        raise TreeTooLarge(
            f"There are {directories:,} directories and {files:,} files; at once up to {MAX_DIRECTORIES:,} and "
            f"{MAX_FILES:,} are changed. A file operation does it in the background (POST /api/file-operations; "
            "`spinor file operation`).",
            directories=directories, files=files,
        )  # fmt: skip


async def _all_of(
    tx: Tx, caller: Caller, named: dict[str, Directory], trees: list[str], files: dict[str, OwnedFile]
) -> tuple[list[Directory], list[int]]:
    """The directories and the files to change. All of them are locked."""
    file_ids = [file.file_id for file in files.values()]
    if not trees:
        return list(named.values()), file_ids
    within = await store.directories_within(tx, caller, trees)
    inside = await catalog.files_in(tx, caller, [directory.directory_id for directory in within])
    return within, list(dict.fromkeys([*file_ids, *inside]))
