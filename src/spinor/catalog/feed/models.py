"""The nouns of the change feed, as they travel."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec

Seconds60 = Annotated[float, msgspec.Meta(ge=0, le=60)]


class ChangesRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`since` is a position, `start` (of what is kept) or `now`. With `wait_s` an empty answer waits for a change.

    `expand` adds to rows of new files what is known of those that are still there.
    """

    since: str = "start"
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1000
    wait_s: Seconds60 = 0.0
    path: str | None = None
    expand: bool = False


class StreamRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    since: str = "now"
    path: str | None = None
    expand: bool = False


class ChangedFile(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    size_bytes: int
    adler32: str | None
    guid: UUID


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to a directory, or to `files` files directly in it, whose names are `names`; new files are named by
    `expand`. `position` is that after this row. Kinds: see the type catalog.change_kind."""

    position: str
    at: datetime
    kind: str
    path: str
    directory_id: int
    files: int
    names: list[str] | None
    detail: Any
    expanded: list[ChangedFile] | None = None


class ChangePage(msgspec.Struct, frozen=True, kw_only=True):
    """`next` is the position to ask from next time, also after an empty page; `more`: ask again at once."""

    rows: list[Change]
    next: str
    more: bool = False
