"""Change who may do what with whole trees: their directories from the top down, as `chmod -R` does; then the files."""

from collections.abc import Sequence

import msgspec
import psycopg

from spinor.catalog import store as catalog
from spinor.catalog.access.changing import change_slice, prepare_change
from spinor.catalog.operations import rules, store
from spinor.catalog.operations.models import ChangeAccess
from spinor.catalog.operations.rules import Cursor, Phase
from spinor.catalog.operations.slices import Slice, end_of_files, next_part, place_of
from spinor.catalog.operations.store import W
from spinor.catalog.store import Directory


async def change_access(work: Slice, request: ChangeAccess, top: str, directory_id: int) -> Cursor:
    """One slice."""
    here = await place_of(work, top, directory_id)
    is_tree = here == top
    if is_tree and (work.cursor.phase is Phase.DIRECTORIES or not work.cursor.path):
        return await _change_directories(work, request, top, directory_id)
    part = await next_part(work, top, directory_id)
    if work.dry_run and part.ranges:
        await catalog.hold_tree(work.tx, work.caller)
        await catalog.lock_directories(work.tx, work.caller, [item.directory.path for item in part.ranges])
    found = await store.on_ranges(work.tx, work.caller, W.files_of_ranges, part.ranges) if part.ranges else []
    if found:
        await _change(work, request, [], [row[0] for row in found])
        work.files = len(found)
        work.size_bytes = sum(row[1] for row in found)
    return end_of_files(work, part, then_directories=False)


async def _change_directories(work: Slice, request: ChangeAccess, top: str, directory_id: int) -> Cursor:
    cursor = work.cursor
    if cursor.phase is not Phase.DIRECTORIES:
        cursor = msgspec.structs.replace(cursor, phase=Phase.DIRECTORIES, path=top, size=rules.FIRST // 4)
    await catalog.hold_tree_alone(work.tx, work.caller)
    if await place_of(work, top, directory_id) is None:
        return Cursor(top=cursor.top + 1, rate=cursor.rate)
    walked = await store.walk_down(work.tx, work.caller, top, cursor.path, cursor.size)
    if walked:
        locked = await catalog.lock_directories(work.tx, work.caller, [directory.path for directory in walked])
        await _change(work, request, list(locked.values()), [])
        work.directories = len(locked)
    if len(walked) < cursor.size:
        return Cursor(top=cursor.top, path=top, closed=work.closed, rate=cursor.rate)
    return msgspec.structs.replace(cursor, path=rules.after(walked[-1].path), closed=work.closed)


async def _change(
    work: Slice, request: ChangeAccess, directories: Sequence[Directory], file_ids: Sequence[int]
) -> None:
    """A dry run does the same and takes it back, so that it tells exactly what would happen."""
    async with work.tx.transaction() as savepoint:
        change = await prepare_change(work.tx, work.caller, request.change)
        done = await change_slice(work.tx, work.caller, change, directories, file_ids)
        if work.dry_run:
            raise psycopg.Rollback(savepoint)
    before = work.refused
    for path, error in done.refused.items():
        work.refuse(path, error.code, error.message)
    work.refused = before + done.refusals
