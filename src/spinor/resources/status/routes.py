"""The status of sites and elements over HTTP."""

from spinor.access import Caller, Scope
from spinor.db import Tx
from spinor.http import Routes
from spinor.resources.status import service
from spinor.resources.status.models import (
    ChangeStatus,
    ElementStatus,
    HistoryQuery,
    StatusChange,
    StatusesChanged,
    StatusQuery,
)

routes = Routes("resources")


@routes.get("/api/resources/status", scope=Scope.RESOURCES_READ)
async def list_statuses(tx: Tx, caller: Caller, query: StatusQuery) -> list[ElementStatus]:
    """Say which sites and elements are active, degraded, probing, draining or banned, why, and until when."""
    return await service.statuses(tx, caller, query.kind, query.name)


@routes.get("/api/resources/history", scope=Scope.RESOURCES_READ)
async def list_status_changes(tx: Tx, caller: Caller, query: HistoryQuery) -> list[StatusChange]:
    """List the changes of status, newest first."""
    return await service.status_history(tx, caller, query.kind, query.name, query.limit)


@routes.post("/api/resources/status", scope=Scope.RESOURCES_MANAGE)
async def change_status(tx: Tx, caller: Caller, body: ChangeStatus) -> StatusesChanged:
    """Ban, drain, degrade or resume sites and elements; one that is refused is named with the reason."""
    return await service.change_status(tx, caller, body)
