"""Wake-up calls between processes: PostgreSQL's LISTEN/NOTIFY as a hint, never as the truth.

A waiter looks at the tables first, waits for its topic or a timeout, and looks again; a lost signal costs a delay only.
"""

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import AsyncIterator

import psycopg

from spinor.db import Tx, execute

_log = logging.getLogger(__name__)


async def notify(tx: Tx, *topics: str) -> None:
    """Wake whoever waits for these topics (`pilot:17`, `job:4`), when and only when `tx` commits."""
    await execute(
        tx, "SELECT pg_notify('spinor', topic) FROM unnest(%(topics)s::text[]) AS topic", {"topics": list(topics)}
    )


class Signals:
    """One listening connection of a server process, and the waiters behind it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._waiters: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._closing = asyncio.Event()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator["Signals"]:
        """Listen while the block runs, across losses of the connection."""
        listener = asyncio.create_task(self._listen(), name="signals")
        try:
            yield self
        finally:
            self.close()
            listener.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listener

    def close(self) -> None:
        """Let every waiter return now: the process is about to stop."""
        self._closing.set()
        for waiters in self._waiters.values():
            for event in waiters:
                event.set()

    @property
    def closing(self) -> bool:
        return self._closing.is_set()

    @contextlib.asynccontextmanager
    async def subscribed(self, *topics: str, event: asyncio.Event | None = None) -> AsyncIterator[asyncio.Event]:
        """An event that is set when one of the topics is signalled. Subscribe first, then look, then wait.

        Given the event of another subscription, that one is set by these topics as well.
        """
        event = event or asyncio.Event()
        if self._closing.is_set():
            event.set()
        for topic in topics:
            self._waiters[topic].add(event)
        try:
            yield event
        finally:
            for topic in topics:
                self._waiters[topic].discard(event)
                if not self._waiters[topic]:
                    del self._waiters[topic]

    async def wait(self, event: asyncio.Event, timeout_s: float) -> bool:
        """Whether the event came within `timeout_s`; clears it for the next round."""
        try:
            await asyncio.wait_for(event.wait(), timeout_s)
        except TimeoutError:
            return False
        if not self._closing.is_set():
            event.clear()
        return True

    async def _listen(self) -> None:
        while not self._closing.is_set():
            try:
                async with await psycopg.AsyncConnection.connect(self._url, autocommit=True) as conn:
                    await conn.execute("LISTEN spinor")
                    async for notification in conn.notifies():
                        for event in self._waiters.get(notification.payload, ()):
                            event.set()
            except psycopg.Error as error:
                _log.warning("listening connection lost, trying again", extra={"error": str(error)})
                await asyncio.sleep(1)
