"""The catalog's nouns, as they travel."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import msgspec

from spinor.types import LFN, PFN, SEName

Adler32 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{8}$")]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Size = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
MetadataValue = str | int | float | bool


class ReplicaStatus(StrEnum):
    AVAILABLE = "available"
    SUSPECT = "suspect"  # Doubtful, being looked at; its address is told only when asked for.
    UNAVAILABLE = "unavailable"
    REMOVING = "removing"


class FileStatus(StrEnum):
    AVAILABLE = "available"
    SUSPECT = "suspect"
    UNAVAILABLE = "unavailable"


class RegisterOutcome(StrEnum):
    REGISTERED = "registered"  # The file is new.
    REPLICA_ADDED = "replica_added"  # The file was there, equal, and has one more replica now.
    ALREADY = "already"  # The file and this replica were there, equal.


class BytesFate(StrEnum):
    """What becomes of the bytes of a removed file."""

    DELETE = "delete"
    KEEP = "keep"


class EntryKind(StrEnum):
    DIRECTORY = "directory"
    FILE = "file"


class MetadataType(StrEnum):
    INTEGER = "integer"
    FLOAT = "float"
    TEXT = "text"
    BOOLEAN = "boolean"
    TIMESTAMP = "timestamp"  # RFC 3339; kept in UTC.


class NewFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file whose bytes lie on a storage element. Without a `pfn` they lie at its directory's location there."""

    lfn: LFN
    se: SEName
    size_bytes: Size
    adler32: Adler32 | None = None
    sha256: Sha256 | None = None
    guid: UUID | None = None
    pfn: PFN | None = None
    metadata: dict[str, MetadataValue] = {}  # Of a new file; one that is there keeps its own.
    ancestors: list[LFN] = []  # The files it was made from, which may be in the same call; of a new file, too.


class Registered(msgspec.Struct, frozen=True, kw_only=True):
    lfn: LFN
    file_id: int
    outcome: RegisterOutcome


class FileStat(msgspec.Struct, frozen=True, kw_only=True):
    lfn: LFN
    file_id: int
    size_bytes: int
    adler32: str | None
    sha256: str | None
    guid: UUID
    owner: str
    group: str
    mode: int
    acl: bool  # Whether more than the mode says who may do what.
    created_at: datetime
    modified_at: datetime
    status: FileStatus
    storage_elements: list[str]


class LocatedReplica(msgspec.Struct, frozen=True, gc=False):
    """Where one replica of a file lies; the PFN is relative to the root of its storage element."""

    se_id: int
    pfn: PFN
    status: ReplicaStatus


class LocatedFile(msgspec.Struct, frozen=True, gc=False):
    lfn: LFN
    file_id: int
    size_bytes: int
    adler32: str | None
    sha256: str | None
    replicas: list[LocatedReplica]


class ListRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`glob` filters the names: `*` is any run of characters, `?` any one. `after` is the page before's `next`."""

    path: str
    glob: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1000
    after: str | None = None


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a listing. A directory's size is that of the files directly inside."""

    name: str
    lfn: str
    kind: EntryKind
    size_bytes: int
    files: int | None = None  # Of a directory.
    adler32: str | None = None
    owner: str | None = None
    group: str | None = None
    mode: int
    acl: bool  # Whether more than the mode says who may do what.
    created_at: datetime


class EntryPage(msgspec.Struct, frozen=True, kw_only=True):
    rows: list[Entry]
    next: str | None = None


class EncodedPage(msgspec.Struct, frozen=True, kw_only=True):
    """An EntryPage whose rows are JSON already."""

    rows: msgspec.Raw
    next: str | None = None


class FindRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`where` is a text of the query language, or its JSON form."""

    path: str
    where: str | dict[str, Any] = ""
    sort: list[str] = []
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1000
    after: str | None = None
    fields: list[str] = []


class FoundPage(msgspec.Struct, frozen=True, kw_only=True):
    """Each row has its `lfn`, its `size_bytes` and the fields that were asked for."""

    rows: list[dict[str, Any]]
    next: str | None = None


class Paths(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    paths: list[str]


class Contents(StrEnum):
    """What a directory may have in it to be removed."""

    ANYTHING = "anything"
    DIRECTORIES = "directories"  # And no file, at any depth.
    NOTHING = "nothing"


class RemoveRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`recursive` lets a path be a directory, which goes with all that is below it."""

    paths: list[str]
    recursive: bool = False
    contents: Contents = Contents.ANYTHING
    bytes: BytesFate = BytesFate.DELETE


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    code: str
    reason: str


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    done: list[str]
    refused: list[Refusal]


class Move(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From one path to another; when the target is a directory, into it."""

    source: str
    target: str


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    source: str
    target: str
    kind: EntryKind


class MetadataChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same change for each of the paths, which may be files and directories. What is unset may be absent."""

    paths: list[str]
    set: dict[str, MetadataValue] = {}
    unset: list[str] = []


class MetadataShown(msgspec.Struct, frozen=True, kw_only=True):
    """`own` is set at the path itself; `inherited` comes from the directories above, the nearest one first."""

    path: str
    kind: EntryKind
    own: dict[str, Any]
    inherited: dict[str, Any]
    origins: dict[str, str]  # Inherited key -> the directory where it is set.


class MetadataKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    type: MetadataType


class SEUsage(msgspec.Struct, frozen=True, kw_only=True):
    se: str
    files: int
    size_bytes: int


class OwnerUsage(msgspec.Struct, frozen=True, kw_only=True):
    owner: str
    files: int
    size_bytes: int


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """All that lies at and below a path. A file with two replicas counts once, and once on each storage element and
    for its owner."""

    path: str
    directories: int
    files: int
    size_bytes: int
    storage_elements: list[SEUsage]
    owners: list[OwnerUsage]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    lfn: str
    field: str
    catalog: str
    given: str


class BatchRefusal(msgspec.Struct, frozen=True, kw_only=True):
    lfn: str
    reason: str


class BatchRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the batch's paths hang: below `directory` in the catalog, below `prefix` on the storage element.

    Without `prefix` the bytes of a file lie at its own path. `se` is for rows that name no storage element.
    """

    directory: str
    se: SEName | None = None
    prefix: str | None = None


class BatchCounts(msgspec.Struct, frozen=True, kw_only=True):
    """`registered` are new files and new replicas of equal files; `already` were there, equal."""

    registered: int
    already: int
    differing: list[Difference]
    refused: list[BatchRefusal]


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """Who may do what with a file or directory. No owner: the VO; no group: every group of the VO.

    `acl` and `default_acl` are in the form that `rules.write_acl` gives, with ids for names.
    """

    access_id: int = 0  # 0: not stored yet.
    owner_id: int | None
    group_id: int | None
    mode: int
    acl: str = ""
    default_acl: str = ""


class DirectoryRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`after` is the page before's `next`."""

    path: str
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1000
    after: str | None = None


class DirectoryCount(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    files: int


class DirectoryPage(msgspec.Struct, frozen=True, kw_only=True):
    rows: list[DirectoryCount]
    next: str | None = None


class ExceededQuota(msgspec.Struct, frozen=True, kw_only=True):
    """Whose quota it is (an owner's, a tree's, a storage element's, or of these together), and what is used."""

    owner: str | None
    path: str | None
    se: str | None
    max_files: int | None
    max_bytes: int | None
    files: int
    size_bytes: int
