"""Addresses of access."""

from spinor.access import Caller, Scope
from spinor.catalog.access import service
from spinor.catalog.access.models import AccessChanged, AccessRequest, AccessShown
from spinor.catalog.models import Paths
from spinor.db import Tx
from spinor.http import Routes

routes = Routes("catalog")


@routes.post("/api/files/access/show", scope=Scope.FILES_READ)
async def show_access(tx: Tx, caller: Caller, body: Paths) -> list[AccessShown]:
    """Owner, group, mode and access control lists of files and directories."""
    return await service.show_access(tx, caller, body.paths)


@routes.post("/api/files/access", scope=Scope.FILES_WRITE)
async def change_access(tx: Tx, caller: Caller, body: AccessRequest) -> AccessChanged:
    """Change owner, group, mode or access control lists of files and directories: of all of them, or of none."""
    return await service.change_access(tx, caller, body)
