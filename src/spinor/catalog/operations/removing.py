"""Remove trees: their files from the top down, then their directories from the deepest up."""

from typing import Any

import msgspec

from spinor.catalog import store as catalog
from spinor.catalog.models import BytesFate
from spinor.catalog.operations import rules, store
from spinor.catalog.operations.models import Remove
from spinor.catalog.operations.rules import Cursor, Phase, Range
from spinor.catalog.operations.selection import selected
from spinor.catalog.operations.slices import Slice, end_of_files, next_part, place_of, refuse_closed
from spinor.catalog.operations.store import Below, Q, W
from spinor.catalog.service.directories import not_taken
from spinor.catalog.service.permissions import Permissions, permissions
from spinor.catalog.store import Directory
from spinor.resources import service as resources
from spinor.search.expression import shown

_NOBODY = -1  # The owner of nothing.


async def remove(work: Slice, request: Remove, top: str, directory_id: int) -> Cursor:
    """One slice. The directories stay when only some files were asked for."""
    if work.cursor.phase is Phase.DIRECTORIES:
        return await _remove_directories(work, top, directory_id)
    part = await next_part(work, top, directory_id)
    is_tree = bool(part.directories) or not part.ranges
    ranges = [
        msgspec.structs.replace(item, own_only=_own_only(part.mine, item.directory))
        for item in await refuse_closed(work, part, part.mine.may_write)
    ]
    if ranges:
        await _remove_files(work, request, ranges)
    return end_of_files(work, part, then_directories=is_tree and not request.where.strip())


def _own_only(mine: Permissions, directory: Directory) -> bool:
    return not mine.may_take(directory, _NOBODY)


async def _remove_files(work: Slice, request: Remove, ranges: list[Range]) -> None:
    tx, caller = work.tx, work.caller
    file_ids = await selected(tx, caller, request.where, work.taken.created_at, ranges)
    if file_ids == []:
        return
    fixed: dict[int, str] = {}
    if request.bytes is BytesFate.DELETE:
        fixed = {e.se_id: e.name for e in await resources.all_storage_elements(tx) if e.read_only}
    own = await store.own_accesses(tx, caller) if any(item.own_only for item in ranges) else []
    chosen = {"fixed": list(fixed), "own": own, "file_ids": file_ids}
    if work.dry_run:
        work.count(await store.on_ranges(tx, caller, Q.count_range, ranges, file_ids=file_ids))
    else:
        await _delete(work, request, ranges, chosen)
    if fixed or any(item.own_only for item in ranges):
        rows = await store.on_ranges(tx, caller, W.not_removed, ranges, limit=max(1, work.room), **chosen)
        size_bytes = work.refuse_files(rows, _why)
        if work.dry_run and rows:
            work.files -= rows[0][2]
            work.size_bytes -= size_bytes


async def _delete(work: Slice, request: Remove, ranges: list[Range], chosen: dict[str, Any]) -> None:
    tx, caller = work.tx, work.caller
    delete_bytes = request.bytes is BytesFate.DELETE
    lineage = await catalog.any_provenance(tx, caller)
    whole: list[Directory] = []
    some: list[Range] = []
    plain = not (lineage or chosen["fixed"] or chosen["file_ids"] is not None)
    for item in ranges:
        if plain and not (item.own_only or item.first or item.last != rules.LAST_NAME):
            whole.append(item.directory)
        else:
            some.append(item)
    if whole:
        work.count(await store.on_directories(tx, caller, W.remove_all_files, whole, delete_bytes=delete_bytes))
    if some:
        values = {"lineage": lineage, "delete_bytes": delete_bytes, **chosen}
        work.count(await store.on_ranges(tx, caller, W.remove_files, some, **values))


def _why(lfn: str, read_only: bool) -> tuple[str, str]:
    if read_only:
        return "replica-read-only", (
            f"{shown(lfn)} has bytes on a read-only storage element; `--catalog-only` removes the name and keeps them."
        )
    return (
        "directory-denied",
        f"{shown(lfn)} is another's, in a sticky directory: each takes only their own out of it.",
    )


async def _remove_directories(work: Slice, top: str, directory_id: int) -> Cursor:
    """Those that are empty. Nobody puts names into the VO's directories while this transaction lasts."""
    tx, caller, cursor = work.tx, work.caller, work.cursor
    if not work.dry_run:
        await catalog.hold_tree_alone(tx, caller)
    if await place_of(work, top, directory_id) is None:
        return Cursor(top=cursor.top + 1, rate=cursor.rate)
    rows = await store.walk_up(tx, caller, top, cursor.path, cursor.size)
    going, kept = await _judge(work, rows)
    for directory in kept:
        work.refuse(
            directory.path, "directory-not-empty",
            f"{shown(directory.path)} still holds something: what was refused, or what came while it was removed.",
        )  # fmt: skip
    work.directories = len(going)
    if going and not work.dry_run:
        ids = [directory.directory_id for directory in going]
        await catalog.record_changes(tx, caller, "directory-removed", [(i, 0, None, None) for i in ids])
        await catalog.delete_directories(tx, caller, ids)
    if len(rows) < cursor.size:
        return Cursor(top=cursor.top + 1, rate=cursor.rate)
    return msgspec.structs.replace(cursor, path=rows[-1].path)


async def _judge(work: Slice, rows: list[Below]) -> tuple[list[Directory], list[Directory]]:
    """Which of the directories go, and which stay because of what is directly in them. Above one that stays others
    stay too, and that is told once."""
    tx, caller = work.tx, work.caller
    known: dict[int, Directory] = {row.directory_id: row for row in rows}
    above = {row.parent_id for row in rows if row.parent_id is not None} - known.keys()
    known |= {d.directory_id: d for d in await store.directories_by_id(tx, caller, above)}
    mine = await permissions(tx, caller, known.values())
    left = await store.children_of(tx, caller, [row.directory_id for row in rows])
    going: list[Directory] = []
    kept: list[Directory] = []
    for row in rows:
        parent = known[row.parent_id] if row.parent_id is not None else row
        if not mine.passes(parent.gate_id):
            continue  # What is behind a closed directory was refused with that.
        if not mine.may_take(parent, mine.access(row.access_id).owner_id):
            error = not_taken(mine, parent, row.path)
            work.refuse(row.path, error.code, error.message)
        elif row.file_count and not work.dry_run:
            if mine.may_write(row):  # Else it was refused with its files.
                kept.append(row)
        elif left.get(row.directory_id) and not work.dry_run:
            if not work.taken.refused and not work.refused and not kept:
                kept.append(row)
        else:
            going.append(row)
            left[parent.directory_id] = left.get(parent.directory_id, 0) - 1
    return going, kept
