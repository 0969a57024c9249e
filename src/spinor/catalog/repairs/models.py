"""Repairs as they travel."""

from typing import Annotated

import msgspec

from spinor.catalog.fsck.changes import (
    AddReplica,
    ClearChecksum,
    Register,
    RemoveReplica,
    SetChecksum,
    SetStatus,
    Unregister,
)
from spinor.types import PFN

DAY_S = 86_400
MOST = 10_000
ALREADY = "already"  # The code of a refusal: it is so without this change.

FileChange = Register | Unregister | AddReplica | RemoveReplica | SetStatus | SetChecksum | ClearChecksum


class PFNs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pfns: Annotated[list[PFN], msgspec.Meta(max_length=MOST)]


class QueueRemovals(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bytes stay for `delay_s` from now, and for so long their removal can be cancelled."""

    pfns: Annotated[list[PFN], msgspec.Meta(max_length=MOST)]
    delay_s: Annotated[int, msgspec.Meta(ge=0, le=365 * DAY_S)] = DAY_S


class ReplicasQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`path` is the top of what is told."""

    path: str | None = None


class Repairs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of them of one kind."""

    changes: Annotated[list[FileChange], msgspec.Meta(max_length=1000)]


class RefusedRepair(msgspec.Struct, frozen=True, kw_only=True):
    """`n` counts the changes from 0. The code `already` says that it is so without this change."""

    n: int
    code: str
    reason: str


class Repaired(msgspec.Struct, frozen=True, kw_only=True):
    done: int
    refused: list[RefusedRepair]
