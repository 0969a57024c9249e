"""Quotas as they travel."""

from typing import Annotated

import msgspec

Limit = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class QuotaSubject(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For whom or what: a user's files, what lies below a directory, on a storage element, or all that is named."""

    user: str | None = None
    directory: str | None = None
    se: str | None = None


class QuotaSetting(QuotaSubject, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A quota as it is to be: a limit that is left out is none. A file with two replicas counts twice."""

    max_files: Limit | None = None
    max_bytes: Limit | None = None


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """A quota, and what is used of it now."""

    user: str | None
    directory: str | None
    se: str | None
    max_files: int | None
    max_bytes: int | None
    files: int
    size_bytes: int
