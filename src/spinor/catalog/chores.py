"""The catalog's background work."""

from typing import Any

from spinor.catalog.feed import service as feed
from spinor.catalog.operations.chores import CHORES as OPERATIONS
from spinor.chores import Chore, ChoreContext, chore


async def prune_changes(context: ChoreContext, _payload: dict[str, Any]) -> None:
    """Forget what the change feed need not keep any longer."""
    if count := await feed.prune(context.db):
        context.log.info("changes-pruned", extra={"count": count})


CHORES: list[Chore] = [
    *OPERATIONS,
    chore("catalog.prune_changes", prune_changes, every_s=3600, timeout_s=1800, retries=3, concurrency=1),
]
