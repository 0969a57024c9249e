"""Change accesses of any number of files and directories, whose locks the caller of these verbs holds."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from spinor.access import Caller, Scope
from spinor.catalog import rules as names
from spinor.catalog import store as catalog
from spinor.catalog.access import rules, store
from spinor.catalog.access.models import AccessChange, AclKind
from spinor.catalog.access.naming import Ids, names_in
from spinor.catalog.access.rules import Change, Edit
from spinor.catalog.errors import AccessDenied, BadAccess
from spinor.catalog.models import Access
from spinor.catalog.service.directories import make_gates_anew, refusal
from spinor.catalog.service.permissions import Permissions, permissions
from spinor.catalog.service.quotas import Grown, check_grown
from spinor.catalog.store import Directory, Q
from spinor.db import Tx
from spinor.errors import SpinorError
from spinor.search.expression import shown

MAX_NAMED = 10_000


@dataclass
class Slice:
    """What became of some files and directories. `refused` has the first MAX_NAMED of all `refusals`, by path; what
    lies behind a directory that is closed to the caller counts as one refusal, of that directory."""

    files: int = 0
    directories: int = 0
    refusals: int = 0
    refused: dict[str, SpinorError] = field(default_factory=dict)

    def refuse(self, path: str, error: SpinorError) -> None:
        if path not in self.refused:
            self.refusals += 1
            if len(self.refused) < MAX_NAMED:
                self.refused[path] = error


async def prepare_change(tx: Tx, caller: Caller, change: AccessChange) -> Change:
    """Check all that needs no path, and look up the names. Raises BadAccess, UnknownUser, UnknownGroup."""
    if isinstance(change.mode, str):
        rules.check_mode(change.mode)
    elif change.mode is not None:
        rules.check_mode(f"{change.mode:04o}")
    entries = [*(change.acl or []), *change.acl_set, *(change.default_acl or []), *change.default_acl_set]
    drops = [*change.acl_drop, *change.default_acl_drop]
    for drop in drops:
        if not drop.name and drop.kind is not AclKind.MASK:
            raise BadAccess(f"The entry {drop.kind}:: is in every ACL; it can be set, and not be dropped.")
    users, groups = names_in(entries)
    users |= set() if change.owner is None else {change.owner}
    groups |= set() if change.group is None else {change.group}
    ids = await Ids.of(tx, caller, users, groups)
    leaving = await Ids.of_known(tx, caller, *names_in(drops))
    manages = caller.may(Scope.FILES_MANAGE)
    return Change(
        owner_id=None if change.owner is None else ids.users[change.owner],
        group_id=None if change.group is None else ids.groups[change.group],
        mode=change.mode,
        acl=Edit(
            None if change.acl is None else ids.permissions(change.acl),
            ids.permissions(change.acl_set), frozenset(map(leaving.who, change.acl_drop)),
        ),
        default_acl=Edit(
            None if change.default_acl is None else ids.permissions(change.default_acl),
            ids.permissions(change.default_acl_set), frozenset(map(leaving.who, change.default_acl_drop)),
        ),
        giveable=None if manages or change.group is None else await store.groups_of_user(tx, caller),
    )  # fmt: skip


async def change_slice(
    tx: Tx, caller: Caller, change: Change, directories: Sequence[Directory], file_ids: Sequence[int]
) -> Slice:
    """Change the directories' own accesses and those of the files; what is refused stays as it is, and is told.

    With any directories the tree is held alone, otherwise held; the directories, and those of the files, are locked.
    Directories of one slice are in any order; a directory that the caller owns may be closed to them until now.
    Raises QuotaExceeded.
    """
    done = Slice()
    around = await catalog.find_directories(tx, caller, {d.path.rpartition("/")[0] for d in directories})
    mine = await permissions(tx, caller, [*around.values(), *directories])
    # Whom an owner lets in by this very change are they themselves: they could do it level by level.
    entered = {d.directory_id for d in around.values() if mine.passes(d.gate_id)}
    known = {directory.path: directory for directory in (*around.values(), *directories)}
    allowed: list[Directory] = []
    for directory in sorted(directories, key=lambda d: d.path.count("/")):
        parent = known.get(directory.path.rpartition("/")[0])
        if parent is not None and parent.directory_id not in entered:
            await _refuse_closed(tx, mine, parent, done)
        elif error := _fault(mine, change, directory.access_id, directory.path):
            done.refuse(directory.path, error)
            if mine.passes(directory.gate_id):
                entered.add(directory.directory_id)
        else:
            entered.add(directory.directory_id)
            allowed.append(directory)
    if file_ids:
        await _change_files(tx, mine, change, file_ids, entered, done)
    await _change_directories(tx, mine, change, allowed, done)
    return done


def _fault(mine: Permissions, change: Change, access_id: int, path: str) -> SpinorError | None:
    """Why the caller may not make this change, if the way there is open to them."""
    if mine.everything:
        return None
    access, caller = mine.access(access_id), mine.caller
    if access.owner_id != caller.user_id:
        return AccessDenied(
            f"{shown(path)} is not yours: only its owner, or who manages files, changes who may do what with it.",
            path=path,
        )
    if change.owner_id not in (None, caller.user_id):
        return AccessDenied(f"Only who manages files (files:manage) gives {shown(path)} to another owner.", path=path)
    if change.group_id is not None and change.giveable is not None and change.group_id not in change.giveable:
        return AccessDenied(f"You are not a member of the group that {shown(path)} is to get.", path=path)
    return None


async def _replacements(
    tx: Tx, mine: Permissions, change: Change, access_ids: set[int], *, directory: bool
) -> dict[int, int]:
    """access_id -> that of the changed access; without those that stay the same."""
    old = sorted(access_ids)
    new = [rules.changed(mine.access(access_id), change, directory=directory) for access_id in old]
    distinct: list[Access] = list(dict.fromkeys(new))
    kept = dict(zip(distinct, await store.kept_accesses(tx, mine.caller, distinct), strict=True)) if new else {}
    return {a: kept[access] for a, access in zip(old, new, strict=True) if kept[access] != a}


async def _change_directories(
    tx: Tx, mine: Permissions, change: Change, allowed: Sequence[Directory], done: Slice
) -> None:
    new = await _replacements(tx, mine, change, {d.access_id for d in allowed}, directory=True)
    touched = {d.path: d for d in allowed if d.access_id in new}
    if not touched:
        return
    caller, ids = mine.caller, [directory.directory_id for directory in touched.values()]
    await store.set_directory_accesses(tx, caller, ids, new)
    for path in touched:
        if not any(above in touched for above in names.ancestors(path)):
            await make_gates_anew(tx, caller, path)
    await catalog.record_changes(tx, caller, "directory-changed", [(id_, 0, None, None) for id_ in ids], access=True)
    done.directories = len(touched)


async def _refuse_closed(tx: Tx, mine: Permissions, directory: Directory, done: Slice) -> None:
    error = await refusal(tx, mine, directory, "reach what is in")
    done.refuse(str(error.facts["path"]), error)


async def _change_files(
    tx: Tx, mine: Permissions, change: Change, file_ids: Sequence[int], entered: set[int], done: Slice
) -> None:
    caller = mine.caller
    allowed, paths = await _allowed_files(tx, mine, change, file_ids, entered, done)
    new = await _replacements(tx, mine, change, set(allowed), directory=False)
    ids = [file_id for access_id in new for file_id in allowed[access_id]]
    if not ids:
        return
    given = [
        file_id
        for access_id in new
        if change.owner_id is not None and mine.access(access_id).owner_id != change.owner_id
        for file_id in allowed[access_id]
    ]
    if given:
        await catalog.on_files(tx, caller, Q.count_out_usage, given)
    await store.set_file_accesses(tx, caller, ids, new)
    if given and change.owner_id is not None:
        await catalog.on_files(tx, caller, Q.count_in_usage, given)
        await check_grown(tx, caller, names.with_ancestors(paths), [change.owner_id], Grown.OWNER)
    await catalog.record_files(tx, caller, "files-changed", ids, access=True)
    done.files = len(ids)


async def _allowed_files(
    tx: Tx, mine: Permissions, change: Change, file_ids: Sequence[int], entered: set[int], done: Slice
) -> tuple[dict[int, list[int]], set[str]]:
    """The files that the caller may change, by access, and the paths of their directories; refuses the others."""
    rows = await store.accesses_of_files(tx, mine.caller, file_ids)
    await mine.learn({row[1] for row in rows}, {row[3] for row in rows})
    fine = {access_id: _fault(mine, change, access_id, "") is None for access_id in {row[1] for row in rows}}
    allowed: dict[int, list[int]] = {}
    paths: set[str] = set()
    closed: set[str] = set()
    others: dict[int, int] = {}
    for file_id, access_id, directory_id, gate_id, path in rows:
        if directory_id not in entered and not mine.passes(gate_id):
            closed.add(path)
        elif fine[access_id]:
            allowed.setdefault(access_id, []).append(file_id)
            paths.add(path)
        else:
            others[file_id] = access_id
    for directory in (await catalog.find_directories(tx, mine.caller, closed)).values():
        await _refuse_closed(tx, mine, directory, done)
    for file_id, lfn in (await store.paths_of_files(tx, mine.caller, list(others)[:MAX_NAMED])).items():
        if error := _fault(mine, change, others[file_id], lfn):
            done.refuse(lfn, error)
    done.refusals += max(0, len(others) - MAX_NAMED)
    return allowed, paths
