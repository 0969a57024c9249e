"""What jobs leave behind and what can be seen of them while they run: sandboxes, use over time, files, events."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from spinor.jobs.models.states import JobStatus, LogStream
from spinor.jobs.models.work import NonNegative, SandboxRef

MAX_PEEK_BYTES = 1024 * 1024

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]

# ------------------------------------------------------------------------------------------------------- sandboxes


class BeginUpload(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sandbox that is about to be sent in parts."""

    sha256: Sha256
    size_bytes: Annotated[int, Meta(ge=1)]


class Upload(Struct, frozen=True, kw_only=True):
    """How far an upload has come. With a `sandbox` it is complete."""

    upload_id: str
    position: int  # Where the next part begins.
    size_bytes: int
    part_bytes: int  # A part may have at most so many.
    sandbox: SandboxRef | None = None


class DownloadQuery(Struct, frozen=True, kw_only=True):
    direct: bool = False  # Also a redirect to the store itself will do, at which no token of ours may be shown.


class SandboxUse(Struct, frozen=True, kw_only=True):
    """What the sandboxes of the VO and of the caller take, unfinished uploads among them; None: there is no quota."""

    limit_bytes: int  # Of one sandbox.
    quota_bytes: int | None
    used_bytes: int
    user_quota_bytes: int | None
    user_used_bytes: int


# ------------------------------------------------------------------------------------------------------- attempts


class Attempt(Struct, frozen=True, kw_only=True):
    """One attempt of a job, the running one among them."""

    attempt: int
    status: str  # How it ended, or the job's own state while it runs.
    error_class: str | None
    minor_status: str
    site: str | None
    computing_element: str | None
    pilot_id: int | None
    node: str
    cores: int
    started_at: datetime | None
    ended_at: datetime | None
    exit_code: int | None
    cpu_s: float | None
    wall_s: float | None
    max_rss_bytes: int | None
    output_sandbox_id: int | None = None
    output_refused: str = ""  # Why its output sandbox was not taken.


class UsagePoint(Struct, frozen=True, kw_only=True):
    """What an attempt had used up to a moment (cpu, io), and used then (memory, disk)."""

    at: datetime
    wall_s: float
    cpu_s: float
    rss_bytes: int
    disk_bytes: int
    read_bytes: int
    written_bytes: int


class Usage(Struct, frozen=True, kw_only=True):
    job_id: int
    attempt: int
    memory_bytes: int  # What the job asked for.
    disk_bytes: int
    cores: int
    points: list[UsagePoint]


class UsageQuery(Struct, frozen=True, kw_only=True):
    attempt: Annotated[int, Meta(ge=1)] | None = None  # None: the newest.


# ------------------------------------------------------------------------------------------------------- peek


class PeekQuery(Struct, frozen=True, kw_only=True):
    """A file or directory of a running job. Without a position: the end of the file."""

    path: Annotated[str, Meta(max_length=4096)] = ""
    position: NonNegative | None = None
    size_bytes: Annotated[int, Meta(ge=1, le=MAX_PEEK_BYTES)] = 65_536
    wait_s: Annotated[float, Meta(ge=0, le=30)] = 15.0


class PeekAsked(Struct, frozen=True, kw_only=True):
    """What the pilot is asked in the answer to its heartbeat."""

    peek_id: int
    job_id: int
    attempt: int
    path: str
    position: int | None
    size_bytes: int


class PeekKind(StrEnum):
    FILE = "file"
    DIRECTORY = "directory"
    REFUSED = "refused"


class EntryKind(StrEnum):
    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    OTHER = "other"


class PeekEntry(Struct, frozen=True, kw_only=True):
    name: Annotated[str, Meta(max_length=4096)]
    kind: EntryKind
    size_bytes: NonNegative
    modified_at: float  # Seconds since 1970, by the node's clock.


class PeekAnswer(Struct, frozen=True, kw_only=True):
    """What the pilot found: part of a file, the entries of a directory, or why neither."""

    peek_id: int
    attempt: int
    kind: PeekKind
    size_bytes: NonNegative = 0  # The file's whole size.
    position: NonNegative = 0  # Where `data` begins in it.
    data: Annotated[bytes, Meta(max_length=MAX_PEEK_BYTES)] = b""
    entries: Annotated[list[PeekEntry], Meta(max_length=1000)] = []
    truncated: bool = False  # There are more entries.
    code: Annotated[str, Meta(max_length=64)] = ""
    detail: Annotated[str, Meta(max_length=1000)] = ""


class Peek(Struct, frozen=True, kw_only=True):
    """A look into the directory of a running job."""

    job_id: int
    attempt: int
    path: str
    kind: PeekKind
    size_bytes: int = 0
    position: int = 0
    data: bytes = b""
    entries: list[PeekEntry] = []
    truncated: bool = False


# ------------------------------------------------------------------------------------------------------- events


class EventQuery(Struct, frozen=True, kw_only=True):
    """Of which jobs; none named: of all jobs of the VO."""

    job_id: list[int] = []
    array_id: list[int] = []
    since: Annotated[str, Meta(max_length=40)] = ""  # As the header Last-Event-ID, for who cannot set one.


class JobEvent(Struct, frozen=True, kw_only=True):
    """A change of a job's state: a row of its history."""

    job_id: int
    at: datetime
    attempt: int
    status: JobStatus
    minor_status: str
    source: str
    reason: str


class LogEventQuery(Struct, frozen=True, kw_only=True):
    stream: LogStream = LogStream.STDOUT
    attempt: Annotated[int, Meta(ge=1)] | None = None  # None: the newest, and those after it.
    since: Annotated[str, Meta(max_length=40)] = ""


class LogEvent(Struct, frozen=True, kw_only=True):
    """New bytes of a log, as text; what is no UTF-8 is replaced. Show it as text, never as HTML."""

    attempt: int
    stream: LogStream
    position: int  # Where the next part starts.
    text: str
