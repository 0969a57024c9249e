"""Federation for programs: providers, one's own logins, registrations of a VO."""

from typing import Annotated

import msgspec

from spinor.access import Caller, Scope
from spinor.db import Tx
from spinor.errors import NotFound
from spinor.http import Public, Routes
from spinor.identity.federation import service
from spinor.identity.federation.models import Approval, HappeningRow, Identity, Refusal, Registration, RegistrationState
from spinor.identity.models import LinkedName

routes = Routes("federation")


class PublicProvider(msgspec.Struct, frozen=True, kw_only=True):
    """A provider as everybody may see it."""

    name: str
    title: str
    issuer: str


class RegistrationSearch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Newest first, below `before`."""

    state: RegistrationState | None = None
    ids: list[int] | None = None
    before: int | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100


class HappeningSearch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Newest first, below `before`; of one user, or of all."""

    user: str | None = None
    before: int | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100


@routes.get("/api/identity-providers", scope=Public.DESCRIPTION)
async def list_identity_providers(reads: Tx) -> list[PublicProvider]:
    """List the providers at which one can sign in."""
    return [
        PublicProvider(name=each.name, title=each.title, issuer=each.issuer)
        for each in await service.list_providers(reads)
    ]


@routes.get("/api/identities", scope=Scope.SELF_READ)
async def list_own_identities(tx: Tx, caller: Caller) -> list[Identity]:
    """List the logins and certificates that are yours."""
    return await service.list_identities(tx, caller.user_id)


@routes.post("/api/identities/unlink", scope=Scope.SELF_WRITE)
async def unlink_identity(tx: Tx, caller: Caller, body: LinkedName) -> list[Identity]:
    """Give up a login of yours; what is left."""
    await service.unlink(tx, caller.user, caller.user_id, body.issuer, body.subject)
    return await service.list_identities(tx, caller.user_id)


@routes.post("/api/registrations/search", scope=Scope.MEMBERS_MANAGE)
async def search_registrations(tx: Tx, caller: Caller, body: RegistrationSearch) -> list[Registration]:
    """List the people who ask to be let into your VO, and those who did."""
    found = await service.list_registrations(
        tx, caller, state=body.state, ids=body.ids, before=body.before, limit=body.limit
    )
    missing = sorted(set(body.ids or ()) - {each.registration_id for each in found})
    if missing:
        raise NotFound(f"{', '.join(map(str, missing[:20]))}: there is no such registration in your VO.", ids=missing)
    return found


@routes.post("/api/happenings/search", scope=Scope.MEMBERS_MANAGE)
async def search_happenings(tx: Tx, caller: Caller, body: HappeningSearch) -> list[HappeningRow]:
    """List what happened to people of your VO: who was let in and by whom, which memberships came and went."""
    return await service.list_happenings(tx, caller, user=body.user, before=body.before, limit=body.limit)


@routes.post("/api/registrations/approve", scope=Scope.MEMBERS_MANAGE)
async def approve_registrations(tx: Tx, caller: Caller, body: Approval) -> list[Registration]:
    """Let people into your VO: all of them, or none."""
    return await service.approve(tx, caller, body.ids, body.group)


@routes.post("/api/registrations/refuse", scope=Scope.MEMBERS_MANAGE)
async def refuse_registrations(tx: Tx, caller: Caller, body: Refusal) -> list[Registration]:
    """Do not let people into your VO: all of them, or none."""
    return await service.refuse(tx, caller, body.ids, body.reason)
