"""Addresses of bulk changes of metadata."""

from spinor.access import Caller, Scope
from spinor.catalog.annotation import service
from spinor.catalog.annotation.models import Described, SelectionChange, SelectionDescribed
from spinor.db import Tx
from spinor.http import Routes

routes = Routes("catalog")


@routes.post("/api/files/metadata/batch", scope=Scope.FILES_WRITE, body_type="application/vnd.apache.arrow.stream")
async def describe_batch(tx: Tx, caller: Caller, body: bytes) -> Described:
    """Set and unset metadata, each path its own (Arrow: lfn, metadata as JSON); refusals are told one by one."""
    return await service.describe_batch(tx, caller, body)


@routes.post("/api/files/metadata/selection", scope=Scope.FILES_WRITE)
async def describe_selection(tx: Tx, caller: Caller, body: SelectionChange) -> SelectionDescribed:
    """Set and unset metadata of the files that a query names, so many in a call."""
    return await service.describe_selection(tx, caller, body)
