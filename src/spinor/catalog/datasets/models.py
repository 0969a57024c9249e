"""The nouns of datasets, as they travel."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

import msgspec

DatasetName = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
Annotation = Annotated[str, msgspec.Meta(max_length=10_000)]


class DatasetState(StrEnum):
    DYNAMIC = "dynamic"
    FROZEN = "frozen"


class NewDataset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The files below `path` that `query` names, whenever one looks."""

    name: DatasetName
    path: str
    query: str = ""
    annotation: Annotation = ""


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """`files`, `size_bytes` and `digest` are those of `checked_at`; `version` is the newest snapshot's, 0 if none."""

    name: str
    path: str
    query: str
    state: DatasetState
    version: int
    annotation: str
    owner: str | None
    group: str | None
    mode: int
    created_at: datetime
    checked_at: datetime
    files: int
    size_bytes: int
    digest: str


class DatasetSearch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Names that begin so, by name. `after` is the page before's `next`."""

    beginning: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1000
    after: str | None = None


class DatasetPage(msgspec.Struct, frozen=True, kw_only=True):
    rows: list[Dataset]
    next: str | None = None


class DatasetNames(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    names: list[DatasetName]


class AnnotateDatasets(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    names: list[DatasetName]
    annotation: Annotation


class FreezeDatasets(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    names: list[DatasetName]
    annotation: Annotation = ""  # Of the new versions.


class RenameDataset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: DatasetName
    to: DatasetName


class DatasetCheck(msgspec.Struct, frozen=True, kw_only=True):
    """What the query finds now, for the caller, beside what was noted at `checked_at`. `gone` counts the files of the
    newest version that are no longer there."""

    name: str
    state: DatasetState
    changed: bool
    checked_at: datetime
    files: int
    files_now: int
    size_bytes: int
    size_bytes_now: int
    digest: str
    digest_now: str
    gone: int


class DatasetVersion(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    version: int
    query: str
    frozen_at: datetime
    frozen_by: str
    annotation: str
    files: int
    size_bytes: int
    digest: str


class DatasetFiles(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Without `version`: what the query finds now, or the newest version's files when the dataset is frozen."""

    name: DatasetName
    version: Annotated[int, msgspec.Meta(ge=1)] | None = None


class DatasetFile(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a dataset's files. `is_there`: whether the file of a version still exists, under whatever name."""

    lfn: str
    size_bytes: int
    adler32: str | None
    file_id: int
    is_there: bool = True
