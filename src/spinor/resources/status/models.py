"""The nouns of the status of sites and elements."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta


class Status(StrEnum):
    """From the best to the worst. `spinor.resources.status.rules` holds the transitions between them."""

    ACTIVE = "active"
    DEGRADED = "degraded"  # In use, but after the others.
    PROBING = "probing"  # Nothing goes there but a probe, which brings it back when it succeeds.
    DRAINING = "draining"  # No new pilots; those that are there take no more jobs, and leave when theirs have ended.
    BANNED = "banned"  # The same, and it comes back by a successful probe only.


class ElementKind(StrEnum):
    SITE = "site"
    CE = "ce"
    SE = "se"


class Access(StrEnum):
    """What is done with the bytes on a storage element. Each has a status of its own."""

    READ = "read"
    WRITE = "write"
    CHECK = "check"  # List what is there, and look at it.
    REMOVE = "remove"


class HeldAccess(msgspec.Struct, frozen=True, kw_only=True):
    """Why a kind of access is not active."""

    status: Status
    reason: str = ""
    actor: str = ""
    until: datetime | None = None


class ElementStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for a site or an element. `effective` is the worse of its own status and its site's; storage elements
    have their own only, one for each kind of access."""

    kind: ElementKind
    name: str
    site: str
    access: Access | None = None
    status: Status
    effective: Status
    reason: str = ""
    actor: str = ""
    since: datetime | None = None  # None: it was never anything but active.
    until: datetime | None = None  # Then it ends by itself.
    failed_probes: int = 0  # In a row.
    next_probe_at: datetime | None = None


class StatusChange(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the history."""

    at: datetime
    kind: ElementKind
    name: str
    access: Access | None = None
    old: Status
    status: Status
    reason: str
    actor: str
    until: datetime | None


class StatusQuery(msgspec.Struct, frozen=True, kw_only=True):
    kind: ElementKind | None = None
    name: str = ""


class HistoryQuery(msgspec.Struct, frozen=True, kw_only=True):
    kind: ElementKind | None = None
    name: str = ""
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 100


class ChangeStatus(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`active` asked of what is banned makes it `probing`: the probe decides. Storage elements are active at once.

    `accesses` are those of storage elements; empty: all of them.
    """

    kind: ElementKind
    names: Annotated[list[str], Meta(min_length=1, max_length=10_000)]
    accesses: list[Access] = []
    status: Status
    reason: Annotated[str, Meta(max_length=1000)] = ""
    until: datetime | None = None


class RefusedChange(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    code: str
    detail: str


class StatusesChanged(msgspec.Struct, frozen=True, kw_only=True):
    """What holds now for those that changed, and why the others did not."""

    done: list[ElementStatus]
    refused: list[RefusedChange]


class Present(msgspec.Struct, frozen=True, kw_only=True):
    """A locked row, before a change."""

    name: str
    access: Access | None = None
    site: str
    status: Status
    administrators: list[str]
    failed_probes: int
    actor: str  # Who set it.
    with_elements: bool  # A computing element, or a site that has one: a probe can run there.


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """A change to be written."""

    name: str
    access: Access | None = None
    status: Status
    reason: str
    actor: str
    until: datetime | None = None
    failed_probes: int = 0
    probe_in_s: float | None = None


class DueProbe(msgspec.Struct, frozen=True, kw_only=True):
    """A computing element on which a probe is due, and whose status it decides."""

    kind: ElementKind
    name: str
    ce_id: int
    vo_id: int
