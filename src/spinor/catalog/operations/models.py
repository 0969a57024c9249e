"""What can be asked for in the background, and how far it is."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import msgspec

from spinor.catalog.access.models import AccessChange, AclEntry, AclName, Bits
from spinor.catalog.models import BytesFate, MetadataValue
from spinor.types import SEName

Key = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class OperationState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    DONE = "done"
    FAILED = "failed"


ENDED = frozenset({OperationState.CANCELLED, OperationState.DONE, OperationState.FAILED})


class Target(StrEnum):
    """Whose metadata change: all files of the trees, or all their directories."""

    FILES = "files"
    DIRECTORIES = "directories"


class OnTrees(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """`paths` are directories, with all that is below them, or single files. A request that is repeated with the same
    `idempotency_key` starts nothing new. `dry_run` counts and tells what would be refused, and changes nothing."""

    paths: Annotated[list[str], msgspec.Meta(min_length=1, max_length=1000)]
    dry_run: bool = False
    idempotency_key: Key | None = None


class Remove(OnTrees, frozen=True, kw_only=True, tag="remove"):
    """With `where` only the files that it names go, and no directory."""

    bytes: BytesFate = BytesFate.DELETE
    where: str = ""


class SetMetadata(OnTrees, frozen=True, kw_only=True, tag="set-metadata"):
    set: dict[str, MetadataValue] = {}
    unset: list[str] = []
    target: Target = Target.FILES
    where: str = ""


class Rehost(OnTrees, frozen=True, kw_only=True, tag="rehost"):
    """The bytes lie on `to_se` now, under the same PFNs as on `from_se`; or, with `from_prefix`, those PFNs begin with
    `to_prefix` there in its place."""

    from_se: SEName
    to_se: SEName
    from_prefix: str = ""
    to_prefix: str = ""


class RebuildUsage(OnTrees, frozen=True, kw_only=True, tag="rebuild-usage"):
    """Count the files of each directory anew. Each counter that was wrong is told as a refusal, and corrected."""


class ChangeAccess(OnTrees, frozen=True, kw_only=True):
    """The same change for all files and directories; the fields are those of AccessChange."""

    owner: str | None = None
    group: str | None = None
    mode: Bits | str | None = None
    acl: list[AclEntry] | None = None
    acl_set: list[AclEntry] = []
    acl_drop: list[AclName] = []
    default_acl: list[AclEntry] | None = None
    default_acl_set: list[AclEntry] = []
    default_acl_drop: list[AclName] = []

    @property
    def change(self) -> AccessChange:
        return AccessChange(**{name: getattr(self, name) for name in AccessChange.__struct_fields__})


class Chmod(ChangeAccess, frozen=True, kw_only=True, tag="chmod"):
    pass


class Chown(ChangeAccess, frozen=True, kw_only=True, tag="chown"):
    pass


class Chgrp(ChangeAccess, frozen=True, kw_only=True, tag="chgrp"):
    pass


class Setfacl(ChangeAccess, frozen=True, kw_only=True, tag="setfacl"):
    pass


Request = Remove | SetMetadata | Rehost | RebuildUsage | Chmod | Chown | Chgrp | Setfacl


class WaitingBytes(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of removed files of the VO that are still to be deleted from a storage element; `error` is the newest."""

    se: str
    names: int
    error: str | None


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """Totals are those that the counters of the trees said when it was asked for."""

    operation_id: int
    kind: str
    state: OperationState
    user: str
    group: str
    arguments: dict[str, Any]
    total_files: int
    total_bytes: int
    total_directories: int
    done_files: int
    done_bytes: int
    done_directories: int
    refused: int
    slices: int
    files_per_s: float | None
    left_s: float | None
    error: str
    created_at: datetime
    started_at: datetime | None
    updated_at: datetime
    ended_at: datetime | None


class OperationShown(Operation, frozen=True, kw_only=True):
    waiting_bytes: list[WaitingBytes] = []  # Of removals only, and when asked for.


class ShowQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`waiting`: also what still waits on the storages, which costs more than the rest."""

    waiting: bool = False


class OperationSearch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Newest first. Without `states` all of them; of others than the caller's only with files:manage."""

    states: list[OperationState] = []
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1000
    after: str | None = None


class OperationPage(msgspec.Struct, frozen=True, kw_only=True):
    rows: list[Operation]
    next: str | None = None


class OperationIds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    ids: Annotated[list[int], msgspec.Meta(max_length=10_000)]


class OperationRefusal(msgspec.Struct, frozen=True, kw_only=True):
    number: int
    lfn: str
    code: str
    reason: str


class RefusalQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    after: Annotated[int, msgspec.Meta(ge=0)] = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1000


class RefusalPage(msgspec.Struct, frozen=True, kw_only=True):
    """`refused` counts all; up to ten thousand of them are kept one by one."""

    refused: int
    rows: list[OperationRefusal]
    next: int | None = None
