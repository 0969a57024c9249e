"""The verbs over people: see and end sessions, suspend and reinstate, read the audit log."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from spinor.access import Caller, Scope
from spinor.db import Tx
from spinor.errors import BadInput
from spinor.identity.people import store
from spinor.identity.people.models import (
    EndedSessions,
    EndSessions,
    IssuedPage,
    MemberPage,
    RefusedSession,
    RefusedUser,
    Reinstate,
    SearchOf,
    SessionPage,
    Suspend,
    SuspensionPage,
    UserOutcome,
    Whose,
)
from spinor.identity.tokens import CHANGED
from spinor.search import Search
from spinor.search.fields import Fields
from spinor.search.page import compile_page
from spinor.signals import notify


class EndsInThePast(BadInput):
    """A suspension must end in the future; leave `ends_at` out for one that holds until it is lifted."""

    code = "ends-in-the-past"


async def search_sessions(tx: Tx, caller: Caller, asked: SearchOf) -> SessionPage:
    """Sessions, a page at a time: one's own, the VO's, or all."""
    rows, after = await _searched(tx, caller, asked, ("search_sessions", store.SESSIONS, "session_id"))
    return SessionPage(rows=rows, next=after)


async def search_issued(tx: Tx, caller: Caller, asked: SearchOf) -> IssuedPage:
    """Issued credentials, a page at a time: one's own, the VO's, or all."""
    rows, after = await _searched(tx, caller, asked, ("search_issued", store.ISSUED, "issued_id"))
    return IssuedPage(rows=rows, next=after)


async def search_members(tx: Tx, caller: Caller, asked: Search) -> MemberPage:
    """The members of the caller's VO, a page at a time."""
    page = compile_page(asked, store.MEMBERS, "user", datetime.now(UTC))
    rows, after = page.split(await store.search(tx, "search_members", page, vo_id=caller.vo_id, user_id=None))
    return MemberPage(rows=rows, next=after)


async def search_suspensions(tx: Tx, caller: Caller, asked: SearchOf) -> SuspensionPage:
    """Suspensions of the caller's VO, or all of them and the bans; also those that are over."""
    if asked.whose is Whose.ALL:
        caller.require(Scope.IDENTITY_MANAGE)
    vo_id = None if asked.whose is Whose.ALL else caller.vo_id
    page = compile_page(asked, store.SUSPENSIONS, "suspension_id", datetime.now(UTC))
    rows, after = page.split(await store.search(tx, "search_suspensions", page, vo_id=vo_id, user_id=None))
    return SuspensionPage(rows=rows, next=after)


async def _searched(
    tx: Tx, caller: Caller, asked: SearchOf, what: tuple[str, Fields, str]
) -> tuple[list[dict[str, Any]], str | None]:
    query, fields, key = what
    vo_id: int | None = None
    user_id: int | None = None
    match asked.whose:
        case Whose.MINE:
            user_id = caller.user_id
        case Whose.VO:
            caller.require(Scope.MEMBERS_MANAGE)
            vo_id = caller.vo_id
        case Whose.ALL:
            caller.require(Scope.IDENTITY_MANAGE)
    page = compile_page(asked, fields, key, datetime.now(UTC))
    return page.split(await store.search(tx, query, page, vo_id=vo_id, user_id=user_id))


async def end_sessions(tx: Tx, caller: Caller, asked: EndSessions) -> EndedSessions:
    """End one's own sessions; an administrator also those of the VO, an operator any. A foreign one is unknown."""
    wanted = list(dict.fromkeys(asked.session_ids))
    found = {each.session_id: each for each in await store.list_sessions(tx, wanted)}
    refused: list[RefusedSession] = []
    allowed: list[UUID] = []
    for session_id in wanted:
        session = found.get(session_id)
        theirs = session is not None and (
            session.user_id == caller.user_id
            or (session.vo_id == caller.vo_id and caller.may(Scope.MEMBERS_MANAGE))
            or caller.may(Scope.IDENTITY_MANAGE)
        )
        if not theirs:
            detail = f"There is no session {session_id} that you may end."
            refused.append(RefusedSession(session_id=session_id, code="unknown-session", detail=detail))
        else:
            allowed.append(session_id)
    if asked.others:
        allowed += await store.list_other_sessions(tx, caller.user_id, caller.session_id)
    foreign = any(found[session_id].user_id != caller.user_id for session_id in allowed if session_id in found)
    await store.end_sessions(tx, allowed, "administrator" if foreign else "user")
    if allowed:
        await notify(tx, CHANGED)
    # One that had ended before is ended: to ask twice is no fault.
    return EndedSessions(done=allowed, refused=refused)


async def suspend(tx: Tx, caller: Caller, asked: Suspend) -> UserOutcome:
    """Suspend members of the caller's VO, or anybody everywhere: their sessions end now, and their jobs stop."""
    if asked.ends_at is not None and asked.ends_at <= datetime.now(UTC):
        raise EndsInThePast(field="ends_at")
    allowed, refused = await _users(tx, caller, asked.users, everywhere=asked.everywhere)
    if caller.user_id in allowed:
        del allowed[caller.user_id]
        detail = "You cannot suspend yourself; another administrator can."
        refused.append(RefusedUser(user=caller.user, code="yourself", detail=detail))
    if allowed:
        vo_id = None if asked.everywhere else caller.vo_id
        await store.suspend(tx, list(allowed), vo_id, asked.reason, caller.user, asked.ends_at)
        await notify(tx, CHANGED)
    return UserOutcome(done=list(allowed.values()), refused=refused)


async def reinstate(tx: Tx, caller: Caller, asked: Reinstate) -> UserOutcome:
    """Lift suspensions of the caller's VO, or bans; the users can sign in again, and their jobs go on."""
    allowed, refused = await _users(tx, caller, asked.users, everywhere=asked.everywhere)
    lifted = await store.lift(tx, list(allowed), None if asked.everywhere else caller.vo_id, caller.user)
    for user_id in allowed.keys() - lifted:
        detail = f"{allowed[user_id]} is not {'banned' if asked.everywhere else f'suspended in VO {caller.vo}'}."
        refused.append(RefusedUser(user=allowed[user_id], code="not-suspended", detail=detail))
    if lifted:
        await notify(tx, CHANGED)
    return UserOutcome(done=[allowed[user_id] for user_id in allowed if user_id in lifted], refused=refused)


async def _users(
    tx: Tx, caller: Caller, users: list[str], *, everywhere: bool
) -> tuple[dict[int, str], list[RefusedUser]]:
    """The users by number whom the caller may judge, and a refusal for each of the others."""
    if everywhere:
        caller.require(Scope.IDENTITY_MANAGE)
    wanted = list(dict.fromkeys(users))
    found = {each.user: each for each in await store.find_users(tx, caller.vo_id, wanted)}
    known = {name: each for name, each in found.items() if everywhere or each.member}
    where = "this service" if everywhere else f"VO {caller.vo}"
    refused = [
        RefusedUser(user=name, code="unknown-user", detail=f"There is no user {name!r} in {where}.")
        for name in wanted
        if name not in known
    ]
    return {each.user_id: each.user for each in known.values()}, refused
