"""What bulk changes of metadata are asked and answer with."""

from typing import Annotated, Any

import msgspec

from spinor.catalog.models import BatchRefusal, MetadataValue

MAX_FILES = 100_000


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """`already` had exactly these values."""

    changed: int
    already: int
    refused: list[BatchRefusal]


class SelectionChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same change for all files that a query names; at most `limit` of them in one call, from `after` on.

    It is the files' own values that change: what a directory says stays.
    """

    path: str
    where: str | dict[str, Any] = ""
    set: dict[str, MetadataValue] = {}
    unset: list[str] = []
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_FILES)] = 20_000
    after: str | None = None


class SelectionDescribed(msgspec.Struct, frozen=True, kw_only=True):
    """`next` is there when the query names more files: send the same change with it as `after`."""

    changed: int
    already: int
    refused: list[BatchRefusal]
    next: str | None = None
