"""People over HTTP."""

from spinor.access import Caller, Scope
from spinor.db import Tx
from spinor.http import Routes
from spinor.identity.people import service
from spinor.identity.people.models import (
    EndedSessions,
    EndSessions,
    IssuedPage,
    MemberPage,
    Reinstate,
    SearchOf,
    SessionPage,
    Suspend,
    SuspensionPage,
    UserOutcome,
)
from spinor.search import Search

routes = Routes("identity")


@routes.post("/api/sessions/search", scope=Scope.SELF_READ)
async def search_sessions(tx: Tx, caller: Caller, body: SearchOf) -> SessionPage:
    """List sessions: one's own, those of the VO, or all."""
    return await service.search_sessions(tx, caller, body)


@routes.post("/api/sessions/end", scope=Scope.SELF_WRITE)
async def end_sessions(tx: Tx, caller: Caller, body: EndSessions) -> EndedSessions:
    """End sessions, and with them every token that came from them."""
    return await service.end_sessions(tx, caller, body)


@routes.post("/api/issued/search", scope=Scope.SELF_READ)
async def search_issued(tx: Tx, caller: Caller, body: SearchOf) -> IssuedPage:
    """Read the audit log of issued tokens, proxies and certificates."""
    return await service.search_issued(tx, caller, body)


@routes.post("/api/members/search", scope=Scope.MEMBERS_MANAGE)
async def search_members(tx: Tx, caller: Caller, body: Search) -> MemberPage:
    """List the members of the VO."""
    return await service.search_members(tx, caller, body)


@routes.post("/api/suspensions/search", scope=Scope.MEMBERS_MANAGE)
async def search_suspensions(tx: Tx, caller: Caller, body: SearchOf) -> SuspensionPage:
    """List suspensions, present and past."""
    return await service.search_suspensions(tx, caller, body)


@routes.post("/api/suspensions", scope=Scope.MEMBERS_MANAGE)
async def suspend_users(tx: Tx, caller: Caller, body: Suspend) -> UserOutcome:
    """Suspend users in the VO, or everywhere."""
    return await service.suspend(tx, caller, body)


@routes.post("/api/suspensions/lift", scope=Scope.MEMBERS_MANAGE)
async def reinstate_users(tx: Tx, caller: Caller, body: Reinstate) -> UserOutcome:
    """Lift suspensions."""
    return await service.reinstate(tx, caller, body)
