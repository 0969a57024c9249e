"""The request for one page of a list."""

from typing import Annotated

import msgspec

MAX_LIMIT = 10_000
MAX_SORT = 16
MAX_FIELDS = 500


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """`sort` names fields, `-name` descending; `after` is the token that came with the page before."""

    where: str = ""
    sort: list[str] = []
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_LIMIT)] = 100
    after: str | None = None
    fields: list[str] | None = None
