"""The rows of sites and elements."""

from collections.abc import Sequence

import msgspec
from psycopg.types.json import Jsonb

from spinor.access import Caller
from spinor.db import Queries, Tx, execute, fetch, fetch_one, fetch_value
from spinor.errors import Conflict, SpinorError
from spinor.resources.models import (
    ComputingElement,
    FitnessPolicy,
    PublicComputingElement,
    Site,
    StorageElement,
    WantedComputingElement,
    WantedSite,
    WantedStorageElement,
)

Q = Queries("spinor.resources")


class NameTaken(Conflict):
    """That name was given by somebody else at the same moment; look again and repeat."""

    code, retry = "name-taken", True


ERRORS: dict[str, type[SpinorError]] = {
    "site_name_unique": NameTaken,
    "computing_element_name_unique": NameTaken,
    "storage_element_name_unique": NameTaken,
}


async def list_sites(tx: Tx, caller: Caller) -> list[Site]:
    return await fetch(tx, Site, Q.list_sites, {"vo_id": caller.vo_id})


async def list_computing_elements(tx: Tx, *, with_retired: bool) -> list[ComputingElement]:
    return await fetch(tx, ComputingElement, Q.list_computing_elements, {"with_retired": with_retired})


async def list_computing_elements_of_vo(tx: Tx, caller: Caller) -> list[PublicComputingElement]:
    return await fetch(tx, PublicComputingElement, Q.list_computing_elements_of_vo, {"vo_id": caller.vo_id})


async def list_storage_elements(tx: Tx, caller: Caller) -> list[StorageElement]:
    return await fetch(tx, StorageElement, Q.list_storage_elements, {"vo_id": caller.vo_id})


async def find_storage_element(tx: Tx, caller: Caller, name: str) -> StorageElement | None:
    return await fetch_one(tx, StorageElement, Q.find_storage_element, {"vo_id": caller.vo_id, "name": name})


async def list_all_storage_elements(tx: Tx) -> list[StorageElement]:
    return await fetch(tx, StorageElement, Q.list_all_storage_elements)


async def sync_sites(tx: Tx, sites: Sequence[WantedSite]) -> None:
    await execute(tx, Q.merge_sites, {"sites": Jsonb(list(sites))})
    await execute(tx, Q.retire_sites, {"names": [site.name for site in sites]})


async def sync_computing_elements(tx: Tx, elements: Sequence[WantedComputingElement]) -> None:
    wanted = {"elements": Jsonb(list(elements))}
    await execute(tx, Q.merge_computing_elements, wanted)
    await execute(tx, Q.retire_computing_elements, {"names": [element.name for element in elements]})
    await execute(tx, Q.delete_computing_access, wanted)
    await execute(tx, Q.insert_computing_access, wanted)


async def sync_storage_elements(tx: Tx, elements: Sequence[WantedStorageElement]) -> None:
    wanted = {"elements": Jsonb(list(elements))}
    await execute(tx, Q.merge_storage_elements, wanted)
    await execute(tx, Q.retire_storage_elements, {"names": [element.name for element in elements]})
    await execute(tx, Q.delete_storage_access, wanted)
    await execute(tx, Q.insert_storage_access, wanted)


async def find_fitness_policy(tx: Tx) -> FitnessPolicy:
    found = await fetch_value(tx, Q.find_fitness_policy)
    return msgspec.convert(found or {}, FitnessPolicy)


async def set_fitness_policy(tx: Tx, policy: FitnessPolicy) -> None:
    await execute(tx, Q.set_fitness_policy, {"policy": Jsonb(policy)})
