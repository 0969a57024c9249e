"""The library's connection to PostgreSQL, with a second connection for listening."""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator
from typing import Any, Self

import psycopg
from pgqueuer.adapters.drivers.psycopg import PsycopgDriver
from pgqueuer.ports.driver import NotifyCallback

from spinor.db import Tx


class ListeningDriver(PsycopgDriver):
    """Statements on one connection, notifications on another.

    A psycopg connection that waits for notifications makes its statements wait as well, up to a second each: with the
    library's own driver a kind limited to four chores at a time finished two chores a second (ADR 0004).
    """

    def __init__(self, statements: "psycopg.AsyncConnection[Any]", notices: "psycopg.AsyncConnection[Any]") -> None:
        super().__init__(statements)
        self.connections = (statements, notices)
        self._listener = PsycopgDriver(notices)
        self._listening: list[tuple[str, NotifyCallback]] = []

    async def until_lost(self, limit_s: float = math.inf) -> None:
        """Wait until one of the connections is lost, of which psycopg tells only who asks, or until the limit."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline and not any(connection.closed for connection in self.connections):  # noqa: ASYNC110
            await asyncio.sleep(0.2)

    async def add_listener(self, channel: str, callback: NotifyCallback) -> None:
        await self._listener.add_listener(channel, callback)
        self._listening.append((channel, callback))

    async def __aenter__(self) -> Self:
        await self._listener.__aenter__()
        return await super().__aenter__()

    async def __aexit__(self, *error: object) -> None:
        # Taking the callbacks back ends the wait for notices, which would else go on for up to a second.
        with contextlib.suppress(psycopg.Error):
            while self._listening:
                await self._listener.remove_listener(*self._listening.pop())
        await self._listener.__aexit__(*error)
        await super().__aexit__(*error)


@contextlib.asynccontextmanager
async def open_session(url: str, name: str) -> AsyncIterator[Tx]:
    """A connection outside the pool, that notices within some 20 s when the other side is gone."""
    async with await Tx.connect(
        url,
        autocommit=True,
        application_name=name,
        connect_timeout=10,
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=2,
        tcp_user_timeout=20_000,
    ) as session:
        yield session


@contextlib.asynccontextmanager
async def connect(url: str) -> AsyncIterator[ListeningDriver]:
    """Two connections of the worker's own, so that chores that use up the pool cannot silence its heartbeats."""
    async with open_session(url, "spinor chores") as statements, open_session(url, "spinor chores") as notices:
        yield ListeningDriver(statements, notices)
