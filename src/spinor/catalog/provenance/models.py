"""The nouns of provenance, as they travel."""

from typing import Annotated

import msgspec

from spinor.types import LFN


class LineageRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Without `depth` the whole lineage."""

    lfns: list[LFN]
    depth: Annotated[int, msgspec.Meta(ge=1)] | None = None


class Relative(msgspec.Struct, frozen=True):
    """`depth` 1 is a direct one; a file that is reached by several ways counts by the shortest."""

    lfn: LFN
    depth: int


class FileAncestors(msgspec.Struct, frozen=True, kw_only=True):
    """The nearest first. Files that the caller may not read are left out."""

    lfn: LFN
    ancestors: list[Relative]


class FileDescendants(msgspec.Struct, frozen=True, kw_only=True):
    """The nearest first. Files that the caller may not read are left out."""

    lfn: LFN
    descendants: list[Relative]


class SetAncestors(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Direct ancestors to add; with `replace` they are all that the file has then."""

    lfn: LFN
    ancestors: list[LFN]
    replace: bool = False
