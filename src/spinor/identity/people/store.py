"""The rows of people, sessions, suspensions and the audit log."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg import sql

from spinor.db import Queries, Tx, execute, fetch, fetch_rows
from spinor.identity.models import IssuedKind, SessionKind
from spinor.search.fields import Field, FieldKind, Fields
from spinor.search.page import Page

Q = Queries("spinor.identity.people")
LISTS = Queries("spinor.identity.people", "search.sql")

_TEXT, _TIME = FieldKind.TEXT, FieldKind.TIMESTAMP

SESSIONS = Fields(
    [
        Field("session_id", sql.SQL("s.session_id"), FieldKind.UUID),
        Field("kind", sql.SQL("s.kind"), FieldKind.ENUM, values=tuple(kind.value for kind in SessionKind)),
        Field("vo", sql.SQL("v.name"), _TEXT),
        Field("user", sql.SQL("u.name"), _TEXT),
        Field("group", sql.SQL("g.name"), _TEXT),
        Field("client_id", sql.SQL("s.client_id"), _TEXT),
        Field("signed_in_by", sql.SQL("s.signed_in_by"), _TEXT),
        Field("address", sql.SQL("s.address"), _TEXT),
        Field("user_agent", sql.SQL("s.user_agent"), _TEXT),
        Field("opened_at", sql.SQL("s.opened_at"), _TIME),
        Field("used_at", sql.SQL("s.used_at"), _TIME),
        Field("expires_at", sql.SQL("s.expires_at"), _TIME),
        Field("ended_at", sql.SQL("s.ended_at"), _TIME, nullable=True),
        Field("ended_by", sql.SQL("s.ended_by"), _TEXT, nullable=True),
        Field("open", sql.SQL("(s.ended_at IS NULL AND s.expires_at > now())"), FieldKind.BOOLEAN),
    ]
)

ISSUED = Fields(
    [
        Field("issued_id", sql.SQL("i.issued_id"), FieldKind.INTEGER),
        Field("issued_at", sql.SQL("i.issued_at"), _TIME),
        Field("kind", sql.SQL("i.kind"), FieldKind.ENUM, values=tuple(kind.value for kind in IssuedKind)),
        Field("vo", sql.SQL("v.name"), _TEXT, nullable=True),
        Field("user", sql.SQL("u.name"), _TEXT, nullable=True),
        Field("client_id", sql.SQL("i.client_id"), _TEXT),
        Field("session_id", sql.SQL("i.session_id"), FieldKind.UUID, nullable=True),
        Field("name", sql.SQL("i.name"), _TEXT),
        Field("audience", sql.SQL("array_to_string(i.audience, ' ')"), _TEXT),
        Field("scopes", sql.SQL("array_to_string(i.scopes, ' ')"), _TEXT),
        Field("expires_at", sql.SQL("i.expires_at"), _TIME, nullable=True),
        Field("address", sql.SQL("i.address"), _TEXT),
        Field("facts", sql.SQL("i.facts"), _TEXT, sortable=False, summable=False, ops=frozenset()),
    ]
)

MEMBERS = Fields(
    [
        Field("user", sql.SQL("u.name"), _TEXT),
        Field("full_name", sql.SQL("u.full_name"), _TEXT),
        Field("email", sql.SQL("u.email"), _TEXT),
        Field("groups", sql.SQL("u.groups"), _TEXT),
        Field("origin", sql.SQL("u.origin"), _TEXT),
        Field("suspended", sql.SQL("u.suspended"), FieldKind.BOOLEAN),
    ]
)

SUSPENSIONS = Fields(
    [
        Field("suspension_id", sql.SQL("s.suspension_id"), FieldKind.INTEGER),
        Field("user", sql.SQL("u.name"), _TEXT),
        Field("vo", sql.SQL("v.name"), _TEXT, nullable=True),
        Field("reason", sql.SQL("s.reason"), _TEXT),
        Field("suspended_by", sql.SQL("s.suspended_by"), _TEXT),
        Field("suspended_at", sql.SQL("s.suspended_at"), _TIME),
        Field("ends_at", sql.SQL("s.ends_at"), _TIME, nullable=True),
        Field("lifted_by", sql.SQL("s.lifted_by"), _TEXT, nullable=True),
        Field("lifted_at", sql.SQL("s.lifted_at"), _TIME, nullable=True),
    ]
)


class FoundSession(msgspec.Struct, frozen=True, kw_only=True):
    session_id: UUID
    vo_id: int
    user_id: int
    over: bool


class FoundUser(msgspec.Struct, frozen=True, kw_only=True):
    user_id: int
    user: str
    member: bool


async def search(tx: Tx, name: str, page: Page, *, vo_id: int | None, user_id: int | None) -> list[tuple[Any, ...]]:
    """The rows of one of the lists of search.sql, in one VO or, without, in all; of one user or, without, of all."""
    query = sql.SQL(getattr(LISTS, name)).format(**page.parts)
    return await fetch_rows(tx, query, {**page.params, "vo_id": vo_id, "user_id": user_id})


async def list_sessions(tx: Tx, session_ids: Sequence[UUID]) -> list[FoundSession]:
    return await fetch(tx, FoundSession, Q.list_sessions_of_ids, {"session_ids": list(session_ids)})


async def list_other_sessions(tx: Tx, user_id: int, session_id: UUID | None) -> list[UUID]:
    rows = await fetch_rows(tx, Q.list_other_sessions, {"user_id": user_id, "session_id": session_id})
    return [row[0] for row in rows]


async def end_sessions(tx: Tx, session_ids: Sequence[UUID], ended_by: str) -> list[UUID]:
    """Those that were open."""
    rows = await fetch_rows(tx, Q.end_sessions, {"session_ids": list(session_ids), "ended_by": ended_by})
    return [row[0] for row in rows]


async def find_users(tx: Tx, vo_id: int, users: Sequence[str]) -> list[FoundUser]:
    return await fetch(tx, FoundUser, Q.find_users, {"vo_id": vo_id, "users": list(users)})


async def suspend(
    tx: Tx, user_ids: Sequence[int], vo_id: int | None, reason: str, by: str, ends_at: datetime | None
) -> None:
    """In the VO, or without one everywhere; their sessions end, and where it is everywhere their browsers' too."""
    whom = {"user_ids": list(user_ids), "vo_id": vo_id}
    await execute(tx, Q.insert_suspensions, {**whom, "reason": reason, "by": by, "ends_at": ends_at})
    await execute(tx, Q.end_sessions_of_users, whom)
    if vo_id is None:
        await execute(tx, Q.delete_browser_sessions_of_users, {"user_ids": list(user_ids)})


async def lift(tx: Tx, user_ids: Sequence[int], vo_id: int | None, by: str) -> set[int]:
    """The users who were suspended so."""
    rows = await fetch_rows(tx, Q.lift_suspensions, {"user_ids": list(user_ids), "vo_id": vo_id, "by": by})
    return {row[0] for row in rows}
