"""The verbs of resources."""

from collections.abc import Sequence

from spinor.access import Caller
from spinor.db import Tx
from spinor.errors import NotFound
from spinor.resources import store
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
from spinor.resources.status.service import StatusBoard, status_of

__all__ = [
    "StatusBoard",
    "UnknownStorageElement",
    "all_storage_elements",
    "computing_elements",
    "computing_elements_of_vo",
    "fitness_policy",
    "set_fitness_policy",
    "sites",
    "status_of",
    "storage_element",
    "storage_elements",
    "sync_elements",
]


class UnknownStorageElement(NotFound):
    """There is no such storage element for your VO; see `spinor se list`."""

    code = "unknown-storage-element"


async def sites(tx: Tx, caller: Caller) -> list[Site]:
    """All sites, each with the elements that the caller's VO may use."""
    return await store.list_sites(tx, caller)


async def computing_elements(tx: Tx, *, with_retired: bool = False) -> list[ComputingElement]:
    """The computing elements of all VOs, for the factory. Retired ones can still hold pilots that must be followed."""
    return await store.list_computing_elements(tx, with_retired=with_retired)


async def computing_elements_of_vo(tx: Tx, caller: Caller) -> list[PublicComputingElement]:
    """The computing elements that the caller's VO may use."""
    return await store.list_computing_elements_of_vo(tx, caller)


async def storage_elements(tx: Tx, caller: Caller) -> list[StorageElement]:
    """The storage elements that the caller's VO may use, by name."""
    return await store.list_storage_elements(tx, caller)


async def storage_element(tx: Tx, caller: Caller, name: str) -> StorageElement:
    """The one of this name; UnknownStorageElement also when it is another VO's."""
    found = await store.find_storage_element(tx, caller, name)
    if found is None:
        known = [element.name for element in await store.list_storage_elements(tx, caller)]
        raise UnknownStorageElement(
            f"There is no storage element {name!r} for VO {caller.vo!r}; "
            + (f"there are: {', '.join(known)}." if known else "it has none yet (`spinor config`)."),
            se=name,
        )
    return found


async def all_storage_elements(tx: Tx) -> list[StorageElement]:
    """Every storage element of every VO, retired ones too: for chores that delete what was removed before."""
    return await store.list_all_storage_elements(tx)


async def sync_elements(
    tx: Tx,
    sites: Sequence[WantedSite],
    computing: Sequence[WantedComputingElement],
    storage: Sequence[WantedStorageElement],
) -> None:
    """Bring sites and elements in line with the operations data. What is no longer there is retired, not deleted."""
    await store.sync_sites(tx, sites)
    await store.sync_computing_elements(tx, computing)
    await store.sync_storage_elements(tx, storage)


async def fitness_policy(tx: Tx) -> FitnessPolicy:
    """When nodes and elements are taken out of use by themselves."""
    return await store.find_fitness_policy(tx)


async def set_fitness_policy(tx: Tx, policy: FitnessPolicy) -> None:
    """As the operations data say."""
    await store.set_fitness_policy(tx, policy)
