"""Leases after the service was away. A pilot cannot renew while nobody answers it, and must not lose its jobs for that.

Each server marks every few seconds that it answers. Leases end only while such marks come; the first server that finds
the last mark to be old gives every pilot a whole lease again, before it marks.
"""

import asyncio
import logging

import psycopg

from spinor.db import Database, Tx
from spinor.errors import SpinorError
from spinor.jobs.attempts import store

MARK_S = 5.0
SILENT_S = 20.0  # Without a mark for so long, the service was away.

_log = logging.getLogger(__name__)


async def mark(tx: Tx) -> int:
    """Note that pilots are answered; how many leases had to be extended first."""
    extended = 0
    if await store.seconds_since_mark(tx) > SILENT_S:
        extended = await store.extend_leases(tx)
    await store.set_mark(tx)
    return extended


async def service_answers(tx: Tx) -> bool:
    """Whether pilots could have renewed just now."""
    return await store.seconds_since_mark(tx, lock=False) <= SILENT_S


async def keep_marking(db: Database) -> None:
    """Mark until cancelled. Whatever the database refuses is tried again: that is the case this is for."""
    while True:
        try:
            async with db.transaction() as tx:
                extended = await mark(tx)
            if extended:
                _log.warning("leases-extended", extra={"leases": extended})
        except SpinorError as error:
            _log.warning("mark-not-written", extra={"error": error.code})
        except psycopg.Error as error:  # Also what is no word for a caller: without marks, no lease would end again.
            _log.warning("mark-not-written", extra={"error": error.sqlstate or type(error).__name__})
        await asyncio.sleep(MARK_S)
