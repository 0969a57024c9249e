"""The statements of invariants, and those that count again."""

from collections.abc import Sequence
from typing import Any

from psycopg import sql

from spinor.access import Caller
from spinor.catalog.invariants.models import Recount, Violation
from spinor.db import Queries, Query, Tx, execute, fetch, fetch_rows

Q = Queries("spinor.catalog.invariants")
R = Queries("spinor.catalog.invariants", "repairs.sql")

# Of slices of directories; of what lies between the ids of two slices; of whole tables, in parts; of the rest, at once.
SLICED = tuple(name for name, text in Q if "%(directory_ids)s" in text)
RANGED = tuple(name for name, text in Q if "%(low)s" in text)
PARTED = tuple(name for name, text in Q if "%(part)s" in text)
WHOLE = tuple(name for name, _ in Q if name not in {*SLICED, *RANGED, *PARTED})
LAST_ID = 2**63 - 1


async def violations(tx: Tx, name: str, parameters: dict[str, Any], limit: int) -> list[Violation]:
    """The first rows that break an invariant."""
    statement = sql.SQL("SELECT * FROM ({}\n) AS found LIMIT {}").format(sql.SQL(getattr(Q, name)), sql.Literal(limit))
    rows = await fetch_rows(tx, statement, parameters)
    return [Violation(invariant=name, directory_id=row[0], path=row[1], sentence=row[2]) for row in rows]


async def without_indexes(tx: Tx) -> None:
    """Until the end of the transaction, read the tables themselves, as often and as long as that takes."""
    for setting in ("enable_indexscan", "enable_indexonlyscan", "enable_bitmapscan"):
        await execute(tx, sql.SQL("SET LOCAL {} = off").format(sql.Identifier(setting)))
    await patiently(tx)


async def patiently(tx: Tx) -> None:
    await execute(tx, "SET LOCAL statement_timeout = '15min'")


async def next_slice(tx: Tx, caller: Caller, path: str | None, after: int, limit: int) -> list[tuple[int, int]]:
    """(directory_id, files)."""
    values = {"vo_id": caller.vo_id, "path": path, "after": after, "limit": limit}
    rows = await fetch_rows(tx, R.next_slice if path is None else R.next_slice_within, values)
    return [(directory_id, files) for directory_id, files in rows]


async def all_directory_ids(tx: Tx) -> list[int]:
    """Of every VO."""
    rows = await fetch_rows(tx, R.next_slice, {"vo_id": None, "after": 0, "limit": 2**31 - 1})
    return [directory_id for directory_id, _ in rows]


async def extent(tx: Tx, caller: Caller, path: str | None) -> tuple[int, int]:
    """Directories and files."""
    ((directories, files),) = await fetch_rows(tx, R.extent, {"vo_id": caller.vo_id, "path": path})
    return directories, files


async def lock_by_id(tx: Tx, caller: Caller, directory_ids: Sequence[int]) -> dict[int, str]:
    """directory_id -> path."""
    values = {"vo_id": caller.vo_id, "directory_ids": list(directory_ids)}
    return dict(await fetch_rows(tx, R.lock_by_id, values))


async def recount(tx: Tx, caller: Caller, query: Query, directory_ids: Sequence[int]) -> list[Recount]:
    return await fetch(tx, Recount, query, {"vo_id": caller.vo_id, "directory_ids": list(directory_ids)})


async def inherit_again(tx: Tx, caller: Caller, path: str) -> list[tuple[int, Recount]]:
    """With the directory_id of each."""
    rows = await fetch_rows(tx, R.inherit_again, {"vo_id": caller.vo_id, "path": path})
    return [(row[0], Recount(path=row[1], before=row[2], after=row[3])) for row in rows]
