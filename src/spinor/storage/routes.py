"""Addresses of storage."""

from spinor.access import Caller, Scope
from spinor.db import Tx
from spinor.http import Routes
from spinor.storage import service
from spinor.storage.models import (
    DirectoryReplicasRequest,
    FileReplicas,
    Place,
    PlaceRequest,
    ReplicasPage,
    ReplicasRequest,
)

routes = Routes("storage")


@routes.post("/api/files/replicas", scope=Scope.FILES_READ)
async def replicas(reads: Tx, caller: Caller, body: ReplicasRequest) -> list[FileReplicas]:
    """Where the bytes of files are: sizes, checksums, and an address per replica."""
    return await service.replicas(reads, caller, body.lfns, all_statuses=body.all_statuses)


@routes.post("/api/directories/replicas", scope=Scope.FILES_READ)
async def directory_replicas(reads: Tx, caller: Caller, body: DirectoryReplicasRequest) -> ReplicasPage:
    """One page of the files directly inside a directory, with their replicas."""
    return await service.directory_replicas(reads, caller, body)


@routes.post("/api/files/places", scope=Scope.FILES_WRITE)
async def places(tx: Tx, caller: Caller, body: PlaceRequest) -> list[Place]:
    """Where to put the bytes of new files: write there, then register them."""
    return await service.places(tx, caller, body.se, body.lfns)
