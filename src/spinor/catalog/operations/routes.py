"""Addresses of operations."""

from spinor.access import Caller, Scope
from spinor.catalog.models import Outcome
from spinor.catalog.operations import service
from spinor.catalog.operations.models import (
    OperationIds,
    OperationPage,
    OperationSearch,
    OperationShown,
    OperationState,
    RefusalPage,
    RefusalQuery,
    Request,
    ShowQuery,
)
from spinor.catalog.operations.runner import run_at_once
from spinor.db import Database, Tx
from spinor.http import Routes

_AT_ONCE_S = 0.3

routes = Routes("catalog")


@routes.post("/api/file-operations", scope=Scope.FILES_WRITE, status=202)
async def ask(db: Database, caller: Caller, body: Request) -> OperationShown:
    """Remove, annotate, rehost or recount whole trees in the background; small ones are done with the answer."""
    async with db.transaction() as tx:
        operation_id = await service.ask(tx, caller, body)
    await run_at_once(db, operation_id, until_s=_AT_ONCE_S)
    async with db.statements() as reads:
        return await service.show(reads, caller, operation_id)


@routes.get("/api/file-operations/{operation_id}", scope=Scope.FILES_READ)
async def show(reads: Tx, caller: Caller, operation_id: int, query: ShowQuery) -> OperationShown:
    """How far an operation is."""
    return await service.show(reads, caller, operation_id, waiting=query.waiting)


@routes.post("/api/file-operations/search", scope=Scope.FILES_READ)
async def search(reads: Tx, caller: Caller, body: OperationSearch) -> OperationPage:
    """One page of operations, newest first."""
    return await service.search(reads, caller, body)


@routes.get("/api/file-operations/{operation_id}/refusals", scope=Scope.FILES_READ)
async def refusals(reads: Tx, caller: Caller, operation_id: int, query: RefusalQuery) -> RefusalPage:
    """What an operation could not do, one by one, with the reasons."""
    return await service.refusals(reads, caller, operation_id, query)


@routes.post("/api/file-operations/pause", scope=Scope.FILES_WRITE)
async def pause(tx: Tx, caller: Caller, body: OperationIds) -> Outcome:
    """Stop operations after their present slice, to let them go on later."""
    return await service.change(tx, caller, body.ids, OperationState.PAUSED)


@routes.post("/api/file-operations/resume", scope=Scope.FILES_WRITE)
async def resume(tx: Tx, caller: Caller, body: OperationIds) -> Outcome:
    """Let paused operations go on."""
    return await service.change(tx, caller, body.ids, OperationState.WAITING)


@routes.post("/api/file-operations/cancel", scope=Scope.FILES_WRITE)
async def cancel(tx: Tx, caller: Caller, body: OperationIds) -> Outcome:
    """End operations after their present slice; what they did stays done."""
    return await service.change(tx, caller, body.ids, OperationState.CANCELLED)
