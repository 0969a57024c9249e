"""Addresses of quotas."""

import msgspec

from spinor.access import Caller, Scope
from spinor.catalog.quotas import service
from spinor.catalog.quotas.models import Quota, QuotaSetting, QuotaSubject
from spinor.db import Tx
from spinor.http import Routes

routes = Routes("catalog")


class RemovedQuotas(msgspec.Struct, frozen=True):
    removed: int


@routes.post("/api/files/quotas/search", scope=Scope.FILES_READ)
async def find_quotas(tx: Tx, caller: Caller, body: QuotaSubject) -> list[Quota]:
    """Quotas of a user, a directory or a storage element, or all; with what is used of each."""
    return await service.find_quotas(tx, caller, body)


@routes.put("/api/files/quotas", scope=Scope.FILES_MANAGE)
async def set_quotas(tx: Tx, caller: Caller, body: list[QuotaSetting]) -> list[Quota]:
    """Put quotas in place: all of them, or none."""
    return await service.set_quotas(tx, caller, body)


@routes.post("/api/files/quotas/remove", scope=Scope.FILES_MANAGE)
async def remove_quotas(tx: Tx, caller: Caller, body: list[QuotaSubject]) -> RemovedQuotas:
    """Remove quotas: all of them, or none."""
    return RemovedQuotas(await service.remove_quotas(tx, caller, body))
