"""Operations data over HTTP. They belong to no VO: only configuration administrators see and change them."""

from typing import Annotated, Any

import msgspec

from spinor.access import Caller, Scope
from spinor.configuration import checking, service
from spinor.configuration.models import Applied, Difference, FullRevision, Proposal, Revision, RollBack, Validity
from spinor.db import Tx
from spinor.http import Public, Routes

routes = Routes("configuration")


class Which(msgspec.Struct, frozen=True, kw_only=True):
    revision: int | None = None


class HistoryPage(msgspec.Struct, frozen=True, kw_only=True):
    before: int | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100


@routes.get("/api/config", scope=Scope.CONFIG_READ)
async def show_configuration(tx: Tx, query: Which) -> FullRevision:
    """Show the operations data in force, or those of an earlier revision."""
    return await service.show(tx, query.revision)


@routes.get("/api/config/schema", scope=Public.DESCRIPTION)
async def configuration_schema() -> dict[str, Any]:
    """Give the JSON Schema of the operations data."""
    return checking.schema()


@routes.get("/api/config/history", scope=Scope.CONFIG_READ)
async def configuration_history(tx: Tx, query: HistoryPage) -> list[Revision]:
    """List the revisions, newest first."""
    return await service.history(tx, before=query.before, limit=query.limit)


@routes.post("/api/config/validate", scope=Scope.CONFIG_READ)
async def validate_configuration(body: Proposal) -> Validity:
    """List every fault of a document."""
    return service.validate(body.document)


@routes.post("/api/config/diff", scope=Scope.CONFIG_READ)
async def diff_configuration(tx: Tx, body: Proposal) -> Difference:
    """Say what applying a document would change."""
    return await service.diff(tx, body.document)


@routes.post("/api/config/apply", scope=Scope.CONFIG_WRITE)
async def apply_configuration(tx: Tx, caller: Caller, body: Proposal) -> Applied:
    """Put a document in force, as a new revision."""
    return await service.apply(
        tx, body.document, author=caller.user, base_revision=body.base_revision, comment=body.comment
    )


@routes.post("/api/config/rollback", scope=Scope.CONFIG_WRITE)
async def roll_back_configuration(tx: Tx, caller: Caller, body: RollBack) -> Applied:
    """Put an earlier revision in force again, as a new one."""
    return await service.rollback(
        tx, body.revision, author=caller.user, base_revision=body.base_revision, comment=body.comment
    )
