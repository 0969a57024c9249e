"""Who calls, and what they may: the table of scopes, the properties that stand for them, and the caller of a request.

Deny is the default: a route names one scope or says why it is public; a property missing here gives none.
"""

from enum import StrEnum
from uuid import UUID

import msgspec

from spinor.errors import Denied


class Scope(StrEnum):
    """What a token may be used for. The value appears in the token's `scope` claim."""

    SELF_READ = "self:read"  # See who you are.
    SELF_WRITE = "self:write"  # End one's own sessions, link and unlink one's own logins.
    PROXIES_USE = "proxies:use"  # Delegate a proxy of one's own, and get one back.
    TOKENS_CREATE = "tokens:create"  # Get tokens for storage and computing elements.
    MEMBERS_MANAGE = "members:manage"  # Let people into the VO, suspend them there, see their sessions and credentials.
    IDENTITY_MANAGE = "identity:manage"  # The same in every VO, and bans.
    CONFIG_READ = "config:read"  # Read the operations data.
    CONFIG_WRITE = "config:write"  # Apply and roll back operations data.
    RESOURCES_READ = "resources:read"  # See sites, computing and storage elements of the VO.
    RESOURCES_MANAGE = "resources:manage"  # Ban, drain and test sites that one looks after.
    RESOURCES_OPERATE = "resources:operate"  # The same for every site.
    FILES_READ = "files:read"  # Find and read files of the VO.
    FILES_WRITE = "files:write"  # Register, change and remove files where the directory's mode allows.
    FILES_MANAGE = "files:manage"  # The same, whatever the directory's mode.
    JOBS_READ = "jobs:read"  # See jobs of the VO, their logs and outputs.
    JOBS_SUBMIT = "jobs:submit"  # Submit jobs; kill and reschedule one's own.
    JOBS_MANAGE = "jobs:manage"  # Kill and reschedule any job of the VO.
    PILOTS_READ = "pilots:read"  # See pilots of the VO and their logs.
    PILOTS_MANAGE = "pilots:manage"  # Cancel pilots of the VO.
    PAYLOAD_ACT = "payload:act"  # Be the payload of one job. In no property: only its pilot is given it.
    PAYLOAD_PROXY = "payload:proxy"  # Get a limited proxy of its owner: a payload whose job asks for that.
    PILOT_ACT = "pilot:act"  # Be a pilot: match jobs, report on them. In no property: only enrolment gives it.


_SELF = frozenset({Scope.SELF_READ, Scope.SELF_WRITE})
_READ = frozenset({Scope.RESOURCES_READ, Scope.FILES_READ, Scope.JOBS_READ, Scope.PILOTS_READ})
_USER = _READ | {Scope.FILES_WRITE, Scope.JOBS_SUBMIT, Scope.PROXIES_USE, Scope.TOKENS_CREATE}

SCOPES_BY_PROPERTY: dict[str, frozenset[Scope]] = {
    "normal_user": _USER,
    "job_monitor": _READ,
    "job_administrator": _READ | {Scope.JOBS_MANAGE},
    "file_catalog_management": _READ | {Scope.FILES_WRITE, Scope.FILES_MANAGE},
    "pilot_administrator": _READ | {Scope.PILOTS_MANAGE},
    "vo_administrator": _READ | {Scope.MEMBERS_MANAGE},
    "operator": _READ | {Scope.MEMBERS_MANAGE, Scope.IDENTITY_MANAGE, Scope.RESOURCES_MANAGE, Scope.RESOURCES_OPERATE},
    "site_administrator": _READ | {Scope.RESOURCES_MANAGE},
    "full_proxy": frozenset(),  # No scope: without it a group gets limited proxies only.
    "configuration_administrator": frozenset({Scope.CONFIG_READ, Scope.CONFIG_WRITE}),
}


class Caller(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The verified origin of one request. Every query over a VO's rows takes `vo_id` from here."""

    vo_id: int
    vo: str
    user_id: int
    user: str
    group_id: int
    group: str
    scopes: frozenset[str]
    session_id: UUID | None = (
        None  # The sign-in behind the token; None for pilots, and for what the service does itself.
    )
    job_id: int | None = None  # Set for payloads only, with the attempt: they act as their owner, for one job.
    attempt: int | None = None
    pilot_id: int | None = None  # Set for pilots only; their user and group are the VO's pilot account.

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes

    def require(self, scope: Scope) -> None:
        if scope not in self.scopes:
            raise Denied(
                f"This needs the scope {scope.value}, which group {self.group!r} of VO {self.vo!r} does not give.",
                scope=scope.value,
                group=self.group,
            )


def scopes_of(properties: list[str]) -> frozenset[Scope]:
    """The scopes that a group's properties stand for, and what everybody may; unknown ones give none."""
    return _SELF.union(*(SCOPES_BY_PROPERTY.get(name, frozenset()) for name in properties))
