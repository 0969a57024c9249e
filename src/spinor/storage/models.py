"""Addresses of bytes, as they travel."""

import msgspec

from spinor.types import LFN, PFN, SEName


class ReplicaAddress(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    se: SEName
    url: str


class FileReplicas(msgspec.Struct, frozen=True, kw_only=True):
    """A file with the addresses of its readable replicas."""

    lfn: LFN
    size_bytes: int
    adler32: str | None
    sha256: str | None
    replicas: list[ReplicaAddress]


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where the bytes of a new file are to go: write to `url`, then register with `pfn`."""

    lfn: LFN
    se: SEName
    pfn: PFN
    url: str


class LFNs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    lfns: list[str]


class PlaceRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    se: SEName
    lfns: list[str]
