"""Pure decisions about identity: which caller a member is, which role a sign-in means, what a token must say."""

import re
from collections.abc import Sequence
from uuid import UUID

from spinor.access import Caller, Scope, scopes_of
from spinor.errors import BadInput, Denied, NotSignedIn
from spinor.identity.models import Member

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,62}")


class RoleUnclear(BadInput):
    """You have several roles; say which one with --vo and --group."""

    code = "role-unclear"


class NoSuchRole(Denied):
    """You do not have this role."""

    code = "no-such-role"


class MembershipEnded(NotSignedIn):
    """The user, the group or the VO of this token is no longer in the operations data; ask its administrators."""

    code = "membership-ended"


class Suspended(NotSignedIn):
    """You are suspended; ask the administrators of your VO or of this service."""

    code = "suspended"


class SessionEnded(NotSignedIn):
    """This sign-in has ended; run `spinor login`."""

    code = "session-ended"


def caller_from(member: Member, granted: frozenset[str] | None = None, session_id: UUID | None = None) -> Caller:
    """The caller with the group's present scopes, or with those of them that were granted."""
    scopes: frozenset[str] = frozenset(scope.value for scope in scopes_of(member.properties))
    return Caller(
        vo_id=member.vo_id,
        vo=member.vo,
        user_id=member.user_id,
        user=member.user,
        group_id=member.group_id,
        group=member.group,
        scopes=scopes if granted is None else scopes & granted,
        session_id=session_id,
    )


def pilot_caller(vo_id: int, vo: str, pilot_id: int) -> Caller:
    """A pilot belongs to a VO and to no person: its user and group have the number 0, which no row has."""
    return Caller(
        vo_id=vo_id,
        vo=vo,
        user_id=0,
        user=f"pilot:{pilot_id}",
        group_id=0,
        group="",
        scopes=frozenset({Scope.PILOT_ACT.value}),
        pilot_id=pilot_id,
    )


def chosen_role(members: Sequence[Member], vo: str, group: str) -> Member:
    """The role that a sign-in means. Without a group it is the VO's first one for everyday work."""
    if not members:
        raise NoSuchRole("You are in no group of any VO; ask the administrators of your VO.")
    if all(m.suspended for m in members):
        raise Suspended
    members = [m for m in members if not m.suspended]
    fitting = [m for m in members if vo in ("", m.vo) and group in ("", m.group)]
    if not fitting:
        known = ", ".join(f"{m.vo}/{m.group}" for m in members)
        asked = "/".join(part for part in (vo, group) if part)
        raise NoSuchRole(f"You have no role {asked!r}; your roles are: {known}.", vo=vo, group=group)
    vos = sorted({m.vo for m in fitting})
    if len(vos) > 1:
        raise RoleUnclear(f"You belong to the VOs {', '.join(vos)}; say which one with --vo.", vos=vos)
    return next((m for m in fitting if "normal_user" in m.properties), fitting[0])


def narrowed_scopes(asked: str, allowed: frozenset[str]) -> frozenset[str] | None:
    """The scopes asked for, all of them when none is named, or None when one of them is not allowed."""
    wanted = frozenset(asked.split())
    if not wanted:
        return allowed
    return wanted if wanted <= allowed else None
