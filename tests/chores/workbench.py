"""Workers inside the test's process, and a table in which chores note that they ran."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import LiteralString

from spinor.chores import Chore, ChoreContext, run_worker
from spinor.db import Database, fetch_value
from spinor.settings import Settings


def make_settings(url: str, data: Path) -> Settings:
    environment = {"DATABASE_URL": url, "DATA_DIR": str(data), "URL": "https://spinor.example.org"}
    return Settings.from_environment({f"SPINOR_{name}": value for name, value in environment.items()})


class Bench:
    """One database, and workers on it inside this process."""

    def __init__(self, db: Database, settings: Settings) -> None:
        self.db = db
        self.context = ChoreContext(db=db, settings=settings, log=logging.getLogger("spinor.test.chores"))

    @contextlib.asynccontextmanager
    async def worker(self, *chores: Chore, drain_s: float = 5) -> AsyncIterator[asyncio.Event]:
        """A worker that runs while the block does; it is drained at the end."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(run_worker(self.context, chores, stop=stop, drain_s=drain_s))
            try:
                yield stop
            finally:
                stop.set()

    async def note(self, what: str) -> None:
        async with self.db.transaction() as tx:
            await tx.execute("INSERT INTO ran (what) VALUES (%s)", (what,))

    async def ran(self, what: str = "%") -> int:
        async with self.db.transaction() as tx:
            return int(await fetch_value(tx, "SELECT count(*) FROM ran WHERE what LIKE %(what)s", {"what": what}))

    async def queued(self) -> int:
        query: LiteralString = "SELECT count(*) FROM chores.queue WHERE entrypoint <> 'chores.trim_log'"
        async with self.db.transaction() as tx:
            return int(await fetch_value(tx, query))

    async def until_ran(self, what: str, times: int = 1, limit_s: float = 10) -> float:
        """Wait until a chore noted `what` so often; how long that took."""
        start = time.monotonic()
        while await self.ran(what) < times:
            assert time.monotonic() - start < limit_s, f"{what} ran {await self.ran(what)} times in {limit_s} s"
            await asyncio.sleep(0.01)
        return time.monotonic() - start


Open = Callable[[], AbstractAsyncContextManager[Bench]]
