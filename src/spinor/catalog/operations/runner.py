"""The loop of a worker: take an operation, do a slice, commit; any number of workers, and any of them may die."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from spinor.catalog.operations import rules, store
from spinor.catalog.operations.annotating import annotate
from spinor.catalog.operations.changing import change_access
from spinor.catalog.operations.counting import recount
from spinor.catalog.operations.models import (
    Chgrp,
    Chmod,
    Chown,
    RebuildUsage,
    Rehost,
    Remove,
    Request,
    Setfacl,
    SetMetadata,
)
from spinor.catalog.operations.rehosting import rehost
from spinor.catalog.operations.removing import remove
from spinor.catalog.operations.rules import Cursor, Phase
from spinor.catalog.operations.slices import Slice
from spinor.catalog.operations.store import Taken
from spinor.catalog.service.removal import REMOVE_BYTES
from spinor.chores import enqueue
from spinor.db import Database, StatementTooLong
from spinor.errors import SpinorError, Unavailable

_LOCK_WAIT_MS = 2000
_PAUSE_S = 0.05
_DELAYED = "Waits for others who write there; it goes on by itself."
_log = logging.getLogger("spinor.operations")

_WORK: dict[type[Any], Callable[[Slice, Any, str, int], Awaitable[Cursor]]] = {
    Remove: remove,
    SetMetadata: annotate,
    Rehost: rehost,
    RebuildUsage: recount,
    Chmod: change_access,
    Chown: change_access,
    Chgrp: change_access,
    Setfacl: change_access,
}


class Stored(msgspec.Struct, frozen=True):
    """What was asked for, as the row keeps it: the directories that the paths were then are kept by their ids."""

    request: Request
    directory_ids: list[int]


def read_arguments(kind: str, arguments: dict[str, Any]) -> Stored:
    given = dict(arguments)
    ids = msgspec.convert(given.pop("directory_ids"), list[int])
    return Stored(msgspec.convert({"kind": kind, **given}, Request), ids)


async def run_open(db: Database, *, until_s: float) -> bool:
    """Work on whatever operations there are, until there are none or the time is over; whether some may be left."""
    end = time.monotonic() + until_s
    while time.monotonic() < end:
        took_s = await run_slice(db)
        if took_s is None:
            return False
        await asyncio.sleep(took_s * rules.BREATH)
    return True


async def run_at_once(db: Database, operation_id: int, *, until_s: float) -> None:
    """Begin an operation where it was asked for: small ones are done before the answer leaves."""
    end = time.monotonic() + until_s
    while time.monotonic() < end and await run_slice(db, operation_id) is not None:
        pass


async def run_slice(db: Database, operation_id: int | None = None) -> float | None:
    """Do one slice of one operation; the seconds it took, or None when there is nothing that others have not taken.

    One transaction. What can be better later leaves the operation as it was; what cannot ends it as failed.
    """
    taken: Taken | None = None
    started = time.monotonic()
    try:
        async with db.transaction() as tx:
            taken = await store.take_operation(tx, operation_id)
            if taken is None:
                return None
            await store.wait_at_most(tx, _LOCK_WAIT_MS)
            await _work(Slice(tx, taken, read_arguments(taken.kind, taken.arguments).request), started)
    except Unavailable as error:
        if taken is None:
            raise
        size = max(rules.LEAST, taken.cursor.size // 2) if isinstance(error, StatementTooLong) else None
        _log.warning("operation-delayed", extra={"operation_id": taken.operation_id, "error": error.message})
        async with db.transaction() as tx:
            await store.note_delay(tx, taken.operation_id, _DELAYED, size)
        await asyncio.sleep(_PAUSE_S)
    except Exception as error:
        if taken is None:
            raise
        reason = error.message if isinstance(error, SpinorError) else f"{type(error).__name__}: {error}"
        _log.exception("operation-failed", extra={"operation_id": taken.operation_id})
        async with db.transaction() as tx:
            await store.fail_operation(tx, taken.operation_id, reason)
    return time.monotonic() - started


async def _work(work: Slice, started: float) -> None:
    taken = work.taken
    asked = read_arguments(taken.kind, taken.arguments)
    top, alone = taken.cursor.top, taken.cursor.phase is Phase.DIRECTORIES
    cursor = await _WORK[type(asked.request)](work, asked.request, asked.request.paths[top], asked.directory_ids[top])
    ended = cursor.top >= len(asked.directory_ids)
    if ended and taken.kind == "remove" and not work.dry_run:
        await enqueue(work.tx, REMOVE_BYTES, dedupe_key="due")
    cursor = _measured(work, cursor, time.monotonic() - started, alone=alone)
    if work.refusals:
        await store.insert_refusals(work.tx, taken, work.refusals)
    counts = {
        "files": work.files, "size_bytes": work.size_bytes, "directories": work.directories, "refused": work.refused,
    }  # fmt: skip
    await store.advance(work.tx, taken, cursor, counts, ended=ended)


def _measured(work: Slice, cursor: Cursor, took_s: float, *, alone: bool) -> Cursor:
    passed_s = (work.taken.now - work.taken.updated_at).total_seconds() + took_s if work.taken.slices else took_s
    count = work.files if cursor.phase is Phase.FILES else work.directories
    rate = rules.next_rate(work.cursor.rate, count, passed_s)
    if cursor.phase is not work.cursor.phase or cursor.top != work.cursor.top:
        return msgspec.structs.replace(cursor, rate=rate)
    target_s = rules.TARGET_ALONE_S if alone else rules.TARGET_S
    return msgspec.structs.replace(cursor, size=rules.next_size(cursor.size, took_s, target_s), rate=rate)
