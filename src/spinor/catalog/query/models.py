"""What queries are asked and answer with."""

from typing import Annotated, Any

import msgspec

MAX_FACETS = 16
MAX_FACET_VALUES = 10_000


class Query(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The files at and below a path that `where` names: a text of the query language, or its JSON form."""

    path: str
    where: str | dict[str, Any] = ""


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    files: int
    size_bytes: int


class FacetQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`limit` is how many values of each key are shown, those with the most files first."""

    path: str
    where: str | dict[str, Any] = ""
    keys: Annotated[list[str], msgspec.Meta(min_length=1, max_length=MAX_FACETS)]
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_FACET_VALUES)] = 100


class FacetValue(msgspec.Struct, frozen=True, kw_only=True):
    """`value` is null for files that have none. A file on two storage elements counts for each."""

    value: Any
    files: int


class Facet(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    values: list[FacetValue]
    complete: bool  # Whether these are all values there are.


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One node of PostgreSQL's plan; `depth` counts from 0."""

    depth: int
    node: str
    relation: str | None = None
    index: str | None = None
    condition: str | None = None
    rows: int  # As PostgreSQL estimates them.


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """How a query is answered. `where` is how it was understood."""

    where: str
    way: list[str]
    indexes: list[str]
    directories: int  # Estimated, as are the files.
    files: int
    plan: list[Step]


class Undeclared(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    names: list[str]
