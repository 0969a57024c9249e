"""The background work of operations."""

from typing import Any

from spinor.catalog.operations.runner import run_open
from spinor.catalog.operations.service import CHORE
from spinor.chores import Chore, ChoreContext, chore, enqueue

_TURN_S = 30.0  # Then another worker may have its turn.


async def work_on_operations(context: ChoreContext, _payload: dict[str, Any]) -> None:
    """Work on what is open. The tick finds what a dead worker left within a second or two."""
    if await run_open(context.db, until_s=_TURN_S):
        async with context.db.transaction() as tx:
            await enqueue(tx, CHORE, dedupe_key="open")


CHORES: list[Chore] = [
    chore(CHORE, work_on_operations, every_s=2, timeout_s=300, retries=3, concurrency=4),
]
