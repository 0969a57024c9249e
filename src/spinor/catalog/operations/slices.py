"""One slice of an operation: which directories and names it takes, and what it counts."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from spinor.access import Caller
from spinor.catalog import store as catalog
from spinor.catalog.models import Refusal
from spinor.catalog.operations import rules, store
from spinor.catalog.operations.errors import TreeMoved
from spinor.catalog.operations.models import OnTrees
from spinor.catalog.operations.rules import Cursor, Phase, Range
from spinor.catalog.operations.store import Taken
from spinor.catalog.service.directories import refusal
from spinor.catalog.service.permissions import Permissions, permissions
from spinor.catalog.store import Directory
from spinor.db import Tx
from spinor.search.expression import shown


class Slice:
    """The work of one transaction, which has locked its operation's row. What it could not do is `refused`, each with
    its reason as long as there is room for it; what it did is counted."""

    def __init__(self, tx: Tx, taken: Taken, request: OnTrees) -> None:
        self.tx = tx
        self.taken = taken
        self.caller: Caller = taken.caller
        self.cursor = taken.cursor
        self.dry_run = request.dry_run
        self.closed = taken.cursor.closed
        self.files = 0
        self.size_bytes = 0
        self.directories = 0
        self.refused = 0
        self.refusals: list[Refusal] = []

    @property
    def room(self) -> int:
        """How many refusals can still be kept."""
        return rules.KEPT_REFUSALS - self.taken.refused - len(self.refusals)

    def refuse(self, path: str, code: str, reason: str) -> None:
        self.refused += 1
        if self.room > 0:
            self.refusals.append(Refusal(id=path, code=code, reason=reason))

    def refuse_files(self, rows: Sequence[tuple[Any, ...]], why: Callable[[str, bool], tuple[str, str]]) -> int:
        """Rows of path, a flag, how many there are in all and their bytes; the first of them may be all that is known.
        Gives their bytes."""
        if not rows:
            return 0
        before = self.refused
        for path, flag, *_ in rows:
            self.refuse(path, *why(path, flag))
        self.refused = before + rows[0][2]
        return int(rows[0][3])

    def count(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """One row of files and bytes."""
        self.files += rows[0][0]
        self.size_bytes += int(rows[0][1])


class Part(msgspec.Struct, frozen=True):
    """What a slice works on: its directories, locked unless it only looks; ranges of their names; the cursor after it,
    or None when the tree's files are through."""

    directories: list[Directory]
    ranges: list[Range]
    mine: Permissions
    next: Cursor | None


async def next_part(work: Slice, top: str, directory_id: int) -> Part:
    """Take the next directories of a tree, or a part of a large one. Locks them. Raises TreeMoved."""
    here = await place_of(work, top, directory_id)
    if here is None:
        return Part([], [], await permissions(work.tx, work.caller), None)
    if not work.dry_run:
        await catalog.hold_tree(work.tx, work.caller)
    if here != top:
        return await _single_file(work, here, top)
    cursor = work.cursor
    start = cursor.path or top
    limit = min(max(cursor.size, rules.LEAST), rules.MOST_DIRECTORIES)
    walked = await store.walk_down(work.tx, work.caller, top, start, limit)
    if not walked:
        return Part([], [], await permissions(work.tx, work.caller), None)
    taken = rules.whole_directories(walked, cursor)
    first = cursor.name if taken[0].path == cursor.path else ""
    last = rules.LAST_NAME
    end = msgspec.structs.replace(cursor, path=rules.after(taken[-1].path), name="")
    if taken[0].file_count > cursor.size:
        name = await store.nth_name(work.tx, work.caller, taken[0].directory_id, first, cursor.size)
        if name is not None:
            last = name
            end = msgspec.structs.replace(cursor, path=taken[0].path, name=rules.after(name))
    locked = await _locked(work, taken)
    mine = await permissions(work.tx, work.caller, locked.values())
    ranges = [Range(locked[d.path]) for d in taken if d.path in locked]
    if ranges and ranges[0].directory.path == taken[0].path:
        ranges[0] = Range(ranges[0].directory, first, last)
    return Part(list(locked.values()), ranges, mine, end)


async def place_of(work: Slice, top: str, directory_id: int) -> str | None:
    """The path of the tree, or of the directory of a single file; None: others have removed it. Raises TreeMoved."""
    here = await store.where_is(work.tx, work.caller, directory_id)
    if here is not None and here != top and here != top.rpartition("/")[0]:
        raise TreeMoved(f"{shown(top)} was moved to {shown(here)} meanwhile; ask again with its new path.")
    return here


async def _single_file(work: Slice, here: str, lfn: str) -> Part:
    locked = await _locked(work, (await catalog.find_directories(work.tx, work.caller, [here])).values())
    mine = await permissions(work.tx, work.caller, locked.values())
    name = lfn.rpartition("/")[2]
    return Part([], [Range(directory, name, name) for directory in locked.values()], mine, None)


async def _locked(work: Slice, taken: Any) -> dict[str, Directory]:
    if work.dry_run:
        return {directory.path: directory for directory in taken}
    return await catalog.lock_directories(work.tx, work.caller, [directory.path for directory in taken])


async def refuse_closed(
    work: Slice, part: Part, may: Callable[[Directory], bool], act: str = "write in"
) -> list[Range]:
    """The ranges in whose directories the caller may do that; each other directory that has files is refused once, and
    what is behind a closed one is refused with that."""
    allowed = []
    for item in part.ranges:
        directory = item.directory
        if may(directory):
            allowed.append(item)
        elif directory.file_count and not item.first and not _is_within(directory.path, work.closed):
            error = await refusal(work.tx, part.mine, directory, act)
            path = str(error.facts["path"])
            work.refuse(path, error.code, error.message)
            if path != directory.path:
                work.closed = path
    return allowed


def _is_within(path: str, top: str) -> bool:
    return bool(top) and f"{path}/".startswith(f"{top}/")


def whole(part: Part) -> int:
    """How many directories are through with this part."""
    unfinished = part.next is not None and bool(part.next.name)
    return max(0, len(part.directories) - unfinished)


def end_of_files(work: Slice, part: Part, *, then_directories: bool) -> Cursor:
    """The cursor after this part; at the end of a tree that of its directories, or of the next tree."""
    if part.next is not None:
        return msgspec.structs.replace(part.next, closed=work.closed)
    size, rate, top = work.cursor.size, work.cursor.rate, work.cursor.top
    if then_directories:
        return Cursor(top=top, phase=Phase.DIRECTORIES, size=rules.FIRST // 4, rate=rate)
    return Cursor(top=top + 1, size=size, rate=rate)
