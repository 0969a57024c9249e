"""Resources over HTTP."""

import msgspec

from spinor.access import Caller, Scope
from spinor.db import Tx
from spinor.http import Routes
from spinor.resources import service
from spinor.resources.models import PublicComputingElement, PublicStorageElement, Site
from spinor.resources.status.routes import routes as status_routes

routes = Routes("resources")

routes.all += status_routes.all


@routes.get("/api/sites", scope=Scope.RESOURCES_READ)
async def list_sites(tx: Tx, caller: Caller) -> list[Site]:
    """List the sites, each with the elements that your VO may use."""
    return await service.sites(tx, caller)


@routes.get("/api/computing-elements", scope=Scope.RESOURCES_READ)
async def list_computing_elements(tx: Tx, caller: Caller) -> list[PublicComputingElement]:
    """List the computing elements that your VO may use."""
    return await service.computing_elements_of_vo(tx, caller)


@routes.get("/api/storage-elements", scope=Scope.RESOURCES_READ)
async def list_storage_elements(tx: Tx, caller: Caller) -> list[PublicStorageElement]:
    """List the storage elements that your VO may use."""
    found = await service.storage_elements(tx, caller)
    return msgspec.convert(found, list[PublicStorageElement], from_attributes=True)
