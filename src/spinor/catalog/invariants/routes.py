"""Addresses of the proof that the catalog agrees with itself."""

from spinor.access import Caller, Scope
from spinor.catalog.invariants import service
from spinor.catalog.invariants.models import InvariantsRequest, InvariantsSlice, Recount, RecountRequest
from spinor.db import Tx
from spinor.http import Routes

routes = Routes("catalog")


@routes.post("/api/files/invariants", scope=Scope.FILES_MANAGE)
async def check_invariants(tx: Tx, caller: Caller, body: InvariantsRequest) -> InvariantsSlice:
    """Prove that a slice of the catalog agrees with itself; ask again with `next` until there is none."""
    return await service.check_slice(tx, caller, body)


@routes.post("/api/files/invariants/recount", scope=Scope.FILES_MANAGE)
async def recount(tx: Tx, caller: Caller, body: RecountRequest) -> list[Recount]:
    """Count again what was counted wrong in some directories; the rows that are otherwise now."""
    return await service.recount(tx, caller, body)
