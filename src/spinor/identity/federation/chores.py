"""Background work of federation."""

from typing import Any

from spinor.chores import Chore, ChoreContext, chore
from spinor.http import State
from spinor.identity.federation import service
from spinor.identity.federation.provider import Upstreams
from spinor.identity.keys import KeyRing


async def _ask_providers(context: ChoreContext, _: dict[str, Any]) -> None:
    settings = context.settings
    upstreams = Upstreams(settings.data_dir / "secrets" / "providers")
    state = State(settings, KeyRing.load(settings.keys_dir), upstreams)
    asked = await service.recheck_everybody(context.db, state)
    if asked:
        context.log.info("providers asked about people", extra={"asked": asked})


async def _delete_old_registrations(context: ChoreContext, _: dict[str, Any]) -> None:
    async with context.db.transaction() as tx:
        await service.delete_old_registrations(tx)


CHORES: list[Chore] = [
    chore("identity.ask-providers", _ask_providers, every_s=600, timeout_s=550, retries=0, concurrency=1),
    chore(
        "identity.delete-old-registrations",
        _delete_old_registrations,
        every_s=86_400,
        timeout_s=60,
        retries=3,
        concurrency=1,
    ),
]
