"""Background work of identity."""

from typing import Any

from spinor import repeats
from spinor.chores import Chore, ChoreContext, chore
from spinor.identity import service
from spinor.identity.delegation.chores import CHORES as DELEGATION_CHORES
from spinor.identity.federation.chores import CHORES as FEDERATION_CHORES


async def _delete_expired(context: ChoreContext, _: dict[str, Any]) -> None:
    async with context.db.transaction() as tx:
        deleted = await service.delete_expired(tx)
    if deleted:
        context.log.info("expired sessions and tokens deleted", extra={"deleted": deleted})


async def _forget_old_answers(context: ChoreContext, _: dict[str, Any]) -> None:
    async with context.db.transaction() as tx:
        await repeats.forget_old_answers(tx)


CHORES: list[Chore] = [
    chore("identity.delete-expired", _delete_expired, every_s=3600, timeout_s=60, retries=3, concurrency=1),
    chore("identity.forget-old-answers", _forget_old_answers, every_s=3600, timeout_s=60, retries=3, concurrency=1),
    *FEDERATION_CHORES,
    *DELEGATION_CHORES,
]
