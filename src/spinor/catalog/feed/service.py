"""The verbs of the change feed."""

from typing import Any

import msgspec

from spinor.access import Caller
from spinor.catalog.feed import rules, store
from spinor.catalog.feed.errors import PositionExpired
from spinor.catalog.feed.models import Change, ChangePage, ChangesRequest
from spinor.catalog.feed.rules import Position
from spinor.catalog.rules import checked_path
from spinor.catalog.service.permissions import Sieve, sieve
from spinor.db import Database, Tx

KEPT_DAYS = 90
_PRUNED_AT_ONCE = 10_000
_EXPANDED_FILES = 100_000  # A page ends when its rows have made so many files.

Rows = list[tuple[Any, ...]]


def topic(caller: Caller) -> str:
    """What a change of the VO signals; the statements `record_changes` and `record_files` write the same."""
    return f"changes:{caller.vo_id}"


async def current_position(tx: Tx) -> str:
    """The position after all that this transaction sees; exact for the whole of a REPEATABLE READ transaction."""
    return await store.now(tx)


async def changes(tx: Tx, caller: Caller, request: ChangesRequest) -> ChangePage:
    """The changes after a position, each of them once. A caller sees those of directories that it may reach and list.

    Raises BadPosition, PositionExpired.
    """
    if request.since == "now":
        return ChangePage(rows=[], next=await store.now(tx))
    position = rules.read_position(request.since)
    if position.seen != rules.START.seen and await store.is_expired(tx, caller, position.seen, KEPT_DAYS):
        raise PositionExpired(
            f"What followed this position is no longer kept ({KEPT_DAYS} days), or it is of another database. Take a "
            "dump (`spinor file dump`) and follow the feed from the position it names, or from `start` what is kept.",
            field="since",
        )
    mine = await sieve(tx, caller)
    path = None if request.path is None else checked_path(request.path, caller.vo)
    values = {"path": path, "gates": mine.gates, "readable": mine.readable, "limit": request.limit + 1}
    seen_now, rows = await store.changes(tx, caller, position, values)
    kept = _page(rows, request)
    until = position.until or seen_now
    is_last = len(kept) == len(rows)
    found = [_change(row, Position(position.seen, until, row[0])) for row in kept]
    if request.expand:
        found = await _expanded(tx, caller, mine, kept, found)
    after = Position(until) if is_last else Position(position.seen, until, kept[-1][0])
    return ChangePage(rows=found, next=str(after), more=not is_last or position.until is not None)


def _page(rows: Rows, request: ChangesRequest) -> Rows:
    kept = rows[: request.limit]
    if not request.expand:
        return kept
    files = 0
    for n, row in enumerate(kept):
        files += row[5] if row[8] is not None else 0
        if files > _EXPANDED_FILES:
            return kept[: max(n, 1)]
    return kept


def _change(row: tuple[Any, ...], position: Position) -> Change:
    _, at, kind, path, directory_id, files, names, detail, *_ = row
    return Change(
        position=str(position), at=at, kind=kind, path=path, directory_id=directory_id, files=files, names=names,
        detail=detail,
    )  # fmt: skip


async def _expanded(tx: Tx, caller: Caller, mine: Sieve, rows: Rows, found: list[Change]) -> list[Change]:
    places = [n for n, row in enumerate(rows) if row[8] is not None]
    ranges = [(rows[n][4], rows[n][8], rows[n][9]) for n in places]
    files = await store.files_of_changes(tx, caller, ranges, mine.readable)
    for n, there in zip(places, files, strict=True):
        found[n] = msgspec.structs.replace(found[n], expanded=there)
    return found


async def prune(db: Database) -> int:
    """Forget changes that are older than KEPT_DAYS, in batches; how many went."""
    gone = 0
    while True:
        async with db.transaction() as tx:
            count = await store.prune(tx, kept_days=KEPT_DAYS, limit=_PRUNED_AT_ONCE)
        gone += count
        if count < _PRUNED_AT_ONCE - 1:
            return gone
