"""Ask for operations, look at them, stop them and let them go on."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from spinor.access import Caller, Scope
from spinor.catalog import rules as catalog_rules
from spinor.catalog import store as catalog
from spinor.catalog.access.changing import prepare_change
from spinor.catalog.errors import BadMetadata, UnknownLFN
from spinor.catalog.models import Outcome, Refusal
from spinor.catalog.operations import rules, store
from spinor.catalog.operations.errors import BadOperation, KeyReused, OperationEnded, TopOfVO, UnknownOperation
from spinor.catalog.operations.models import (
    ENDED,
    ChangeAccess,
    OnTrees,
    Operation,
    OperationPage,
    OperationSearch,
    OperationShown,
    OperationState,
    RebuildUsage,
    RefusalPage,
    RefusalQuery,
    Rehost,
    Remove,
    SetMetadata,
    Target,
)
from spinor.catalog.operations.selection import checked_where
from spinor.catalog.operations.store import Stored
from spinor.catalog.service.directories import not_taken, refusal
from spinor.catalog.service.permissions import Permissions, permissions
from spinor.catalog.store import Directory
from spinor.chores import enqueue
from spinor.db import Tx
from spinor.resources import service as resources
from spinor.search.expression import BadQuery, shown

CHORE = "catalog.operations"
_NOTHING: tuple[Any, ...] = (None, "", [], {})


async def ask(tx: Tx, caller: Caller, request: OnTrees) -> int:
    """Ask for an operation; its id. What cannot be right is refused here, before anything begins.

    Raises BadLFN, PathOutsideVO, UnknownLFN, DirectoryDenied, TopOfVO, BadOperation, BadMetadata, BadQuery, KeyReused.
    """
    if request.idempotency_key and (same := await store.same_operation(tx, caller, request.idempotency_key)):
        return _asked_before(same, request)  # Its trees may be gone by now.
    request = await _checked(tx, caller, request)
    paths = rules.outermost(catalog_rules.checked_path(path, caller.vo) for path in request.paths)
    tops = await _tops(tx, caller, request, paths)
    trees = [path for path, directory in tops.items() if directory.path == path]
    files, size_bytes, directories = await store.usage_of_tops(tx, caller, trees)
    kind, arguments = _written(msgspec.structs.replace(request, paths=list(tops)))
    arguments["directory_ids"] = [directory.directory_id for directory in tops.values()]
    values: dict[str, Any] = {
        "kind": kind, "arguments": arguments, "idempotency_key": request.idempotency_key,
        "total_files": files + len(tops) - len(trees), "total_bytes": size_bytes, "total_directories": directories,
    }  # fmt: skip
    operation_id = await store.insert_operation(tx, caller, values)
    if operation_id is None:  # The same request came twice at the same time.
        return await ask(tx, caller, request)
    await enqueue(tx, CHORE, dedupe_key="open")
    return operation_id


def _written(request: OnTrees) -> tuple[str, dict[str, Any]]:
    """Its kind and its arguments, as the row keeps them."""
    arguments: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(request, idempotency_key=None))
    return arguments.pop("kind"), arguments


def _asked_before(same: tuple[int, str, dict[str, Any]], request: OnTrees) -> int:
    operation_id, kind_then, then = same
    kind, now = _written(request)
    paths = {path.rstrip("/") for path in request.paths}
    if (kind, now["dry_run"]) != (kind_then, then["dry_run"]) or not paths.issuperset(then["paths"]):
        raise KeyReused(operation_id=operation_id)
    return operation_id


async def _checked(tx: Tx, caller: Caller, request: OnTrees) -> OnTrees:
    """The request with its values as they are stored."""
    match request:
        case Remove(where=where):
            await _check_where(tx, caller, where)
        case SetMetadata():
            await _check_where(tx, caller, request.where)
            if request.where.strip() and request.target is Target.DIRECTORIES:
                raise BadOperation("`where` chooses files; leave it out to change all directories.", field="where")
            return await _checked_metadata(tx, caller, request)
        case Rehost():
            await _check_rehost(tx, caller, request)
        case ChangeAccess():
            await prepare_change(tx, caller, request.change)
        case RebuildUsage():
            caller.require(Scope.FILES_MANAGE)
    return request


async def _check_where(tx: Tx, caller: Caller, where: str) -> None:
    if where.strip():
        await checked_where(tx, caller, where, datetime.now(UTC))


async def _checked_metadata(tx: Tx, caller: Caller, request: SetMetadata) -> SetMetadata:
    if not request.set and not request.unset:
        raise BadOperation("Nothing is set and nothing is unset; give `set` or `unset`.", field="set")
    types = {key.name: key.type for key in await catalog.metadata_keys(tx, caller)}
    values: dict[str, Any] = {}
    for key, value in request.set.items():
        if fault := catalog_rules.key_fault(key):
            raise BadMetadata(f"The metadata key {shown(key)} {fault}.", key=key[:200])
        values[key] = catalog_rules.checked_value(key, value, types.get(key))
    return msgspec.structs.replace(request, set=values)


async def _check_rehost(tx: Tx, caller: Caller, request: Rehost) -> None:
    for name in (request.from_se, request.to_se):
        await resources.storage_element(tx, caller, name)
    if request.from_se == request.to_se:
        raise BadOperation("`from_se` and `to_se` are the same storage element.", field="to_se")
    for prefix in (request.from_prefix, request.to_prefix):
        if prefix:
            catalog_rules.checked_pfn(prefix)


async def _tops(tx: Tx, caller: Caller, request: OnTrees, paths: Sequence[str]) -> dict[str, Directory]:
    """path -> the directory that it is, or that holds the file that it is."""
    around = await catalog.find_directories(tx, caller, catalog_rules.with_ancestors(paths))
    mine = await permissions(tx, caller, around.values())
    others = [path for path in paths if path not in around]
    for path in paths:
        there = catalog_rules.nearest(path, around)
        if there is not None and not mine.passes(around[there].gate_id):
            raise await refusal(tx, mine, around[there], "reach what is in")
    known = [path for path in others if path.rpartition("/")[0] in around]
    places = [around[path.rpartition("/")[0]].directory_id for path in known]
    names = [path.rpartition("/")[2] for path in known]
    found = {(f.directory_id, f.name) for f in await catalog.find_names(tx, caller, places, names)}
    there_are = {path for path, *place in zip(known, places, names, strict=True) if tuple(place) in found}
    if missing := [path for path in others if path not in there_are]:
        raise UnknownLFN(f"There is no file or directory {shown(missing[0])}.", lfns=missing[:100], count=len(missing))
    if others and (isinstance(request, RebuildUsage) or getattr(request, "target", None) is Target.DIRECTORIES):
        raise BadOperation(f"{shown(others[0])} is a file; this is for directories.", path=others[0])
    if isinstance(request, Remove):
        _refuse_tops(mine, request, paths, around)
    return {path: around.get(path) or around[path.rpartition("/")[0]] for path in paths}


def _refuse_tops(mine: Permissions, request: Remove, paths: Sequence[str], around: dict[str, Directory]) -> None:
    """A tree whose top may not go is refused before anything below it went."""
    if request.where.strip():
        return
    for path in paths:
        above = around.get(path.rpartition("/")[0])
        if path in around and above is None:
            raise TopOfVO(path=path)
        if path in around and above and not mine.may_take(above, mine.access(around[path].access_id).owner_id):
            raise not_taken(mine, above, path)


def _whose(caller: Caller) -> int | None:
    return None if caller.may(Scope.FILES_MANAGE) else caller.user_id


async def show(tx: Tx, caller: Caller, operation_id: int, *, waiting: bool = False) -> OperationShown:
    """One operation; of a removal, if asked, also what still waits on the storages. Raises UnknownOperation."""
    found = await store.find_operations(tx, caller, _whose(caller), ids=[operation_id])
    if not found:
        raise UnknownOperation(f"There is no operation {operation_id} of yours; see `spinor file operation list`.")
    left = await store.waiting_bytes(tx, caller) if waiting and found[0].kind == "remove" else []
    return msgspec.convert({**_fields(found[0]), "waiting_bytes": left}, OperationShown)


async def search(tx: Tx, caller: Caller, asked: OperationSearch) -> OperationPage:
    """One page of the caller's operations, newest first; with files:manage, of all of the VO."""
    if asked.after is not None and not asked.after.isdecimal():
        raise BadQuery("`after` is not a page token; take it from the page before, unchanged", field="after")
    before = None if asked.after is None else int(asked.after)
    found = await store.find_operations(
        tx, caller, _whose(caller), states=asked.states or None, before=before, limit=asked.limit + 1
    )
    rows = [msgspec.convert(_fields(row), Operation) for row in found[: asked.limit]]
    return OperationPage(rows=rows, next=str(rows[-1].operation_id) if len(found) > asked.limit else None)


def _fields(stored: Stored) -> dict[str, Any]:
    fields = {name: getattr(stored, name) for name in Operation.__struct_fields__ if hasattr(stored, name)}
    given = {name: value for name, value in stored.arguments.items() if name != "directory_ids"}
    fields["arguments"] = {n: value for n, value in given.items() if value is not False and value not in _NOTHING}
    running = stored.state not in ENDED and stored.state is not OperationState.PAUSED
    rate = stored.cursor.rate if running else None
    left = max(0, stored.total_files - stored.done_files - stored.refused)
    by_files = rate and stored.cursor.phase is rules.Phase.FILES
    return fields | {"files_per_s": rate if by_files else None, "left_s": left / rate if rate and by_files else None}


async def refusals(tx: Tx, caller: Caller, operation_id: int, asked: RefusalQuery) -> RefusalPage:
    """What the operation could not do, one by one. Raises UnknownOperation."""
    shown_one = await show(tx, caller, operation_id)
    rows = await store.refusals_of(tx, caller, operation_id, after=asked.after, limit=asked.limit + 1)
    page = rows[: asked.limit]
    return RefusalPage(refused=shown_one.refused, rows=page, next=page[-1].number if len(rows) > asked.limit else None)


async def change(tx: Tx, caller: Caller, ids: Sequence[int], state: OperationState) -> Outcome:
    """Pause, let go on (WAITING) or cancel operations. Waits for a slice that runs just now to end, never longer."""
    wanted = list(dict.fromkeys(ids))
    done = await store.change_states(tx, caller, _whose(caller), wanted, state, rules.CHANGES[state])
    rest = [operation_id for operation_id in wanted if operation_id not in done]
    known = {row.operation_id: row for row in await store.find_operations(tx, caller, _whose(caller), ids=rest)}
    if done and state is OperationState.WAITING:
        await enqueue(tx, CHORE, dedupe_key="open")
    return Outcome(
        done=[str(operation_id) for operation_id in wanted if operation_id in done],
        refused=[_refusal(operation_id, known.get(operation_id)) for operation_id in rest],
    )


def _refusal(operation_id: int, known: Stored | None) -> Refusal:
    if known is None:
        reason, code = f"There is no operation {operation_id} of yours.", UnknownOperation.code
    else:
        reason, code = f"Operation {operation_id} is {known.state.value}.", OperationEnded.code
    return Refusal(id=str(operation_id), code=code, reason=reason)
