"""Count the files of directories anew, and tell and mend each counter that was wrong."""

from spinor.catalog.operations import store
from spinor.catalog.operations.models import RebuildUsage
from spinor.catalog.operations.rules import Cursor
from spinor.catalog.operations.slices import Slice, end_of_files, next_part
from spinor.catalog.operations.store import Q, W


async def recount(work: Slice, _request: RebuildUsage, top: str, directory_id: int) -> Cursor:
    """One slice: whole directories, since a counter is that of all their files."""
    part = await next_part(work, top, directory_id)
    directories = [item.directory for item in part.ranges]
    # Of a large directory only the first part comes here with all its names to follow: it is counted at once.
    if directories and not part.ranges[0].first:
        whole = [type(item)(item.directory) for item in part.ranges]
        work.count(await store.on_ranges(work.tx, work.caller, Q.count_range, whole, file_ids=None))
        work.directories = len(directories)
        for path, what, says, is_so in await store.on_directories(work.tx, work.caller, W.wrong_counters, directories):
            work.refuse(path, "counter-differs", f"{path}: {what} said {says:,}, and there are {is_so:,}.")
        for path, whose, what, says, is_so, *_ in await store.on_directories(
            work.tx, work.caller, W.wrong_usage, directories
        ):
            work.refuse(path, "counter-differs", f"{path}: {what} on {whose} said {says:,}, and there are {is_so:,}.")
        if work.refused and not work.dry_run:
            for query in (W.mend_counters, W.forget_usage, W.write_usage):
                await store.change_directories(work.tx, work.caller, query, directories)
    return end_of_files(work, part, then_directories=False)
