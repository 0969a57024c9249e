"""Who calls, and what they may: the table of scopes, the properties that stand for them, and the caller of a request.

Deny is the default: a route names one scope or says why it is public; a property missing here gives none.
"""

from enum import StrEnum

import msgspec

from spinor.errors import Denied


class Scope(StrEnum):
    """What a token may be used for. The value appears in the token's `scope` claim."""

    SELF_READ = "self:read"  # See who you are.
    CONFIG_READ = "config:read"  # Read the operations data.
    CONFIG_WRITE = "config:write"  # Apply and roll back operations data.
    RESOURCES_READ = "resources:read"  # See sites, computing and storage elements of the VO.
    FILES_READ = "files:read"  # Find and read files of the VO.
    FILES_WRITE = "files:write"  # Register, change and remove files where the directory's mode allows.
    FILES_MANAGE = "files:manage"  # The same, whatever the directory's mode.
    JOBS_READ = "jobs:read"  # See jobs of the VO, their logs and outputs.
    JOBS_SUBMIT = "jobs:submit"  # Submit jobs; kill and reschedule one's own.
    JOBS_MANAGE = "jobs:manage"  # Kill and reschedule any job of the VO.
    PILOTS_READ = "pilots:read"  # See pilots of the VO and their logs.
    PILOTS_MANAGE = "pilots:manage"  # Cancel pilots of the VO.
    PILOT_ACT = "pilot:act"  # Be a pilot: match jobs, report on them. In no property: only enrolment gives it.


_READ = frozenset({Scope.SELF_READ, Scope.RESOURCES_READ, Scope.FILES_READ, Scope.JOBS_READ, Scope.PILOTS_READ})

SCOPES_BY_PROPERTY: dict[str, frozenset[Scope]] = {
    "normal_user": _READ | {Scope.FILES_WRITE, Scope.JOBS_SUBMIT},
    "job_monitor": _READ,
    "job_administrator": _READ | {Scope.JOBS_MANAGE},
    "file_catalog_management": _READ | {Scope.FILES_WRITE, Scope.FILES_MANAGE},
    "pilot_administrator": _READ | {Scope.PILOTS_MANAGE},
    "configuration_administrator": frozenset({Scope.SELF_READ, Scope.CONFIG_READ, Scope.CONFIG_WRITE}),
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
    """The scopes that a group's properties stand for; unknown properties give none."""
    return frozenset().union(*(SCOPES_BY_PROPERTY.get(name, frozenset()) for name in properties))
