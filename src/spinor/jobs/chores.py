"""Background work of jobs."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from spinor.blobs import Blobs
from spinor.chores import Chore, ChoreContext, chore
from spinor.db import Tx
from spinor.jobs import service
from spinor.jobs.control import gates, notifications
from spinor.jobs.logs.keeping import keep_logs
from spinor.jobs.matching import store as matching

_FULL = 1000


Run = Callable[[ChoreContext, dict[str, Any]], Awaitable[None]]


def _once(verb: Callable[[Tx], Awaitable[Any]]) -> Run:
    async def run(context: ChoreContext, _: dict[str, Any]) -> None:
        async with context.db.transaction() as tx:
            await verb(tx)

    return run


def _until_empty(verb: Callable[[Tx], Awaitable[Sequence[int] | int]], warning: str = "") -> Run:
    """Batch after batch. With a warning, the log tells of jobs that it happened to."""

    async def run(context: ChoreContext, _: dict[str, Any]) -> None:
        while True:
            async with context.db.transaction() as tx:
                changed = await verb(tx)
            count, ids = (changed, []) if isinstance(changed, int) else (len(changed), changed[:10])
            if count and warning:
                context.log.warning(warning, extra={"jobs": count, "first_job_ids": ids})
            if count < _FULL:
                return

    return run


async def _expire_leases(context: ChoreContext, payload: dict[str, Any]) -> None:
    async def expire(tx: Tx) -> Sequence[int]:
        if await service.service_answers(tx):
            return await service.expire_leases_when_due(tx)
        context.log.warning("no server answers pilots, so no lease ends")
        return []

    await _until_empty(expire, "leases expired")(context, payload)


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


_interrupt_suspended = _until_empty(service.interrupt_suspended, "jobs of suspended users stopped")

CHORES: list[Chore] = [
    chore("jobs.expire-leases", _expire_leases, every_s=5, timeout_s=60, retries=0, concurrency=1),
    chore("jobs.interrupt-suspended", _interrupt_suspended, every_s=5, timeout_s=60, retries=0, concurrency=1),
    chore("jobs.fold-tally", _once(matching.fold_tally_when_due), every_s=1, timeout_s=60, retries=0, concurrency=1),
    chore("jobs.renew-tally", _once(matching.renew_tally), every_s=60, timeout_s=300, retries=0, concurrency=1),
    chore("jobs.charge-shares", _once(service.charge_shares), every_s=10, timeout_s=60, retries=0, concurrency=1),
    chore("jobs.end-pauses", _until_empty(gates.end_pauses), every_s=1, timeout_s=60, retries=0, concurrency=1),
    chore(
        "jobs.end-storage-pauses", _once(gates.end_storage_pauses), every_s=10, timeout_s=60, retries=0, concurrency=1
    ),
    chore("jobs.open-gates", _once(gates.open_gates), every_s=1, timeout_s=120, retries=0, concurrency=1),
    chore("jobs.fail-late", _until_empty(gates.fail_late), every_s=10, timeout_s=60, retries=0, concurrency=1),
    chore("jobs.notify", _notify, every_s=5, timeout_s=300, retries=0, concurrency=1),
    chore("jobs.sweep-sandboxes", _sweep_sandboxes, every_s=21_600, timeout_s=3600, retries=1, concurrency=1),
    chore("jobs.keep-logs", _keep_logs, every_s=60, timeout_s=3600, retries=0, concurrency=1),
    chore("jobs.forget-usage", _forget_usage, every_s=86_400, timeout_s=3600, retries=1, concurrency=1),
]
