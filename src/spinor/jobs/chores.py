"""Background work of jobs."""

from typing import Any

from spinor.chores import Chore, ChoreContext, chore
from spinor.jobs import service

_FULL = 1000


async def _expire_leases(context: ChoreContext, _: dict[str, Any]) -> None:
    while True:
        async with context.db.transaction() as tx:
            released = await service.expire_leases(tx)
        if released:
            context.log.warning("leases expired", extra={"jobs": len(released), "first_job_ids": released[:10]})
        if len(released) < _FULL:
            return


async def _interrupt_suspended(context: ChoreContext, _: dict[str, Any]) -> None:
    while True:
        async with context.db.transaction() as tx:
            interrupted = await service.interrupt_suspended(tx)
        if interrupted:
            context.log.warning("jobs of suspended users stopped", extra={"jobs": len(interrupted)})
        if len(interrupted) < _FULL:
            return


async def _sweep_sandboxes(context: ChoreContext, _: dict[str, Any]) -> None:
    rows, blobs = await service.sweep_sandboxes(context.db, context.settings.blob_dir)
    if rows or blobs:
        context.log.info("unused sandboxes swept", extra={"sandboxes": rows, "blobs": blobs})


CHORES: list[Chore] = [
    chore("jobs.expire-leases", _expire_leases, every_s=5, timeout_s=60, retries=0, concurrency=1),
    chore("jobs.interrupt-suspended", _interrupt_suspended, every_s=5, timeout_s=60, retries=0, concurrency=1),
    chore("jobs.sweep-sandboxes", _sweep_sandboxes, every_s=86_400, timeout_s=3600, retries=1, concurrency=1),
]
