"""Pure: whether a storage element may be used for what is to be done there, and why not."""

from collections.abc import Mapping
from datetime import UTC
from typing import Protocol

from spinor.access import Caller, Scope
from spinor.resources.status.models import Access, HeldAccess, Status

_DOING = {
    Access.READ: "reading from",
    Access.WRITE: "writing to",
    Access.CHECK: "checking",
    Access.REMOVE: "removing from",
}


class Storage(Protocol):
    """What this asks of a storage element."""

    @property
    def name(self) -> str: ...
    @property
    def held(self) -> Mapping[Access, HeldAccess]: ...


def why_not(element: Storage, access: Access, caller: Caller | None = None) -> str:
    """In words why it may not be used so; empty when it may. What is probing may be used by those who look after sites:
    they find out whether it works."""
    held = element.held.get(access)
    if held is None or held.status is Status.DEGRADED:
        return ""
    if held.status is Status.PROBING and caller is not None and caller.may(Scope.RESOURCES_MANAGE):
        return ""
    until = f" until {held.until.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if held.until else ""
    by = f" by {held.actor}" if held.actor else ""
    reason = f" ({held.reason})" if held.reason else ""
    return f"{_DOING[access]} {element.name} is {held.status.value}{until}{by}{reason}"


def is_degraded(element: Storage, access: Access) -> bool:
    """Whether another one goes before it."""
    held = element.held.get(access)
    return held is not None and held.status is Status.DEGRADED
