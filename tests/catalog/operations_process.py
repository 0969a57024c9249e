"""A worker of its own, to be killed by a test: `python operations_process.py DATABASE_URL`."""

import asyncio
import sys

from spinor.app import CONSTRAINT_ERRORS
from spinor.catalog.operations.runner import run_open
from spinor.db import Database


async def work(url: str) -> None:
    async with Database.open(url, size=2, errors=CONSTRAINT_ERRORS) as db:
        while True:
            await run_open(db, until_s=60)
            await asyncio.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1]))
