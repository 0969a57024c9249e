"""What ends by itself."""

from typing import Any

from spinor.chores import Chore, ChoreContext, chore
from spinor.resources.status import service


async def end_what_is_over(context: ChoreContext, _: dict[str, Any]) -> None:
    """Let downtimes end."""
    async with context.db.transaction() as tx:
        ended = await service.end_what_is_over(tx)
    if ended:
        context.log.info("statuses-ended", extra={"elements": ended})


CHORES: list[Chore] = [
    chore("resources.end_downtimes", end_what_is_over, every_s=5, timeout_s=60, retries=0, concurrency=1)
]
