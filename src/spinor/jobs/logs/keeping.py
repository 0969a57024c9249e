"""Logs of ended attempts leave the rows that they were written to: compressed, and the large ones as blobs."""

import asyncio

from spinor.blobs import Blobs
from spinor.db import Database
from spinor.jobs.logs import rules, store

_BATCH = 200
_SMALL_BYTES = 256 * 1024  # Logs up to this size are moved many at a time.
_INLINE_BYTES = 16 * 1024  # Compressed, up to this size they stay in the database: a blob each would be no gain.


async def keep_logs(db: Database, blobs: Blobs) -> int:
    """Move the logs of all attempts that have ended; how many. A worker that is killed has moved some, or none."""
    moved = 0
    while True:
        async with db.transaction() as tx:
            found = await store.list_ended_logs(tx, _BATCH)
        small = [each for each in found if each.size_bytes <= _SMALL_BYTES]
        for batch in ([small] if small else []) + [[each] for each in found if each.size_bytes > _SMALL_BYTES]:
            await _move(db, blobs, batch)
        moved += len(found)
        if len(found) < _BATCH:
            return moved


async def _move(db: Database, blobs: Blobs, batch: list[store.EndedLog]) -> None:
    async with db.transaction() as tx:
        parts = await store.read_whole_logs(tx, batch)
    rows: list[tuple[store.EndedLog, rules.Packed, bytes | None, str | None]] = []
    for log in batch:
        whole = await asyncio.to_thread(rules.packed, parts[log.key])
        if len(whole.data) <= _INLINE_BYTES:
            rows.append((log, whole, whole.data, None))
            continue
        name = f"logs/{log.vo_id}/{log.job_id // 1000}/{log.job_id}.{log.attempt}.{log.stream.value}"
        await blobs.place.put_bytes(name, whole.data)
        rows.append((log, whole, None, name))
    async with db.transaction() as tx:
        await store.keep_logs(tx, rows)
