"""Addresses of bytes, as they travel."""

from typing import Annotated

import msgspec

from spinor.catalog.models import ReplicaStatus
from spinor.types import LFN, PFN, SEName


class ReplicaAddress(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    se: SEName
    url: str
    status: ReplicaStatus = ReplicaStatus.AVAILABLE


class FileReplicas(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A file with the addresses of its readable replicas, or of all when that was asked. `out_of_use` says why others
    may not be read now."""

    lfn: LFN
    size_bytes: int
    adler32: str | None
    sha256: str | None
    replicas: list[ReplicaAddress]
    out_of_use: list[str] = []


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where the bytes of a new file are to go: write to `url`, then register with `pfn`."""

    lfn: LFN
    se: SEName
    pfn: PFN
    url: str


class ReplicasRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Without `all_statuses` only replicas that can be read are told."""

    lfns: list[str]
    all_statuses: bool = False


class DirectoryReplicasRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`after` is the page before's `next`."""

    path: str
    all_statuses: bool = False
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1000
    after: str | None = None


class ReplicasPage(msgspec.Struct, frozen=True, kw_only=True):
    rows: list[FileReplicas]
    next: str | None = None


class PlaceRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    se: SEName
    lfns: list[str]
