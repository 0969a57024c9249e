"""Addresses of provenance. They join the catalog's."""

from spinor.access import Caller, Scope
from spinor.catalog.provenance import service
from spinor.catalog.provenance.models import FileAncestors, FileDescendants, LineageRequest, SetAncestors
from spinor.db import Tx
from spinor.http import Routes

routes = Routes("catalog")


@routes.post("/api/files/ancestors", scope=Scope.FILES_READ)
async def find_ancestors(tx: Tx, caller: Caller, body: LineageRequest) -> list[FileAncestors]:
    """From which files each file was made, to any depth; what the caller may not read is left out."""
    return await service.ancestors(tx, caller, body)


@routes.post("/api/files/descendants", scope=Scope.FILES_READ)
async def find_descendants(tx: Tx, caller: Caller, body: LineageRequest) -> list[FileDescendants]:
    """Which files were made from each file, to any depth; what the caller may not read is left out."""
    return await service.descendants(tx, caller, body)


@routes.post("/api/files/ancestors/set", scope=Scope.FILES_WRITE)
async def set_ancestors(tx: Tx, caller: Caller, body: SetAncestors | list[SetAncestors]) -> list[FileAncestors]:
    """Add or replace direct ancestors of one file or many, all or nothing; a cycle is refused."""
    return await service.set_ancestors(tx, caller, body if isinstance(body, list) else [body])
