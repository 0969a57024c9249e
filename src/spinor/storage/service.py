"""The verbs of storage: addresses for reading and for writing. They move no bytes."""

import secrets
from collections.abc import Iterable, Sequence

from spinor.access import Caller
from spinor.catalog import rules
from spinor.catalog import service as catalog
from spinor.catalog.models import ListRequest, ReplicaStatus
from spinor.db import Tx
from spinor.resources import service as resources
from spinor.resources.models import StorageElement
from spinor.resources.status.access import is_degraded, why_not
from spinor.resources.status.models import Access
from spinor.storage.models import DirectoryReplicasRequest, FileReplicas, Place, ReplicaAddress, ReplicasPage
from spinor.storage.plugin import StorageOutOfUse, StoragePlugin, StorageReadOnly
from spinor.storage.registry import open_element
from spinor.types import LFN, PFN, SEName


async def replicas(tx: Tx, caller: Caller, lfns: Sequence[str], *, all_statuses: bool = False) -> list[FileReplicas]:
    """Each file with the addresses of its replicas that can be read, in the order asked. Raises UnknownLFN, FileDenied.

    Replicas on storage elements that were withdrawn from the VO are left out; degraded ones come last.
    """
    known = {element.se_id: element for element in await resources.storage_elements(tx, caller)}
    urls = {se_id: opened(element).url for se_id, element in known.items()}
    why = {se_id: why_not(element, Access.READ, caller) for se_id, element in known.items()}
    last = {se_id for se_id, element in known.items() if is_degraded(element, Access.READ)}
    shown = frozenset(ReplicaStatus) if all_statuses else frozenset({ReplicaStatus.AVAILABLE})
    found = []
    for file in await catalog.locate_files(tx, caller, lfns):
        there = [replica for replica in file.replicas if replica.status in shown and replica.se_id in known]
        used = [replica for replica in there if all_statuses or not why[replica.se_id]]
        if last:
            used.sort(key=lambda replica: replica.se_id in last)
        addresses = [
            ReplicaAddress(
                se=SEName(known[replica.se_id].name), url=urls[replica.se_id](replica.pfn), status=replica.status
            )
            for replica in used
        ]
        found.append(
            FileReplicas(
                lfn=file.lfn,
                size_bytes=file.size_bytes,
                adler32=file.adler32,
                sha256=file.sha256,
                replicas=addresses,
                out_of_use=[why[replica.se_id] for replica in there if why[replica.se_id]],
            )
        )
    return found


async def directory_replicas(tx: Tx, caller: Caller, request: DirectoryReplicasRequest) -> ReplicasPage:
    """One page of the files directly inside a directory, with their replicas. Raises UnknownDirectory, DirectoryDenied,
    FileDenied."""
    first = f"f{request.after or ''}"  # Files come after directories, which have no replicas.
    page = await catalog.list_directory(tx, caller, ListRequest(path=request.path, limit=request.limit, after=first))
    rows = await replicas(tx, caller, [entry.lfn for entry in page.rows], all_statuses=request.all_statuses)
    return ReplicasPage(rows=rows, next=page.next[1:] if page.next else None)


async def places(tx: Tx, caller: Caller, se: str, lfns: Sequence[str], suffix: str = "") -> list[Place]:
    """Where the bytes of new files are to go on a storage element, in the order asked.

    The name ends in `suffix` (a job gives `;<job_id>.<attempt>`), or in one that no other call gets: bytes of a file
    that was moved or removed are never written over. Raises UnknownStorageElement, StorageReadOnly, StorageOutOfUse,
    BadLFN, PathOutsideVO, DirectoryDenied.
    """
    element = await resources.storage_element(tx, caller, se)
    if element.read_only:
        raise StorageReadOnly(f"The storage element {se!r} is read-only; choose another one (`spinor se list`).", se=se)
    if why := why_not(element, Access.WRITE, caller):
        raise StorageOutOfUse(f"{why[0].upper()}{why[1:]}; choose another one (`spinor se list`).", se=se)
    pairs = [rules.split_lfn(lfn, caller.vo) for lfn in lfns]
    await catalog.permit_new_below(tx, caller, {directory for directory, _ in pairs})
    plugin, ending = opened(element), suffix or f";{secrets.token_hex(6)}"
    pfns = [f"{directory[1:]}/{rules.placed_name(name, ending)}" for directory, name in pairs]
    return [
        Place(lfn=LFN(lfn), se=SEName(se), pfn=PFN(pfn), url=plugin.url(pfn))
        for lfn, pfn in zip(lfns, pfns, strict=True)
    ]


async def refusals_to_write(tx: Tx, caller: Caller, names: Iterable[str]) -> dict[str, str]:
    """Of these storage elements those that may not be written to now, and why. Unknown ones are passed over."""
    wanted = set(names)
    known = [element for element in await resources.storage_elements(tx, caller) if element.name in wanted]
    return {element.name: why for element in known if (why := why_not(element, Access.WRITE, caller))}


def opened(element: StorageElement) -> StoragePlugin:
    return open_element(element.plugin, element.root, element.options, read_only=element.read_only)
