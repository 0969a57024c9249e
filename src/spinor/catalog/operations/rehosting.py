"""Say that the replicas of trees lie on another storage element: what was written there by others, or renamed."""

from typing import Any

import psycopg

from spinor.catalog import store as catalog
from spinor.catalog.operations import store
from spinor.catalog.operations.models import Rehost
from spinor.catalog.operations.rules import Cursor, Range
from spinor.catalog.operations.slices import Slice, end_of_files, next_part, refuse_closed, whole
from spinor.catalog.operations.store import W
from spinor.resources import service as resources
from spinor.search.expression import shown


async def rehost(work: Slice, request: Rehost, top: str, directory_id: int) -> Cursor:
    """One slice. No bytes move."""
    part = await next_part(work, top, directory_id)
    ranges = await refuse_closed(work, part, part.mine.may_write)
    work.directories = whole(part)
    if ranges:
        if work.dry_run:
            await catalog.hold_tree(work.tx, work.caller)
            await catalog.lock_directories(work.tx, work.caller, [item.directory.path for item in ranges])
        # A dry run does the same and takes it back, so that it tells exactly what would happen.
        async with work.tx.transaction() as savepoint:
            await _rehost_files(work, request, ranges)
            if work.dry_run:
                raise psycopg.Rollback(savepoint)
    return end_of_files(work, part, then_directories=False)


async def _rehost_files(work: Slice, request: Rehost, ranges: list[Range]) -> None:
    tx, caller = work.tx, work.caller
    source = await resources.storage_element(tx, caller, request.from_se)
    target = await resources.storage_element(tx, caller, request.to_se)
    values: dict[str, Any] = {
        "from_id": source.se_id, "to_id": target.se_id,
        "from_prefix": request.from_prefix, "to_prefix": request.to_prefix,
    }  # fmt: skip
    await store.change_directories(tx, caller, W.add_locations, [item.directory for item in ranges], **values)
    leaving = await catalog.any_removals(tx, [target.se_id])
    moved = await store.on_ranges(
        tx, caller, W.rehost_files, ranges, leaving=leaving, from_se=request.from_se, to_se=request.to_se, **values
    )
    work.count(moved)
    rows = await store.on_ranges(tx, caller, W.not_rehosted, ranges, limit=max(1, work.room), **values)
    work.refuse_files(rows, lambda lfn, both: _why(request, lfn, both))


def _why(request: Rehost, lfn: str, both: bool) -> tuple[str, str]:
    if both:
        return "replica-exists", f"{shown(lfn)} has a replica on {request.from_se} and one on {request.to_se}."
    return "no-new-place", (
        f"The PFN of {shown(lfn)} on {request.from_se} does not lie below {shown(request.from_prefix or '/')}, or the "
        f"bytes at its new PFN on {request.to_se} are about to be deleted."
    )
