"""Prove the invariants slice by slice, and count again what was counted wrong."""

from collections.abc import Sequence
from typing import Any

from spinor.access import Caller
from spinor.catalog import rules
from spinor.catalog import store as catalog_store
from spinor.catalog.access import store as access_store
from spinor.catalog.invariants import store
from spinor.catalog.invariants.models import (
    InvariantsRequest,
    InvariantsSlice,
    Recount,
    Recountable,
    RecountRequest,
    Violation,
)
from spinor.catalog.invariants.store import LAST_ID, PARTED, RANGED, SLICED, WHOLE, R
from spinor.catalog.service.directories import make_gates_anew, required_directory
from spinor.db import Tx
from spinor.errors import BadInput

SLICE_FILES = 500_000
SLICE_DIRECTORIES = 5_000
PART_FILES = 8_000_000  # What is looked for twice at once; the table is read once for each part.
MOST_ROWS = 10_000  # Of one invariant in one slice.


class BadSlice(BadInput):
    """`after` is what the slice before gave as `next`."""

    code = "bad-slice"


async def check_slice(tx: Tx, caller: Caller, request: InvariantsRequest) -> InvariantsSlice:
    """Prove all invariants of a part of the catalog. Below a path, only those that concern its directories and files.

    The slices of a whole VO end with what concerns whole tables. Raises UnknownDirectory.
    """
    path = None if request.path is None else rules.checked_path(request.path, caller.vo)
    if path is not None and request.after is None:
        await required_directory(tx, caller, path)
    total = (await store.extent(tx, caller, path))[1] if request.after is None else None
    stage, first, second = _cursor(request.after)
    await store.patiently(tx)
    if stage == "d":
        return await _check_directories(tx, caller, path, first, total)
    if stage == "p":
        return await _check_part(tx, caller, first, second)
    return await _check_whole(tx, caller, first)


def _cursor(after: str | None) -> tuple[str, int, int]:
    stage, *numbers = (after or "d.0").split(".")
    if stage not in ("d", "p", "w") or len(numbers) > 2 or not all(n.isdecimal() and len(n) < 20 for n in numbers):
        raise BadSlice(after=after)
    first, second = (int(n) for n in [*numbers, "0", "0"][:2])
    if first > LAST_ID or (stage == "p" and not first < second * len(PARTED) <= 1 << 20):
        raise BadSlice(after=after)
    return stage, first, second


async def _check_directories(
    tx: Tx, caller: Caller, path: str | None, after: int, total: int | None
) -> InvariantsSlice:
    rows = await store.next_slice(tx, caller, path, after, SLICE_DIRECTORIES)
    ids: list[int] = []
    files = 0
    for directory_id, count in rows:
        ids.append(directory_id)
        files += max(count, 0)
        if files >= SLICE_FILES:
            break
    at_end = len(ids) == len(rows) < SLICE_DIRECTORIES
    violations, more = await _run(tx, SLICED, {"vo_id": caller.vo_id, "directory_ids": ids})
    if path is None:
        between = {"vo_id": caller.vo_id, "low": after or -LAST_ID, "high": LAST_ID if at_end else ids[-1]}
        more_violations, more_more = await _run(tx, RANGED, between)
        violations, more = violations + more_violations, more + more_more
    following = f"d.{ids[-1]}" if not at_end else None
    if at_end and path is None:
        parts = 1
        while parts * PART_FILES < (await store.extent(tx, caller, None))[1]:
            parts *= 2
        following = f"p.0.{parts}"
    return InvariantsSlice(
        violations=violations, more=more, directories=len(ids), files=files, total_files=total, next=following
    )


async def _check_part(tx: Tx, caller: Caller, step: int, parts: int) -> InvariantsSlice:
    """One statement over one part: a client does not wait for an answer for ever."""
    part, n = divmod(step, len(PARTED))
    await store.without_indexes(tx)
    violations, more = await _run(tx, PARTED[n : n + 1], {"vo_id": caller.vo_id, "part": part, "parts": parts})
    following = f"p.{step + 1}.{parts}" if step + 1 < parts * len(PARTED) else "w.0"
    return InvariantsSlice(violations=violations, more=more, directories=0, files=0, total_files=None, next=following)


async def _check_whole(tx: Tx, caller: Caller, step: int) -> InvariantsSlice:
    violations, more = await _run(tx, WHOLE[step : step + 1], {"vo_id": caller.vo_id})
    following = f"w.{step + 1}" if step + 1 < len(WHOLE) else None
    return InvariantsSlice(violations=violations, more=more, directories=0, files=0, total_files=None, next=following)


async def _run(tx: Tx, names: Sequence[str], parameters: dict[str, Any]) -> tuple[list[Violation], list[str]]:
    violations: list[Violation] = []
    more = []
    for name in names:
        found = await store.violations(tx, name, parameters, MOST_ROWS + 1)
        if len(found) > MOST_ROWS:
            more.append(name)
        violations += found[:MOST_ROWS]
    return violations, more


async def all_violations(tx: Tx, limit: int = 20) -> list[Violation]:
    """The first rows of each invariant that are broken in any VO, at once: for tests."""
    rows = await store.all_directory_ids(tx)
    parameters = {"vo_id": None, "directory_ids": rows, "low": -LAST_ID, "high": LAST_ID, "part": 0, "parts": 1}
    return [
        violation
        for name in (*SLICED, *RANGED, *PARTED, *WHOLE)
        for violation in await store.violations(tx, name, parameters, limit)
    ]


async def recount(tx: Tx, caller: Caller, request: RecountRequest) -> list[Recount]:
    """Make right what follows from other rows, under the locks of its directories; what was right stays.

    A gate or metadata that are wrong are made anew in all of the tree below.
    """
    match request.invariant:
        case Recountable.COUNTERS | Recountable.USAGE:
            await catalog_store.hold_tree(tx, caller)
            held = await store.lock_by_id(tx, caller, request.directory_ids)
            query = R.recount_directories if request.invariant is Recountable.COUNTERS else R.recount_usage
            return await store.recount(tx, caller, query, list(held))
        case Recountable.METADATA:
            return await _inherit_again(tx, caller, await _tops(tx, caller, request.directory_ids))
    return await _make_gates_anew(tx, caller, await _tops(tx, caller, request.directory_ids))


async def _tops(tx: Tx, caller: Caller, directory_ids: Sequence[int]) -> list[str]:
    """The paths of the directories of which none lies below another one, with all trees held alone."""
    await catalog_store.hold_tree_alone(tx, caller)
    tops: list[str] = []
    for path in sorted((await store.lock_by_id(tx, caller, directory_ids)).values()):
        if not any(path.startswith(f"{top}/") for top in tops):
            tops.append(path)
    for top in tops:
        await catalog_store.lock_tree(tx, caller, top)
    return tops


async def _inherit_again(tx: Tx, caller: Caller, tops: Sequence[str]) -> list[Recount]:
    done: list[tuple[int, Recount]] = []
    for top in tops:
        done += await store.inherit_again(tx, caller, top)
    changed = [(directory_id, 0, None, None) for directory_id, _ in done]
    await catalog_store.record_changes(tx, caller, "metadata-changed", changed, by="fsck")
    return [each for _, each in done]


async def _make_gates_anew(tx: Tx, caller: Caller, tops: Sequence[str]) -> list[Recount]:
    done = []
    for top in tops:
        before = {row[0]: row[3] for row in await access_store.accesses_below(tx, caller, top)}
        await make_gates_anew(tx, caller, top)
        after = {row[0]: row[3] for row in await access_store.accesses_below(tx, caller, top)}
        changed = [directory_id for directory_id in after if after[directory_id] != before.get(directory_id)]
        paths = await store.lock_by_id(tx, caller, changed)
        rows = [(directory_id, 0, None, None) for directory_id in changed]
        await catalog_store.record_changes(tx, caller, "directory-changed", rows, by="fsck")
        done += [
            Recount(path=paths[one], before={"gate_id": before[one]}, after={"gate_id": after[one]}) for one in changed
        ]
    return done
