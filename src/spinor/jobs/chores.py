"""Background work of jobs."""

from collections.abc import Awaitable, Callable
from typing import Any

from spinor.blobs import Blobs
from spinor.chores import Chore, ChoreContext, chore
from spinor.db import Tx
from spinor.jobs import service
from spinor.jobs.control import gates, notifications
from spinor.jobs.logs.keeping import keep_logs
from spinor.jobs.matching import store as matching

_FULL = 1000


async def _expire_leases(context: ChoreContext, _: dict[str, Any]) -> None:
    while True:
        async with context.db.transaction() as tx:
            if not await service.service_answers(tx):
                context.log.warning("no server answers pilots, so no lease ends")
                return
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


def _until_empty(verb: Callable[[Tx], Awaitable[int]]) -> Callable[[ChoreContext, dict[str, Any]], Awaitable[None]]:
    async def run(context: ChoreContext, _: dict[str, Any]) -> None:
        while True:
            async with context.db.transaction() as tx:
                changed = await verb(tx)
            if changed < _FULL:
                return

    return run


async def _open_gates(context: ChoreContext, _: dict[str, Any]) -> None:
    async with context.db.transaction() as tx:
        await gates.open_gates(tx)


async def _fold_tally(context: ChoreContext, _: dict[str, Any]) -> None:
    async with context.db.transaction() as tx:
        await matching.fold_tally(tx)


async def _charge_shares(context: ChoreContext, _: dict[str, Any]) -> None:
    async with context.db.transaction() as tx:
        await service.charge_shares(tx)


async def _drop_empty_tallies(context: ChoreContext, _: dict[str, Any]) -> None:
    async with context.db.transaction() as tx:
        await matching.drop_empty_tallies(tx)


async def _notify(context: ChoreContext, _: dict[str, Any]) -> None:
    async with context.db.transaction() as tx:
        await notifications.find_due(tx)
    await notifications.send_due(context.db, context.settings)


async def _sweep_sandboxes(context: ChoreContext, _: dict[str, Any]) -> None:
    rows, blobs = await service.sweep_sandboxes(context.db, Blobs.of(context.settings))
    if rows or blobs:
        context.log.info("unused sandboxes swept", extra={"sandboxes": rows, "blobs": blobs})


async def _keep_logs(context: ChoreContext, _: dict[str, Any]) -> None:
    await keep_logs(context.db, Blobs.of(context.settings))


async def _forget_usage(context: ChoreContext, _: dict[str, Any]) -> None:
    await service.forget_usage(context.db)


CHORES: list[Chore] = [
    chore("jobs.expire-leases", _expire_leases, every_s=5, timeout_s=60, retries=0, concurrency=1),
    chore("jobs.interrupt-suspended", _interrupt_suspended, every_s=5, timeout_s=60, retries=0, concurrency=1),
    chore("jobs.fold-tally", _fold_tally, every_s=1, timeout_s=60, retries=0, concurrency=1),
    chore("jobs.charge-shares", _charge_shares, every_s=10, timeout_s=60, retries=0, concurrency=1),
    chore("jobs.drop-empty-tallies", _drop_empty_tallies, every_s=3600, timeout_s=60, retries=0, concurrency=1),
    chore("jobs.end-pauses", _until_empty(gates.end_pauses), every_s=1, timeout_s=60, retries=0, concurrency=1),
    chore("jobs.open-gates", _open_gates, every_s=1, timeout_s=120, retries=0, concurrency=1),
    chore("jobs.fail-late", _until_empty(gates.fail_late), every_s=10, timeout_s=60, retries=0, concurrency=1),
    chore("jobs.notify", _notify, every_s=5, timeout_s=300, retries=0, concurrency=1),
    chore("jobs.sweep-sandboxes", _sweep_sandboxes, every_s=21_600, timeout_s=3600, retries=1, concurrency=1),
    chore("jobs.keep-logs", _keep_logs, every_s=60, timeout_s=3600, retries=0, concurrency=1),
    chore("jobs.forget-usage", _forget_usage, every_s=86_400, timeout_s=3600, retries=1, concurrency=1),
]
