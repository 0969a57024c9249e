"""`spinor worker`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from spinor.chores import Chore
    from spinor.settings import Settings

SYSTEMS = ("identity", "resources", "configuration", "catalog", "storage", "jobs", "pilots")
NICENESS = 10  # Of the worker's sessions: people come first, where processors are short.
DRAIN_S = 20.0  # So long may chores still run after SIGTERM; the rest go back to the queue.


@click.command()
def worker() -> None:
    """Run the background work of all systems, until SIGTERM. Any number of workers may run at once."""
    import uvloop

    from spinor import logs
    from spinor.blobs import Blobs
    from spinor.settings import Settings

    settings = Settings.from_environment()
    logs.configure(settings.log_level)
    Blobs.of(settings)  # What is wrong with it is one clear sentence here.
    uvloop.run(_work(settings))


async def _work(settings: Settings) -> None:
    import asyncio
    import logging
    import signal

    from spinor.app import CONSTRAINT_ERRORS
    from spinor.chores import ChoreContext, run_worker
    from spinor.db import Database

    log = logging.getLogger("spinor.worker")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with Database.open(
        settings.database_url, size=settings.database_pool, errors=CONSTRAINT_ERRORS, niceness=NICENESS
    ) as db:
        chores = all_chores()
        log.info("worker started", extra={"chores": [chore.name for chore in chores]})
        context = ChoreContext(db=db, settings=settings, log=logging.getLogger("spinor.chores"))
        await run_worker(context, chores, stop=stop, drain_s=DRAIN_S)
    log.info("worker stopped")


def all_chores() -> list[Chore]:
    """The chores of every system that has any."""
    import importlib
    import importlib.util

    modules = [f"spinor.{system}.chores" for system in SYSTEMS]
    found = [importlib.import_module(name) for name in modules if importlib.util.find_spec(name)]
    return [chore for module in found for chore in module.CHORES]
