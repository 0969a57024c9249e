"""The rows of operations, and what their slices read and write: one function per query."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from psycopg.types.json import Jsonb

from spinor.access import Caller
from spinor.catalog.models import Refusal
from spinor.catalog.operations.models import OperationRefusal, OperationState, WaitingBytes
from spinor.catalog.operations.rules import Cursor, Range
from spinor.catalog.store import Directory
from spinor.db import Queries, Query, Tx, array_text, execute, fetch, fetch_one, fetch_rows, fetch_value

Q = Queries("spinor.catalog.operations")
W = Queries("spinor.catalog.operations", "work.sql")


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """An operation's row as `find_operations` tells it."""

    operation_id: int
    kind: str
    state: OperationState
    user: str
    group: str
    arguments: dict[str, Any]
    cursor: Cursor
    total_files: int
    total_bytes: int
    total_directories: int
    done_files: int
    done_bytes: int
    done_directories: int
    refused: int
    slices: int
    error: str
    created_at: datetime
    started_at: datetime | None
    updated_at: datetime
    ended_at: datetime | None


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """An operation that this transaction has locked, to do a slice of it."""

    operation_id: int
    vo_id: int
    vo: str
    user_id: int
    user: str
    group_id: int
    group: str
    scopes: list[str]
    kind: str
    arguments: dict[str, Any]
    cursor: Cursor
    refused: int
    slices: int
    created_at: datetime
    updated_at: datetime
    now: datetime

    @property
    def caller(self) -> Caller:
        """Who asked, with what they might do then."""
        return Caller(
            vo_id=self.vo_id, vo=self.vo, user_id=self.user_id, user=self.user, group_id=self.group_id,
            group=self.group, scopes=frozenset(self.scopes),
        )  # fmt: skip


class Below(Directory, frozen=True, kw_only=True):
    parent_id: int | None


async def insert_operation(tx: Tx, caller: Caller, values: dict[str, Any]) -> int | None:
    """Its id; None when the key was used before."""
    given = {
        "vo_id": caller.vo_id, "user_id": caller.user_id, "group_id": caller.group_id, "scopes": sorted(caller.scopes),
        **values, "arguments": Jsonb(values["arguments"]),
    }  # fmt: skip
    found: int | None = await fetch_value(tx, Q.insert_operation, given)
    return found


async def same_operation(tx: Tx, caller: Caller, key: str) -> tuple[int, str, dict[str, Any]] | None:
    """Id, kind and arguments of the operation that the caller asked for with this key."""
    values = {"vo_id": caller.vo_id, "user_id": caller.user_id, "idempotency_key": key}
    rows: list[tuple[Any, ...]] = await fetch_rows(tx, Q.same_operation, values)
    return (rows[0][0], rows[0][1], rows[0][2]) if rows else None


async def find_operations(
    tx: Tx,
    caller: Caller,
    user_id: int | None,
    *,
    ids: Sequence[int] | None = None,
    states: Sequence[str] | None = None,
    before: int | None = None,
    limit: int = 10_000,
) -> list[Stored]:
    values = {
        "vo_id": caller.vo_id, "user_id": user_id, "ids": None if ids is None else list(ids),
        "states": None if states is None else list(states), "before": before, "limit": limit,
    }  # fmt: skip
    return await fetch(tx, Stored, Q.find_operations, values)


async def refusals_of(tx: Tx, caller: Caller, operation_id: int, *, after: int, limit: int) -> list[OperationRefusal]:
    values = {"vo_id": caller.vo_id, "operation_id": operation_id, "after": after, "limit": limit}
    return await fetch(tx, OperationRefusal, Q.refusals_of, values)


async def change_states(
    tx: Tx, caller: Caller, user_id: int | None, ids: Sequence[int], state: str, states: Iterable[str]
) -> set[int]:
    values = {
        "vo_id": caller.vo_id, "user_id": user_id, "ids": list(ids), "state": state, "states": list(states),
    }  # fmt: skip
    return {row[0] for row in await fetch_rows(tx, Q.change_states, values)}


async def take_operation(tx: Tx, operation_id: int | None) -> Taken | None:
    return await fetch_one(tx, Taken, Q.take_operation, {"operation_id": operation_id})


async def wait_at_most(tx: Tx, ms: int) -> None:
    await execute(tx, Q.wait_at_most, {"ms": str(ms)})


async def advance(tx: Tx, taken: Taken, cursor: Cursor, counts: dict[str, int], *, ended: bool) -> None:
    """`counts` has files, size_bytes, directories and refused."""
    values = {"operation_id": taken.operation_id, "cursor": Jsonb(msgspec.to_builtins(cursor)), "ended": ended}
    await execute(tx, Q.advance, values | counts)


async def insert_refusals(tx: Tx, taken: Taken, refusals: Sequence[Refusal]) -> None:
    values = {
        "operation_id": taken.operation_id, "vo_id": taken.vo_id, "before": taken.refused,
        "lfns": [refusal.id for refusal in refusals], "codes": [refusal.code for refusal in refusals],
        "reasons": [refusal.reason for refusal in refusals],
    }  # fmt: skip
    await execute(tx, Q.insert_refusals, values)


async def fail_operation(tx: Tx, operation_id: int, error: str) -> None:
    await execute(tx, Q.fail_operation, {"operation_id": operation_id, "error": error})


async def note_delay(tx: Tx, operation_id: int, error: str, size: int | None) -> None:
    await execute(tx, Q.note_delay, {"operation_id": operation_id, "error": error, "size": size})


async def where_is(tx: Tx, caller: Caller, directory_id: int) -> str | None:
    path: str | None = await fetch_value(tx, Q.where_is, {"vo_id": caller.vo_id, "directory_id": directory_id})
    return path


async def walk_down(tx: Tx, caller: Caller, top: str, start: str, limit: int) -> list[Directory]:
    values = {"vo_id": caller.vo_id, "top": top, "start": start, "limit": limit}
    return await fetch(tx, Directory, Q.walk_down, values)


async def walk_up(tx: Tx, caller: Caller, top: str, before: str, limit: int) -> list[Below]:
    values = {"vo_id": caller.vo_id, "top": top, "before": before, "limit": limit}
    return await fetch(tx, Below, Q.walk_up, values)


async def nth_name(tx: Tx, caller: Caller, directory_id: int, first: str, n: int) -> str | None:
    values = {"vo_id": caller.vo_id, "directory_id": directory_id, "first": first, "n": n}
    name: str | None = await fetch_value(tx, Q.nth_name, values)
    return name


async def children_of(tx: Tx, caller: Caller, directory_ids: Sequence[int]) -> dict[int, int]:
    """directory_id -> how many subdirectories it has, when it has any."""
    values = {"vo_id": caller.vo_id, "directory_ids": list(directory_ids)}
    return dict(await fetch_rows(tx, Q.children_of, values))


async def directories_by_id(tx: Tx, caller: Caller, directory_ids: Iterable[int]) -> list[Directory]:
    values = {"vo_id": caller.vo_id, "directory_ids": list(directory_ids)}
    return await fetch(tx, Directory, Q.directories_by_id, values)


async def usage_of_tops(tx: Tx, caller: Caller, paths: Sequence[str]) -> tuple[int, int, int]:
    """Files, bytes and directories."""
    ((files, size_bytes, directories),) = await fetch_rows(
        tx, Q.usage_of_tops, {"vo_id": caller.vo_id, "paths": list(paths)}
    )
    return files, int(size_bytes), directories


async def waiting_bytes(tx: Tx, caller: Caller) -> list[WaitingBytes]:
    return await fetch(tx, WaitingBytes, Q.waiting_bytes, {"vo_id": caller.vo_id})


async def own_accesses(tx: Tx, caller: Caller) -> list[int]:
    values = {"vo_id": caller.vo_id, "user_id": caller.user_id}
    return [row[0] for row in await fetch_rows(tx, W.own_accesses, values)]


async def on_ranges(
    tx: Tx, caller: Caller, query: Query, ranges: Sequence[Range], **values: Any
) -> list[tuple[Any, ...]]:
    """Run one of the statements over ranges of names."""
    given = {
        "vo_id": caller.vo_id,
        "directory_ids": array_text([r.directory.directory_id for r in ranges]),
        "firsts": array_text([r.first for r in ranges]),
        "lasts": array_text([r.last for r in ranges]),
        "own_only": [r.own_only for r in ranges],
    }
    return await fetch_rows(tx, query, given | values)


async def on_directories(
    tx: Tx, caller: Caller, query: Query, directories: Iterable[Directory], **values: Any
) -> list[tuple[Any, ...]]:
    """Run one of the statements that read of directories."""
    ids = [directory.directory_id for directory in directories]
    return await fetch_rows(tx, query, {"vo_id": caller.vo_id, "directory_ids": ids, **values})


async def change_directories(
    tx: Tx, caller: Caller, query: Query, directories: Iterable[Directory], **values: Any
) -> None:
    """Run one of the statements that write for directories."""
    ids = [directory.directory_id for directory in directories]
    await execute(tx, query, {"vo_id": caller.vo_id, "directory_ids": ids, **values})
