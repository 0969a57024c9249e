"""The verbs that bring clients and capability rules in line with the operations data."""

from collections.abc import Sequence

from spinor.db import Tx
from spinor.identity.oauth.registry import store
from spinor.identity.oauth.registry.models import RegisteredClient
from spinor.identity.oauth.registry.store import sync_capabilities
from spinor.identity.tokens import CHANGED
from spinor.signals import notify

__all__ = ["sync_capabilities", "sync_clients"]


async def sync_clients(tx: Tx, clients: Sequence[RegisteredClient]) -> None:
    """Bring the clients in line with the operations data. The sessions of one that is gone end, everywhere."""
    if await store.sync_clients(tx, clients):
        await notify(tx, CHANGED)
