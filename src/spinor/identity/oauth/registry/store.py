"""The rows of registered clients and of capability rules."""

from collections.abc import Sequence

from psycopg.types.json import Jsonb

from spinor.db import Queries, Tx, execute, fetch_one
from spinor.identity.oauth.registry.models import RegisteredClient, VOCapabilities

Q = Queries("spinor.identity.oauth.registry")


async def find_client(tx: Tx, client_id: str) -> RegisteredClient | None:
    return await fetch_one(tx, RegisteredClient, Q.find_client, {"client_id": client_id})


async def sync_clients(tx: Tx, clients: Sequence[RegisteredClient]) -> int:
    """Bring the clients in line with the operations data; how many sessions ended with one that is gone."""
    await execute(tx, Q.merge_clients, {"clients": Jsonb(list(clients))})
    return await execute(tx, Q.retire_clients, {"client_ids": [client.client_id for client in clients]})


async def sync_capabilities(tx: Tx, capabilities: Sequence[VOCapabilities]) -> None:
    await execute(tx, Q.merge_capabilities, {"capabilities": Jsonb(list(capabilities))})


async def find_capabilities(tx: Tx, vo_id: int) -> VOCapabilities | None:
    return await fetch_one(tx, VOCapabilities, Q.find_capabilities, {"vo_id": vo_id})
