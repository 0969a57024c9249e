"""Lists: one directory, a whole tree by a filter, what a tree uses."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from spinor.access import Caller
from spinor.catalog import finding, rules, store
from spinor.catalog.errors import UnknownDirectory
from spinor.catalog.models import (
    DirectoryPage,
    DirectoryRequest,
    Entry,
    EntryKind,
    EntryPage,
    FoundPage,
    ListRequest,
    SEUsage,
    Usage,
)
from spinor.catalog.service.metadata import show_metadata
from spinor.catalog.store import Directory
from spinor.db import Tx
from spinor.search import Search
from spinor.search.expression import BadQuery, shown
from spinor.search.page import compile_page

_FIRST, _SECOND = "d", "f"  # The kind that a page token continues with: directories come before files.


async def list_directory(tx: Tx, caller: Caller, request: ListRequest) -> EntryPage:
    """One page of a directory, directories first; a file lists itself. Raises UnknownDirectory."""
    path = rules.checked_path(request.path, caller.vo)
    kind, after = _token(request.after)
    directory = (await store.find_directories(tx, caller, [path])).get(path)
    if directory is None:
        return EntryPage(rows=[await _itself(tx, caller, path)])
    values: dict[str, Any] = {
        "vo_id": caller.vo_id, "directory_id": directory.directory_id, "path": path,
        "pattern": _like(request.glob), "limit": request.limit + 1, "after": after,
    }  # fmt: skip
    rows: list[Entry] = []
    if kind == _FIRST:
        rows = [_directory_entry(row) for row in await store.list_subdirectories(tx, values)]
        values["after"] = ""
    if len(rows) <= request.limit:
        values["limit"] = request.limit + 1 - len(rows)
        rows += [_file_entry(path, row) for row in await store.list_files(tx, values)]
    shown_rows = rows[: request.limit]
    last = shown_rows[-1] if len(rows) > request.limit else None
    letter = _FIRST if last and last.kind is EntryKind.DIRECTORY else _SECOND
    return EntryPage(rows=shown_rows, next=f"{letter}{last.name}" if last else None)


def _token(after: str | None) -> tuple[str, str]:
    if after is None:
        return _FIRST, ""
    if after[:1] not in (_FIRST, _SECOND) or rules.name_fault(after[1:]):
        raise BadQuery("`after` is not a page token; take it from the page before, unchanged", field="after")
    return after[0], after[1:]


def _like(glob: str) -> str:
    if "\0" in glob:
        raise BadQuery("the glob contains NUL", field="glob")
    escaped = glob.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%").replace("?", "_") if glob else "%"


def _directory_entry(row: dict[str, Any]) -> Entry:
    path = row.pop("path")
    return Entry(name=path.rpartition("/")[2], lfn=path, kind=EntryKind.DIRECTORY, **row)


def _file_entry(directory: str, row: dict[str, Any]) -> Entry:
    return Entry(lfn=f"{directory}/{row['name']}", kind=EntryKind.FILE, **row)


async def _itself(tx: Tx, caller: Caller, path: str) -> Entry:
    for stat in await store.stat_files(tx, caller, [rules.split_lfn(path, caller.vo)] if path.count("/") > 1 else []):
        known = {name: getattr(stat, name) for name in Entry.__struct_fields__ if hasattr(stat, name)}
        return Entry(name=path.rpartition("/")[2], kind=EntryKind.FILE, **known)
    raise _unknown(path)


def _unknown(path: str) -> UnknownDirectory:
    return UnknownDirectory(f"There is no directory {shown(path)} in the catalog.", path=path)


async def find_files(tx: Tx, caller: Caller, path: str, search: Search) -> FoundPage:
    """One page of the files at or below a path that the filter names, by LFN unless sorted otherwise.

    A metadata key means a file's own value, else that of the nearest directory above. Raises BadQuery,
    UnknownDirectory.
    """
    directory = await _required(tx, caller, rules.checked_path(path, caller.vo))
    fields = await _fields(tx, caller, search)
    asked = ["lfn", "size_bytes", *(search.fields or [])]
    page = compile_page(msgspec.structs.replace(search, fields=asked), fields, "lfn", datetime.now(UTC))
    values: dict[str, Any] = {"vo_id": caller.vo_id, "path": directory.path, **page.params}
    if fields.inherits:
        (above,) = await show_metadata(tx, caller, [directory.path])
        statement = finding.FIND_INHERITED
        rows = await store.find_files(tx, statement.format(**page.parts), values, above.inherited)
    else:
        rows = await store.find_files(tx, finding.FIND_PLAIN.format(**page.parts), values)
    found, after = page.split(rows)
    return FoundPage(rows=found, next=after)


async def _fields(tx: Tx, caller: Caller, search: Search) -> finding.FileFields:
    keys = await store.metadata_keys(tx, caller)
    undeclared = []
    for name in sorted(finding.unknown_names(search, keys)):
        for value in await store.values_of_key(tx, caller, name, 1):
            undeclared.append(finding.undeclared_key(name, value))
    return finding.FileFields(keys, undeclared)


async def _required(tx: Tx, caller: Caller, path: str) -> Directory:
    directory = (await store.find_directories(tx, caller, [path])).get(path)
    if directory is None:
        raise _unknown(path)
    return directory


async def directories_below(tx: Tx, caller: Caller, request: DirectoryRequest) -> DirectoryPage:
    """One page of the directories at and below a path, with how many files are directly inside each."""
    path = rules.checked_path(request.path, caller.vo)
    rows = await store.directories_below(tx, caller, path, request.after or "", request.limit + 1)
    after = rows[request.limit - 1].path if len(rows) > request.limit else None
    return DirectoryPage(rows=rows[: request.limit], next=after)


async def usage(tx: Tx, caller: Caller, paths: list[str]) -> list[Usage]:
    """What lies at and below each path, in the order asked; exact. Raises UnknownDirectory."""
    found = []
    for path in [rules.checked_path(path, caller.vo) for path in paths]:
        await _required(tx, caller, path)
        counts = await store.usage_of_tree(tx, caller, path)
        found.append(Usage(path=path, **counts, storage_elements=await _per_element(tx, caller, path)))
    return found


async def _per_element(tx: Tx, caller: Caller, path: str) -> list[SEUsage]:
    return await store.usage_by_storage_element(tx, caller, path)
