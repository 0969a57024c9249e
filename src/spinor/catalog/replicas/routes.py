"""Addresses of replicas, and of what is known of single files."""

from spinor.access import Caller, Scope
from spinor.catalog.models import Outcome, Paths, Registered
from spinor.catalog.replicas import service
from spinor.catalog.replicas.models import (
    Changed,
    ChecksumsFilled,
    Existing,
    FileStatusChange,
    GuidOwner,
    Guids,
    NewReplica,
    Rehosting,
    RemoveReplicas,
    ReplicaStatusChange,
)
from spinor.db import Tx
from spinor.http import Routes

routes = Routes("catalog")


@routes.post("/api/files/exists", scope=Scope.FILES_READ)
async def exists(tx: Tx, caller: Caller, body: Paths) -> list[Existing]:
    """What each path is: a file, a directory, or nothing."""
    return await service.existing(tx, caller, body.paths)


@routes.post("/api/files/guids", scope=Scope.FILES_READ)
async def lfns_of_guids(tx: Tx, caller: Caller, body: Guids) -> list[GuidOwner]:
    """The LFN of the file that has each guid."""
    return await service.lfns_of_guids(tx, caller, body.guids)


@routes.post("/api/files/replicas/add", scope=Scope.FILES_WRITE)
async def add_replicas(tx: Tx, caller: Caller, body: list[NewReplica]) -> list[Registered]:
    """Tell that files have bytes on other storage elements too: all of it, or nothing."""
    return await service.add_replicas(tx, caller, body)


@routes.post("/api/files/replicas/remove", scope=Scope.FILES_WRITE, once=True)
async def remove_replicas(tx: Tx, caller: Caller, body: RemoveReplicas) -> Outcome:
    """Remove replicas, with their bytes or without; each refused one comes back with its reason."""
    return await service.remove_replicas(tx, caller, body)


@routes.post("/api/files/replicas/status", scope=Scope.FILES_WRITE)
async def set_replica_status(tx: Tx, caller: Caller, body: ReplicaStatusChange) -> Changed:
    """Say whether replicas can be read: of all of them, or of none."""
    return await service.set_replica_status(tx, caller, body.replicas, body.status)


@routes.post("/api/files/replicas/host", scope=Scope.FILES_WRITE, once=True)
async def rehost_replicas(tx: Tx, caller: Caller, body: Rehosting) -> Changed:
    """Say that the bytes of replicas are on another storage element now, under the same PFNs."""
    return await service.rehost_replicas(tx, caller, body.replicas, body.to)


@routes.post("/api/files/status", scope=Scope.FILES_WRITE)
async def set_file_status(tx: Tx, caller: Caller, body: FileStatusChange) -> Changed:
    """Give files a status: all of them, or none."""
    return await service.set_file_status(tx, caller, body.paths, body.status)


@routes.post("/api/files/checksums", scope=Scope.FILES_WRITE)
async def fill_checksums(tx: Tx, caller: Caller, body: ChecksumsFilled) -> Changed:
    """Tell checksums that the catalog does not know; one that it knows otherwise is refused."""
    return await service.fill_checksums(tx, caller, body.files)
