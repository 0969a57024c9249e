"""A worker of its own, to be killed by a test: `python worker_process.py DATABASE_URL DIRECTORY`."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

from spinor.chores import ChoreContext, chore, run_worker
from spinor.db import Database
from spinor.settings import Settings


async def slow(context: ChoreContext, payload: dict[str, Any]) -> None:
    async with context.db.transaction() as tx:
        await tx.execute("INSERT INTO ran (what) VALUES (%s)", (f"started by {os.getpid()}",))
    await asyncio.sleep(payload["seconds"])
    async with context.db.transaction() as tx:
        await tx.execute("INSERT INTO ran (what) VALUES ('ended')")


async def tick(context: ChoreContext, payload: dict[str, Any]) -> None:
    async with context.db.transaction() as tx:
        await tx.execute("INSERT INTO ran (what) VALUES (%s)", (f"turn of {os.getpid()}",))


async def work(url: str, data: Path) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    environment = {"DATABASE_URL": url, "DATA_DIR": str(data), "URL": "https://spinor.example.org"}
    settings = Settings.from_environment({f"SPINOR_{name}": value for name, value in environment.items()})
    async with contextlib.AsyncExitStack() as stack:
        db = await stack.enter_async_context(Database.open(url, size=4))
        context = ChoreContext(db=db, settings=settings, log=logging.getLogger("spinor.test.chores"))
        kinds = [
            # One at a time, so that the dead worker's place must become free as well.
            chore("slow", slow, timeout_s=120, retries=0, concurrency=1),
            chore("tick", tick, every_s=1, timeout_s=10, retries=0, concurrency=1),
        ]
        await run_worker(context, kinds, stop=stop)


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], Path(sys.argv[2])))
