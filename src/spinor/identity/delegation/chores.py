"""Background work of delegation."""

from typing import Any

from spinor.chores import Chore, ChoreContext, chore
from spinor.identity.delegation import service
from spinor.identity.delegation.certificates import Certificates


async def _delete_ended(context: ChoreContext, _: dict[str, Any]) -> None:
    async with context.db.transaction() as tx:
        deleted = await service.delete_ended(tx)
        ending = await service.remind_of_proxies(tx)
    if deleted:
        context.log.info("expired proxies deleted", extra={"deleted": deleted})
    for each in ending:
        facts = {"user": each.user, "dn": each.subject, "expires_at": each.expires_at.isoformat()}
        context.log.warning("a stored proxy ends soon", extra=facts)


async def _renew_crl(context: ChoreContext, _: dict[str, Any]) -> None:
    if await service.renew_crl(context.db, Certificates(context.settings)):
        context.log.info("revocation list signed")


CHORES: list[Chore] = [
    chore("identity.delete-ended-proxies", _delete_ended, every_s=600, timeout_s=60, retries=3, concurrency=1),
    # A suspension is to be felt within a minute.
    chore("identity.renew-crl", _renew_crl, every_s=60, timeout_s=30, retries=0, concurrency=1),
]
