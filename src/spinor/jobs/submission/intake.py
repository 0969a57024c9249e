"""Single submissions of many clients at once, stored together.

A small write costs the database more for its statement and its commit than for its rows. While one group is stored the
next one gathers, so that nobody waits for company: a client that is alone is served at once.
"""

import asyncio
import time
from collections.abc import Sequence

import msgspec
import psycopg

from spinor.access import Caller
from spinor.db import Database, Tx
from spinor.errors import SpinorError
from spinor.jobs.rows import Ids, NewArray
from spinor.jobs.submission import store

MOST = 64  # In one statement.
_BELIEVED_S = 5.0
_MOST_BELIEVED = 10_000


class _Asked(msgspec.Struct):
    caller: Caller
    array: NewArray
    answer: "asyncio.Future[Ids | None]"


class Intake:
    """A part of the server's state, with a database of its own: whoever waits here may hold one of the other's."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._waiting: list[_Asked] = []
        self._storing: asyncio.Task[None] | None = None
        self._suited: dict[bytes, float] = {}

    async def insert(self, _: Tx, caller: Caller, arrays: Sequence[NewArray]) -> list[Ids]:
        """What `store.insert_arrays` does, for one array; it is committed when this returns."""
        (array,) = arrays
        ids = await self.store(caller, array)
        return [] if ids is None else [ids]

    async def store(self, caller: Caller, array: NewArray) -> Ids | None:
        """None says that its task queue is missing or its key is taken; otherwise it is committed when this returns."""
        asked = _Asked(caller, array, asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        if self._storing is None:
            self._storing = asyncio.create_task(self._store(), name="intake")
        return await asked.answer

    def is_suited(self, digest: bytes) -> bool:
        """Whether an element could run jobs of this task queue a moment ago, which is fresh enough for a warning."""
        return self._suited.get(digest, 0.0) > time.monotonic()

    def note_suited(self, digest: bytes) -> None:
        if len(self._suited) >= _MOST_BELIEVED:
            self._suited.clear()
        self._suited[digest] = time.monotonic() + _BELIEVED_S

    async def _store(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
                if not await self._stored(group):
                    # One of them spoils it: each on its own, so that only that one fails.
                    for asked in group:
                        await self._stored([asked])
        finally:
            self._storing = None

    async def _stored(self, group: Sequence[_Asked]) -> bool:
        """Whether all of the group have their answer. An error is the answer of whoever is alone."""
        try:
            async with self._db.statements() as tx:
                callers, arrays = [asked.caller for asked in group], [asked.array for asked in group]
                rows = await store.insert_arrays_of(tx, callers, arrays, together=False)
        except (SpinorError, psycopg.Error) as error:
            if len(group) > 1:
                return False
            if not group[0].answer.done():
                group[0].answer.set_exception(error)
            return True
        found = {row.ordinal: row for row in rows}
        for n, asked in enumerate(group, 1):
            if not asked.answer.done():  # A client that went away has cancelled it.
                asked.answer.set_result(found.get(n))
        return True
