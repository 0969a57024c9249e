"""Set and unset metadata keys of all files of trees, or of all their directories."""

import msgspec
from psycopg.types.json import Jsonb

from spinor.catalog import rules as catalog_rules
from spinor.catalog import store as catalog
from spinor.catalog.operations import rules, store
from spinor.catalog.operations.models import SetMetadata, Target
from spinor.catalog.operations.rules import Cursor, Phase
from spinor.catalog.operations.selection import selected
from spinor.catalog.operations.slices import Slice, end_of_files, next_part, place_of, refuse_closed, whole
from spinor.catalog.operations.store import Q, W
from spinor.catalog.service.directories import denied, refusal
from spinor.catalog.service.permissions import Permissions, permissions
from spinor.catalog.store import Directory
from spinor.catalog.store import Q as CATALOG

_OVERLAP = 1000  # A row may become visible after one with a higher number.


async def annotate(work: Slice, request: SetMetadata, top: str, directory_id: int) -> Cursor:
    """One slice."""
    if request.target is Target.DIRECTORIES:
        return await _annotate_directories(work, request, top, directory_id)
    part = await next_part(work, top, directory_id)
    ranges = await refuse_closed(work, part, lambda d: part.mine.passes(d.gate_id), "reach what is in")
    work.directories = whole(part)
    file_ids = await selected(work.tx, work.caller, request.where, work.taken.created_at, ranges) if ranges else []
    if file_ids != []:
        writable = await _writable(part.mine)
        chosen = {"writable": writable, "file_ids": file_ids}
        if work.dry_run:
            work.count(await store.on_ranges(work.tx, work.caller, Q.count_range, ranges, file_ids=file_ids))
        else:
            change = {"set": Jsonb(request.set), "unset": request.unset}
            work.count(await store.on_ranges(work.tx, work.caller, W.annotate_files, ranges, **change, **chosen))
        if writable is not None:
            rows = await store.on_ranges(
                work.tx, work.caller, W.not_writable, ranges, limit=max(1, work.room), **chosen
            )
            size_bytes = work.refuse_files(rows, _why)
            if work.dry_run and rows:
                work.files -= rows[0][2]
                work.size_bytes -= size_bytes
    return end_of_files(work, part, then_directories=False)


async def _writable(mine: Permissions) -> list[int] | None:
    """The accesses whose files the caller may change; None: all."""
    if mine.everything:
        return None
    await mine.learn_new(_OVERLAP)
    return mine.with_bits(catalog_rules.WRITE)


def _why(lfn: str, _: bool) -> tuple[str, str]:
    return "directory-denied", f"You may not change the metadata of {lfn}."


async def _annotate_directories(work: Slice, request: SetMetadata, top: str, directory_id: int) -> Cursor:
    """From the deepest up: so what a directory gives to those below it is nearly always what they have by then."""
    tx, caller = work.tx, work.caller
    cursor = work.cursor if work.cursor.phase is Phase.DIRECTORIES else msgspec.structs.replace(
        work.cursor, phase=Phase.DIRECTORIES, size=rules.FIRST // 4
    )  # fmt: skip
    if not work.dry_run:
        await catalog.hold_tree(tx, caller)
    if await place_of(work, top, directory_id) is None:
        return Cursor(top=cursor.top + 1, rate=cursor.rate)
    rows = await store.walk_up(tx, caller, top, cursor.path, cursor.size)
    mine = await permissions(tx, caller, rows)
    allowed = [row for row in rows if mine.may_write(row)]
    for row in rows:
        if mine.passes(row.gate_id) and not mine.may_write(row):
            error = denied(mine, row, "change")
            work.refuse(row.path, error.code, error.message)
        elif not mine.passes(row.gate_id):
            await _refuse_closed(work, mine, row)
    work.directories = len(allowed)
    if allowed and not work.dry_run:
        tops = rules.outermost(sorted(row.path for row in allowed))
        await catalog.lock_trees(tx, caller, tops, [path.rpartition("/")[0] for path in tops])
        ids = {"directory_ids": [row.directory_id for row in allowed]}
        await catalog.change_metadata(
            tx, caller, CATALOG.change_directory_metadata, ids, dict(request.set), request.unset
        )
        for path in tops:
            await catalog.inherit_below(tx, caller, path)
        told = [(row.directory_id, 0, None, None) for row in allowed]
        await catalog.record_changes(tx, caller, "metadata-changed", told, set=request.set, unset=request.unset)
    if len(rows) < cursor.size:
        return Cursor(top=cursor.top + 1, rate=cursor.rate)
    return msgspec.structs.replace(cursor, path=rows[-1].path, closed=work.closed)


async def _refuse_closed(work: Slice, mine: Permissions, directory: Directory) -> None:
    """Once for all that is behind a closed directory."""
    if work.closed and f"{directory.path}/".startswith(f"{work.closed}/"):
        return
    error = await refusal(work.tx, mine, directory)
    work.closed = str(error.facts["path"])
    work.refuse(work.closed, error.code, error.message)
