"""Keeps the view fresh while pilots ask, on a connection of its own: nobody who asks for jobs waits for a look."""

import asyncio
import contextlib
import logging
import time

from spinor.db import Database
from spinor.jobs.matching.view import View

LOOKING_NICENESS = 5  # Of its session: whoever waits for jobs goes before it.
_ASKED_S = 3.0  # So long after the last question it goes on.
_OVERDUE_S = 2.0  # So late may its looks be before those who ask look themselves.
_APART_S = 0.02

_log = logging.getLogger(__name__)


class Watch:
    """Looks when something is due, and at once when somebody wants to know what came."""

    def __init__(self, db: Database, view: View) -> None:
        self._db, self._view = db, view
        self._asked_at = float("-inf")
        self._wanted = asyncio.Event()
        self._next: asyncio.Future[None] | None = None  # Done when the look that begins next has ended.
        self._task: asyncio.Task[None] | None = None

    def asked(self) -> None:
        """Somebody asks for jobs: keep the view fresh for a while."""
        self._asked_at = time.monotonic()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._keep(), name="watch")

    async def news(self) -> None:
        """Come back when there was a look that began after this question."""
        self.asked()
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        self._view.forget()
        self._wanted.set()
        await asyncio.shield(self._next)

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _keep(self) -> None:
        while time.monotonic() < self._asked_at + _ASKED_S:
            self._wanted.clear()
            turn, self._next = self._next, None
            try:
                async with self._db.statements() as reads:
                    await self._view.read(reads)
                self._view.watched_until = time.monotonic() + _OVERDUE_S
            except Exception as error:  # noqa: BLE001  Whoever asks will look, and hear of it.
                _log.warning("the matcher cannot look", exc_info=error)
                self._view.watched_until = float("-inf")
                await asyncio.sleep(1)
            finally:
                if turn is not None and not turn.done():
                    turn.set_result(None)
            await asyncio.sleep(_APART_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._view.due_in_s())):
                    await self._wanted.wait()
        self._view.watched_until = float("-inf")
