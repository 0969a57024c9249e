"""The rows of the change feed: one function per query."""

from collections.abc import Sequence
from typing import Any

from spinor.access import Caller
from spinor.catalog.feed.models import ChangedFile
from spinor.catalog.feed.rules import Position
from spinor.db import Queries, Tx, array_text, execute, fetch_rows, fetch_value

Q = Queries("spinor.catalog.feed")


async def now(tx: Tx) -> str:
    """The snapshot of a statement; in a REPEATABLE READ transaction that of all its statements."""
    return str(await fetch_value(tx, Q.now))


async def is_expired(tx: Tx, caller: Caller, seen: str, kept_days: int) -> bool:
    return bool(await fetch_value(tx, Q.expired, {"vo_id": caller.vo_id, "seen": seen, "kept_days": kept_days}))


async def changes(
    tx: Tx, caller: Caller, position: Position, values: dict[str, Any]
) -> tuple[str, list[tuple[Any, ...]]]:
    """What the statement saw, and rows of change_id, at, kind, path, directory_id, files, names, detail, first and last
    file_id."""
    places = {"seen": position.seen, "until": position.until, "after": position.after}
    rows = await fetch_rows(tx, Q.changes, {"vo_id": caller.vo_id, **places, **values})
    return rows[0][0], [row[1:] for row in rows if row[1] is not None]


async def files_of_changes(
    tx: Tx, caller: Caller, ranges: Sequence[tuple[int, int, int]], readable: list[int] | None
) -> list[list[ChangedFile]]:
    """For each (directory_id, first and last file_id) the files that are there."""
    found: list[list[ChangedFile]] = [[] for _ in ranges]
    if ranges:
        ids, first, last = (array_text(column) for column in zip(*ranges, strict=True))
        values = {"directory_ids": ids, "first_file_ids": first, "last_file_ids": last, "readable": readable}
        for n, name, size_bytes, adler32, guid in await fetch_rows(
            tx, Q.files_of_changes, {"vo_id": caller.vo_id, **values}
        ):
            found[n - 1].append(ChangedFile(name=name, size_bytes=size_bytes, adler32=adler32, guid=guid))
    return found


async def prune(tx: Tx, *, kept_days: int, limit: int) -> int:
    """How many rows went."""
    return await execute(tx, Q.prune, {"kept_days": kept_days, "limit": limit})
