"""Addresses of what `spinor file fsck` asks and has done."""

from starlette.responses import Response

from spinor.access import Caller, Scope
from spinor.catalog.models import Outcome
from spinor.catalog.repairs import changing, removals
from spinor.catalog.repairs.models import PFNs, QueueRemovals, Repaired, Repairs, ReplicasQuery
from spinor.db import Database, Tx
from spinor.http import Routes
from spinor.streaming import streamed

routes = Routes("catalog")


@routes.get("/api/storage-elements/{se}/replicas", scope=Scope.FILES_MANAGE)
async def replicas_on(db: Database, caller: Caller, se: str, query: ReplicasQuery) -> Response:
    """All replicas of your VO on a storage element, as an Arrow stream: pfn, lfn, size, adler32, status, since when."""
    return await streamed(removals.replicas_on(db, caller, se, query.path), removals.ARROW)


@routes.get("/api/storage-elements/{se}/removals", scope=Scope.FILES_MANAGE)
async def removals_on(db: Database, caller: Caller, se: str) -> Response:
    """The PFNs that are to be deleted from a storage element, as an Arrow stream."""
    return await streamed(removals.removals_on(db, caller, se), removals.ARROW)


@routes.post("/api/storage-elements/{se}/removals", scope=Scope.FILES_MANAGE)
async def queue_removals(tx: Tx, caller: Caller, se: str, body: QueueRemovals) -> Outcome:
    """Have bytes deleted that no file has, after a delay; each refused PFN comes back with its reason."""
    return await removals.queue_removals(tx, caller, se, body.pfns, body.delay_s)


@routes.post("/api/storage-elements/{se}/removals/cancel", scope=Scope.FILES_MANAGE)
async def cancel_removals(tx: Tx, caller: Caller, se: str, body: PFNs) -> Outcome:
    """Keep bytes that were to be deleted; each refused PFN comes back with its reason."""
    return await removals.cancel_removals(tx, caller, se, body.pfns)


@routes.post("/api/storage-elements/{se}/unnamed", scope=Scope.FILES_MANAGE)
async def unnamed(tx: Tx, caller: Caller, se: str, body: PFNs) -> list[str]:
    """Those of the PFNs that no file has, and that are not about to be deleted."""
    return await removals.unnamed(tx, caller, se, body.pfns)


@routes.post("/api/files/repairs", scope=Scope.FILES_WRITE)
async def make_repairs(tx: Tx, caller: Caller, body: Repairs) -> Repaired:
    """Change files and replicas, each only if it is still as the change says; refusals are told apart."""
    return await changing.make(tx, caller, body.changes)
