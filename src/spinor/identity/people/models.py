"""What lists of people, sessions, suspensions and issued credentials show, and what is asked of them."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta

from spinor.identity.models import SessionKind
from spinor.search.models import Search

Reason = Annotated[str, Meta(min_length=1, max_length=1000)]


class Whose(StrEnum):
    """Whose rows are looked at."""

    MINE = "mine"
    VO = "vo"  # Of everybody in the VO; needs members:manage.
    ALL = "all"  # Of every VO; needs identity:manage.


class SearchOf(Search, frozen=True, kw_only=True):
    whose: Whose = Whose.MINE


class SessionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One sign-in. It is open while `ended_at` is empty and `expires_at` is to come."""

    session_id: UUID
    kind: SessionKind
    vo: str
    user: str
    group: str
    client_id: str
    signed_in_by: str
    address: str
    user_agent: str
    opened_at: datetime
    used_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    ended_by: str | None


class SessionPage(msgspec.Struct, frozen=True, kw_only=True):
    rows: list[dict[str, Any]]
    next: str | None


class EndSessions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sessions to end, or with `others` all of one's own but the one that asks."""

    session_ids: Annotated[list[UUID], Meta(max_length=1000)] = []
    others: bool = False


class RefusedSession(msgspec.Struct, frozen=True, kw_only=True):
    session_id: UUID
    code: str
    detail: str


class EndedSessions(msgspec.Struct, frozen=True, kw_only=True):
    done: list[UUID]
    refused: list[RefusedSession]


class IssuedRow(msgspec.Struct, frozen=True, kw_only=True):
    """A credential that was issued: to whom, for what, until when. Never the credential."""

    issued_id: int
    issued_at: datetime
    kind: str
    vo: str | None
    user: str | None
    client_id: str
    session_id: UUID | None
    name: str
    audience: str
    scopes: str
    expires_at: datetime | None
    address: str
    facts: dict[str, Any] = {}


class IssuedPage(msgspec.Struct, frozen=True, kw_only=True):
    rows: list[dict[str, Any]]
    next: str | None


class MemberRow(msgspec.Struct, frozen=True, kw_only=True):
    """A member of the VO."""

    user: str
    full_name: str
    email: str
    groups: str
    origin: str
    suspended: bool


class MemberPage(msgspec.Struct, frozen=True, kw_only=True):
    rows: list[dict[str, Any]]
    next: str | None


class SuspensionRow(msgspec.Struct, frozen=True, kw_only=True):
    """A suspension; without a VO it is a ban from all of them."""

    suspension_id: int
    user: str
    vo: str | None
    reason: str
    suspended_by: str
    suspended_at: datetime
    ends_at: datetime | None
    lifted_by: str | None
    lifted_at: datetime | None


class SuspensionPage(msgspec.Struct, frozen=True, kw_only=True):
    rows: list[dict[str, Any]]
    next: str | None


class Suspend(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Users to suspend in the caller's VO, or with `everywhere` in every VO: a ban."""

    users: Annotated[list[str], Meta(min_length=1, max_length=1000)]
    reason: Reason
    everywhere: bool = False
    ends_at: datetime | None = None  # None: until it is lifted.


class Reinstate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Users whose suspension is lifted, in the caller's VO or with `everywhere` the ban."""

    users: Annotated[list[str], Meta(min_length=1, max_length=1000)]
    everywhere: bool = False


class RefusedUser(msgspec.Struct, frozen=True, kw_only=True):
    user: str
    code: str
    detail: str


class UserOutcome(msgspec.Struct, frozen=True, kw_only=True):
    done: list[str]
    refused: list[RefusedUser]
