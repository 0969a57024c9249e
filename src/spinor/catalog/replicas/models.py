"""Replicas and what is asked of them, as they travel."""

from uuid import UUID

import msgspec

from spinor.catalog.models import Adler32, BytesFate, EntryKind, FileStatus, ReplicaStatus, Sha256
from spinor.types import LFN, PFN, SEName


class ReplicaName(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    lfn: LFN
    se: SEName


class NewReplica(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file's bytes on one more storage element. Without a `pfn` they lie at its directory's location there."""

    lfn: LFN
    se: SEName
    pfn: PFN | None = None


class RemoveReplicas(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`last` lets the last replica of a file go too."""

    replicas: list[ReplicaName]
    bytes: BytesFate = BytesFate.DELETE
    last: bool = False


class ReplicaStatusChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    replicas: list[ReplicaName]
    status: ReplicaStatus


class Rehosting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same bytes, under the same PFN, are on another storage element now: `to`."""

    replicas: list[ReplicaName]
    to: SEName


class FileStatusChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    paths: list[LFN]
    status: FileStatus


class Checksums(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    lfn: LFN
    adler32: Adler32 | None = None
    sha256: Sha256 | None = None


class ChecksumsFilled(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    files: list[Checksums]


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """How many of what was named are otherwise now than before."""

    changed: int


class Existing(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    kind: EntryKind | None  # None: there is nothing of this name.


class Guids(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    guids: list[UUID]


class GuidOwner(msgspec.Struct, frozen=True, kw_only=True):
    guid: UUID
    lfn: LFN | None  # None: no file that you may read has this guid.
