"""Lists: one directory, the directories of a tree, what a tree uses."""

from typing import Any

import msgspec

from spinor.access import Caller
from spinor.catalog import rules, store
from spinor.catalog.models import (
    DirectoryPage,
    DirectoryRequest,
    EncodedPage,
    Entry,
    EntryKind,
    EntryPage,
    ListRequest,
    Usage,
)
from spinor.catalog.service.directories import refusal, required_directory
from spinor.catalog.service.permissions import permissions, sieve
from spinor.catalog.service.reading import stat_files
from spinor.db import Tx
from spinor.search.expression import BadQuery

_FIRST, _SECOND = "d", "f"  # The kind that a page token continues with: directories come before files.


async def list_directory(tx: Tx, caller: Caller, request: ListRequest) -> EntryPage:
    """One page of a directory, directories first; a file lists itself. Raises UnknownDirectory, DirectoryDenied."""
    page = await list_encoded(tx, caller, request)
    return EntryPage(rows=msgspec.json.decode(page.rows, type=list[Entry]), next=page.next)


async def list_encoded(tx: Tx, caller: Caller, request: ListRequest) -> EncodedPage:
    """The same as it travels: PostgreSQL writes the entries, and nobody reads them on the way."""
    path = rules.checked_path(request.path, caller.vo)
    kind, after = _token(request.after)
    directory = (await store.find_directories(tx, caller, [path])).get(path)
    if directory is None:
        # Before anything was made in it, the top of a VO is empty.
        rows = [] if path == f"/{caller.vo}" else [await _itself(tx, caller, path)]
        return EncodedPage(rows=msgspec.Raw(msgspec.json.encode(rows)))
    mine = await permissions(tx, caller, [directory])
    if not mine.may_list(directory):
        raise await refusal(tx, mine, directory, "list")
    values: dict[str, Any] = {
        "vo_id": caller.vo_id, "directory_id": directory.directory_id, "pattern": _like(request.glob), "after": after,
        "limit": request.limit + 1,
    }  # fmt: skip
    found: list[tuple[str, str, str]] = []
    if kind == _FIRST:
        found = [(_FIRST, *row) for row in await store.list_subdirectories(tx, values)]
        values["after"] = ""
    if len(found) <= request.limit:
        values["limit"] = request.limit + 1 - len(found)
        values["above"] = msgspec.json.encode(f"{path}/").decode()[:-1]
        found += [(_SECOND, *row) for row in await store.list_files(tx, values)]
    shown = found[: request.limit]
    last = shown[-1] if len(found) > request.limit else None
    rows_text = f"[{','.join([text for _, _, text in shown])}]"
    return EncodedPage(rows=msgspec.Raw(rows_text.encode()), next=f"{last[0]}{last[1]}" if last else None)


def _token(after: str | None) -> tuple[str, str]:
    if after is None:
        return _FIRST, ""
    if after[:1] not in (_FIRST, _SECOND) or (after[1:] and rules.name_fault(after[1:])):
        raise BadQuery("`after` is not a page token; take it from the page before, unchanged", field="after")
    return after[0], after[1:]


def _like(glob: str) -> str | None:
    if "\0" in glob:
        raise BadQuery("the glob contains NUL", field="glob")
    escaped = glob.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%").replace("?", "_") if glob else None


async def _itself(tx: Tx, caller: Caller, path: str) -> Entry:
    """The entry of a file. Raises UnknownDirectory, DirectoryDenied, FileDenied."""
    if path.count("/") < 2 or not await store.stat_files(tx, caller, [rules.split_lfn(path, caller.vo)]):
        await required_directory(tx, caller, path)
    (stat,) = await stat_files(tx, caller, [path])
    known = {name: getattr(stat, name) for name in Entry.__struct_fields__ if hasattr(stat, name)}
    return Entry(name=path.rpartition("/")[2], kind=EntryKind.FILE, **known)


async def directories_below(tx: Tx, caller: Caller, request: DirectoryRequest) -> DirectoryPage:
    """One page of the directories at and below a path, with how many files are directly inside each."""
    top = await required_directory(tx, caller, request.path, listed=True)
    gates = (await sieve(tx, caller, top)).gates
    rows = await store.directories_below(
        tx, caller, top.path, after=request.after or "", limit=request.limit + 1, gates=gates
    )
    after = rows[request.limit - 1].path if len(rows) > request.limit else None
    return DirectoryPage(rows=rows[: request.limit], next=after)


async def usage(tx: Tx, caller: Caller, paths: list[str]) -> list[Usage]:
    """What lies at and below each path, as far as the caller may list it; exact. Raises UnknownDirectory."""
    found = []
    for path in [rules.checked_path(path, caller.vo) for path in paths]:
        top = await required_directory(tx, caller, path, listed=True)
        gates = (await sieve(tx, caller, top)).gates
        counts = await store.usage_of_tree(tx, caller, path, gates)
        elements = await store.usage_by_storage_element(tx, caller, path, gates)
        owners = await store.usage_by_owner(tx, caller, path, gates)
        found.append(Usage(path=path, **counts, storage_elements=elements, owners=owners))
    return found
