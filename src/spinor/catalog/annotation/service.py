"""Metadata in bulk: one transaction for each call, and what is refused is told one by one."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pyarrow as pa

from spinor.access import Caller
from spinor.catalog import rules
from spinor.catalog import store as catalog
from spinor.catalog.annotation import store
from spinor.catalog.annotation.models import Described, SelectionChange, SelectionDescribed
from spinor.catalog.errors import BadBatch, BadMetadata
from spinor.catalog.models import BatchRefusal, MetadataType, MetadataValue
from spinor.catalog.service import find_files
from spinor.catalog.service.permissions import Permissions, permissions
from spinor.catalog.store import Directory
from spinor.db import Tx
from spinor.errors import SpinorError
from spinor.search import Search
from spinor.search.expression import shown
from spinor.search.mapping import from_mapping
from spinor.search.models import MAX_LIMIT

Types = dict[str, MetadataType]
_DENIED = "you may not change the metadata here"
_MISSING = "there is no such file or directory"


@dataclass
class Changes:
    """What is to become of each path, as JSON objects with null for what is taken away."""

    given: dict[str, str]
    keys: set[str] = field(default_factory=set)
    refused: list[BatchRefusal] = field(default_factory=list)

    def refuse(self, path: str, reason: str) -> None:
        self.given.pop(path, None)
        self.refused.append(BatchRefusal(lfn=path[:5000], reason=reason))


async def describe_batch(tx: Tx, caller: Caller, body: bytes) -> Described:
    """Give files and directories values of their own. An Arrow stream: `lfn`, and `metadata`, a JSON object in which
    null takes a key away. A path that comes twice gets both changes, in order. Raises BadBatch."""
    types = {key.name: key.type for key in await catalog.metadata_keys(tx, caller)}
    changes = await asyncio.to_thread(_read, caller, body, types)
    changed, applied = await _apply(tx, caller, changes)
    return Described(changed=changed, already=applied - changed, refused=changes.refused)


async def describe_selection(tx: Tx, caller: Caller, change: SelectionChange) -> SelectionDescribed:
    """Change the own values of the files that a query names, in the order of directory and name.

    Raises BadMetadata, BadQuery, UnknownDirectory.
    """
    types = {key.name: key.type for key in await catalog.metadata_keys(tx, caller)}
    values: dict[str, MetadataValue | None] = {**dict.fromkeys(change.unset), **change.set}
    if not values:
        raise BadMetadata("Neither `set` nor `unset` names a key.")
    given = _checked(values, types)
    where = change.where if isinstance(change.where, str) else str(from_mapping(change.where))
    found: list[str] = []
    after = change.after
    while len(found) < change.limit:
        limit = min(MAX_LIMIT, change.limit - len(found))
        page = await find_files(tx, caller, change.path, Search(where=where, limit=limit, after=after, fields=["lfn"]))
        found += [row["lfn"] for row in page.rows]
        if (after := page.next) is None:
            break
    changes = Changes(dict.fromkeys(found, given), set(values))
    changed, applied = await _apply(tx, caller, changes)
    return SelectionDescribed(changed=changed, already=applied - changed, refused=changes.refused, next=after)


def _read(caller: Caller, body: bytes, types: Types) -> Changes:
    changes = Changes({})
    together: dict[str, dict[str, Any]] = {}
    decode = msgspec.json.Decoder(dict[str, MetadataValue | None]).decode
    for lfn, text in _rows(body):
        if lfn is None or text is None:
            changes.refuse(lfn or "", "the row lacks its lfn or its metadata")
            continue
        try:
            path = rules.checked_path(lfn, caller.vo)
            values = decode(text)
            changes.given[path] = _checked(values, types)
            if path in together:
                changes.given[path] = msgspec.json.encode(
                    msgspec.json.decode(_checked(together[path] | values, types))
                ).decode()
            together[path] = together.get(path, {}) | values
            changes.keys.update(values)
        except msgspec.MsgspecError as error:
            changes.refused.append(
                BatchRefusal(lfn=lfn[:5000], reason=f"its metadata is no JSON object of plain values: {error}")
            )
        except SpinorError as error:
            changes.refused.append(BatchRefusal(lfn=lfn[:5000], reason=error.message))
    return changes


def _rows(body: bytes) -> Iterable[tuple[str | None, str | None]]:
    try:
        with pa.ipc.open_stream(body) as stream:
            table = stream.read_all()
        table.validate(full=True)
        columns = [table[name].cast(pa.string()).to_pylist() for name in ("lfn", "metadata")]
    except KeyError as error:
        raise BadBatch(f"The batch lacks a column: {error.args[0]}.") from None
    except (pa.ArrowException, OSError) as error:
        raise BadBatch(f"The batch is not an Arrow stream of lfn and metadata: {str(error)[:200]}.") from None
    return zip(*columns, strict=True)


def _checked(values: dict[str, MetadataValue | None], types: Types) -> str:
    """As it is sent to the database. Raises BadMetadata."""
    kept: dict[str, MetadataValue | None] = {}
    for key, value in values.items():
        if fault := rules.key_fault(key):
            raise BadMetadata(f"The metadata key {shown(key)} {fault}.", key=key[:200])
        kept[key] = None if value is None else rules.checked_value(key, value, types.get(key))
    return msgspec.json.encode(kept).decode()


async def _apply(tx: Tx, caller: Caller, changes: Changes) -> tuple[int, int]:
    """Write the changes; how many changed something, and how many there were."""
    if not changes.given:
        return 0, 0
    await catalog.hold_tree(tx, caller)
    directories = await catalog.find_directories(tx, caller, changes.given)
    trees = _tops(directories)
    await catalog.lock_trees(tx, caller, trees, list({path.rpartition("/")[0] for path in changes.given}))
    files = [path for path in changes.given if path not in directories]
    ids = await _permitted_files(tx, caller, changes, files)
    await _permit_directories(tx, caller, changes, directories.values())
    changed = await _describe_files(tx, caller, changes, ids)
    changed += await _describe_directories(tx, caller, changes, directories, trees)
    return changed, len(changes.given)


def _tops(paths: Iterable[str]) -> list[str]:
    """Those that are not below another one."""
    known = set(paths)
    return [path for path in known if not any(above in known for above in rules.ancestors(path))]


async def _permitted_files(tx: Tx, caller: Caller, changes: Changes, paths: Sequence[str]) -> dict[str, int]:
    """path -> file_id; what is no file, or is not the caller's to change, is refused."""
    if not paths:
        return {}
    rows = await store.find_files(tx, caller, [_place(path) for path in paths])
    mine = await permissions(tx, caller)
    await mine.learn({row[2] for row in rows}, {row[3] for row in rows})
    allowed = {pair: _may_change(mine, *pair) for pair in {(row[2], row[3]) for row in rows}}
    found = {paths[n - 1]: (file_id, allowed[access_id, gate_id]) for n, file_id, access_id, gate_id in rows}
    missing = [path for path in paths if path not in found]
    around = await catalog.find_directories(tx, caller, rules.with_ancestors(missing))
    await mine.learn({d.access_id for d in around.values()}, {d.gate_id for d in around.values()})
    for path in paths:
        if path in found:
            if not found[path][1]:
                changes.refuse(path, _DENIED)
            continue
        # Behind a closed gate nobody is told what is there.
        top = rules.nearest(path, around)
        open_gate = top is None or mine.passes(around[top].gate_id)
        changes.refuse(path, _MISSING if open_gate else _DENIED)
    return {path: file_id for path, (file_id, may) in found.items() if may}


def _place(path: str) -> tuple[str, str]:
    directory, _, name = path.rpartition("/")
    return directory, name


def _may_change(mine: Permissions, access_id: int, gate_id: int) -> bool:
    return bool(mine.passes(gate_id) and mine.bits(access_id) & rules.WRITE)


async def _permit_directories(tx: Tx, caller: Caller, changes: Changes, directories: Iterable[Directory]) -> None:
    found = list(directories)
    mine = await permissions(tx, caller, found)
    for directory in found:
        if not mine.may_write(directory):
            changes.refuse(directory.path, _DENIED)


async def _describe_files(tx: Tx, caller: Caller, changes: Changes, ids: dict[str, int]) -> int:
    if not ids:
        return 0
    changed = await store.describe_files(tx, caller, {ids[path]: changes.given[path] for path in ids})
    if changed:
        await catalog.record_files(tx, caller, "metadata-changed", changed, keys=sorted(changes.keys))
    return len(changed)


async def _describe_directories(
    tx: Tx, caller: Caller, changes: Changes, directories: dict[str, Directory], trees: Sequence[str]
) -> int:
    mine = {d.directory_id: changes.given[path] for path, d in directories.items() if path in changes.given}
    if not mine:
        return 0
    changed = await store.describe_directories(tx, caller, mine)
    await store.inherit_below_all(tx, caller, trees)
    rows = [(directory_id, 0, None, None) for directory_id in changed]
    await catalog.record_changes(tx, caller, "metadata-changed", rows, keys=sorted(changes.keys))
    return len(changed)
