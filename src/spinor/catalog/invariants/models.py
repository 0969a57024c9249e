"""Invariants as they travel."""

from enum import StrEnum
from typing import Annotated, Any

import msgspec


class Violation(msgspec.Struct, frozen=True, kw_only=True):
    """`path` is the directory or file meant, as far as it has one; the sentence goes on from there."""

    invariant: str
    directory_id: int
    path: str
    sentence: str


class InvariantsRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`path` is the top of what is looked at; without it, all of the VO. `after` is the slice before's `next`."""

    path: str | None = None
    after: str | None = None


class InvariantsSlice(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in one slice. `more` are the invariants of which more rows are broken than are told here."""

    violations: list[Violation]
    more: list[str]
    directories: int  # That were looked at in this slice.
    files: int  # That these say they have.
    total_files: int | None  # Told by the first slice.
    next: str | None = None


class Recountable(StrEnum):
    """The invariants of what follows from other rows, and can be made right by counting again."""

    COUNTERS = "directories_that_count_wrong"
    USAGE = "usage_that_counts_wrong"
    METADATA = "metadata_that_disagree"
    GATES = "gates_that_disagree"


class RecountRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    invariant: Recountable
    directory_ids: Annotated[list[int], msgspec.Meta(max_length=1000)]


class Recount(msgspec.Struct, frozen=True, kw_only=True):
    """One row that is otherwise now."""

    path: str
    before: dict[str, Any]
    after: dict[str, Any]
