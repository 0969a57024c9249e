"""The nouns of jobs, shared by server, client and command line."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

DEFAULT_MAX_RESCHEDULES = 3

Scalar = str | int | float | bool
NonNegative = Annotated[int, Meta(ge=0)]


class JobStatus(StrEnum):
    """DIRAC's states. `spinor.jobs.rules` holds the transitions between them."""

    SUBMITTING = "submitting"
    RECEIVED = "received"
    CHECKING = "checking"
    SCOUTING = "scouting"
    STAGING = "staging"
    WAITING = "waiting"
    MATCHED = "matched"
    RUNNING = "running"
    STALLED = "stalled"
    COMPLETING = "completing"
    COMPLETED = "completed"
    DONE = "done"
    FAILED = "failed"
    KILLED = "killed"
    RESCHEDULED = "rescheduled"
    DELETED = "deleted"


class LogStream(StrEnum):
    STDOUT = "stdout"
    STDERR = "stderr"


# ------------------------------------------------------------------------------------------------ what a user writes


class TokenScope(StrEnum):
    """What a payload may be allowed to do over HTTP, in its owner's name."""

    FILES_READ = "files:read"
    FILES_WRITE = "files:write"
    JOBS_READ = "jobs:read"
    JOBS_SUBMIT = "jobs:submit"
    RESOURCES_READ = "resources:read"
    TOKENS_CREATE = "tokens:create"
    PAYLOAD_PROXY = "payload:proxy"


class Progress(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a payload says of itself, for example `event 300 of 1000`."""

    text: Annotated[str, Meta(max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")]


class OutputData(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file that the job leaves behind, and where it goes."""

    path: str  # In the job's directory.
    lfn: str
    se: str


class JobSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A job description, as written in YAML or JSON: docs/reference/job-description.md.

    `{name}` in a string stands for this job's value of the parameter, or for `index`, `job_id` or `array_id`.
    """

    executable: str
    arguments: list[Scalar] = []
    environment: dict[str, Scalar] = {}
    name: str = ""
    input_sandbox: list[str] = []  # Local paths: the client packs and uploads them, and sends `input_sandboxes`.
    input_sandboxes: list[int] = []
    input_data: list[str] = []  # LFNs.
    output_sandbox: list[str] = []  # Patterns of files in the job's directory.
    output_data: list[OutputData] = []
    parameters: dict[str, list[Any]] = {}
    cores: Annotated[int, Meta(ge=1, le=1024)] = 1
    memory_bytes: int | str = 1_000_000_000  # Also "2GB".
    disk_bytes: int | str = 1_000_000_000
    wall_s: int | str = 1800  # Also "90m".
    site: str = ""  # The same as `sites` with one entry.
    sites: list[str] = []
    tags: list[str] = []
    priority: Annotated[int, Meta(ge=0, le=9)] = 5
    token_scopes: list[TokenScope] = []  # What the payload's own token may do beside reporting on its job.
    max_reschedules: Annotated[int, Meta(ge=0, le=100)] = DEFAULT_MAX_RESCHEDULES


class SubmitJobs(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Each description becomes one array; all are accepted, or none."""

    specs: Annotated[list[JobSpec], Meta(min_length=1)]


class IdRange(Struct, frozen=True, array_like=True):
    """Job ids from `first` to `last`, both included."""

    first: int
    last: int


class SubmittedArray(Struct, frozen=True, kw_only=True):
    array_id: int
    name: str
    size: int
    job_ids: list[IdRange]  # One range, unless others submitted at the same moment.

    @property
    def ids(self) -> list[int]:
        return [job_id for ids in self.job_ids for job_id in range(ids.first, ids.last + 1)]


class Submitted(Struct, frozen=True, kw_only=True):
    arrays: list[SubmittedArray]
    warnings: list[str] = []


# ------------------------------------------------------------------------------------------------------- for pilots


class Offer(Struct, frozen=True, kw_only=True):
    """What a pilot's slot has left."""

    cores: Annotated[int, Meta(ge=0)]
    memory_bytes: NonNegative
    disk_bytes: NonNegative
    wall_s: NonNegative
    tags: list[str] = []


class Slot(Struct, frozen=True, kw_only=True):
    """An offer, and what the server itself knows of the pilot that makes it."""

    pilot_id: int
    site: str
    site_id: int
    offer: Offer


class SandboxRef(Struct, frozen=True, kw_only=True):
    sandbox_id: int
    sha256: str  # 64 hexadecimal digits.
    size_bytes: int


class InputReplica(Struct, frozen=True, kw_only=True):
    se: str
    url: str


class InputFile(Struct, frozen=True, kw_only=True):
    lfn: str
    size_bytes: int
    adler32: str | None
    sha256: str | None
    replicas: list[InputReplica]


class OutputPlace(Struct, frozen=True, kw_only=True):
    """Where the pilot writes an output. The PFN names job and attempt: no attempt overwrites another's bytes."""

    path: str
    lfn: str
    se: str
    pfn: str
    url: str


class Assignment(Struct, frozen=True, kw_only=True):
    """One attempt of one job, with everything that its pilot needs."""

    job_id: int
    attempt: int
    array_index: int
    vo: str
    owner_id: int
    owner: str
    executable: str
    arguments: list[str]
    environment: dict[str, str]
    input_sandboxes: list[SandboxRef]
    input_data: list[InputFile]
    output_sandbox: list[str]
    output_data: list[OutputPlace]
    cores: int
    memory_bytes: int
    disk_bytes: int
    wall_s: int
    token_scopes: list[str] = []
    token: str = ""  # The payload's own, for this attempt.


class Held(Struct, frozen=True, kw_only=True):
    """An attempt that a pilot works on, with its use so far."""

    job_id: int
    attempt: int
    cpu_s: float = 0.0
    wall_s: float = 0.0
    max_rss_bytes: int = 0


class Lost(Struct, frozen=True, kw_only=True):
    """An attempt that is no longer the pilot's: its payload must stop."""

    job_id: int
    attempt: int
    reason: str


class OutputFile(Struct, frozen=True, kw_only=True):
    """An output that lies in its place on a storage element."""

    lfn: str
    se: str
    pfn: str
    size_bytes: NonNegative
    adler32: Annotated[str, Meta(pattern="^[0-9a-f]{8}$")] | None = None
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")] | None = None


class FinishReport(Struct, frozen=True, kw_only=True):
    """How an attempt ended, as its pilot saw it."""

    attempt: int
    exit_code: Annotated[int, Meta(ge=-1000, le=1_000_000)] | None = None  # None: the payload never ran to its end.
    error: str = ""  # Why the attempt failed for another cause than the payload's exit code.
    output_sandbox_id: int | None = None
    missing: list[str] = []  # Patterns of the output sandbox and paths of output data that matched no file.
    outputs: list[OutputFile] = []
    cpu_s: float | None = None
    wall_s: float | None = None
    max_rss_bytes: int | None = None


class LogChunk(Struct, frozen=True, kw_only=True):
    """Bytes of a stream from `position` on."""

    job_id: int
    attempt: int
    stream: LogStream
    position: NonNegative
    data: bytes


class Demand(Struct, frozen=True, kw_only=True):
    """Jobs that wait in one task queue; `waiting` is counted up to a bound."""

    task_queue_id: int
    vo_id: int
    cores: int
    memory_bytes: int
    disk_bytes: int
    wall_s: int
    sites: list[str]
    tags: list[str]
    waiting: int


# ------------------------------------------------------------------------------------------------------- for people


class JobIds(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Jobs by their own ids and by their arrays'."""

    job_ids: list[int] = []
    array_ids: list[int] = []


class CommandJobs(JobIds, frozen=True, kw_only=True, forbid_unknown_fields=True):
    reason: Annotated[str, Meta(max_length=1000)] = ""


class Refused(Struct, frozen=True, kw_only=True):
    job_id: int
    code: str
    detail: str


class Outcome(Struct, frozen=True, kw_only=True):
    """What a command did to each of many jobs."""

    done: list[int]
    refused: list[Refused]


class WaitForJobs(JobIds, frozen=True, kw_only=True, forbid_unknown_fields=True):
    wait_s: Annotated[float, Meta(ge=0, le=60)] = 20.0
    seen: dict[str, int] | None = None  # The counts of the answer before: this one comes as soon as they have changed.


class Waited(Struct, frozen=True, kw_only=True):
    counts: dict[str, int]  # Jobs by status.
    total: int
    ended: int
    all_ended: bool


class SummariseJobs(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    where: str = ""
    by: list[str] = msgspec.field(default_factory=lambda: ["status"])


class JobPage(Struct, frozen=True, kw_only=True):
    rows: list[dict[str, Any]]
    next: str | None  # `after` of the next page; None on the last.


class JobSummary(Struct, frozen=True, kw_only=True):
    groups: list[dict[str, Any]]
    total: int


class OutputSandbox(Struct, frozen=True, kw_only=True):
    sandbox_id: int
    attempt: int
    size_bytes: int
    missing: list[str]


class JobRow(Struct, frozen=True, kw_only=True):
    """One line of a list."""

    job_id: int
    array_id: int
    array_index: int
    name: str
    status: JobStatus
    minor_status: str
    application_status: str
    owner: str
    group: str
    site: str | None
    priority: int
    attempt: int
    pilot_id: int | None
    exit_code: int | None
    submitted_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    updated_at: datetime
    cpu_s: float | None
    wall_s: float | None
    max_rss_bytes: int | None


class Job(JobRow, frozen=True, kw_only=True):
    """One job in full."""

    array_size: int
    vo: str
    reschedules: int
    description: JobSpec  # With this job's parameter values put in.
    output_sandbox: OutputSandbox | None
    output_files: list[str]  # LFNs.


class HistoryEntry(Struct, frozen=True, kw_only=True):
    at: datetime
    attempt: int
    status: JobStatus
    minor_status: str
    source: str
    reason: str


class LogPart(Struct, frozen=True, kw_only=True):
    data: bytes
    position: int  # Where the next part starts.
    attempt: int
    ended: bool  # Nothing will be added to this attempt's log.


class LogQuery(Struct, frozen=True, kw_only=True):
    stream: LogStream = LogStream.STDOUT
    attempt: Annotated[int, Meta(ge=0)] | None = None  # None: the newest.
    position: NonNegative = 0
    wait_s: Annotated[float, Meta(ge=0, le=60)] = 0.0


class Sandbox(Struct, frozen=True, kw_only=True):
    sandbox_id: int
    vo_id: int
    owner_id: int
    sha256: str
    size_bytes: int


class ElementVerdict(Struct, frozen=True, kw_only=True):
    """Whether a computing element could run a job, and each constraint that excludes it."""

    computing_element: str
    site: str
    excluded_by: list[str]


class Explanation(Struct, frozen=True, kw_only=True):
    job_id: int
    status: JobStatus
    since: datetime
    sentences: list[str]
    facts: dict[str, Any]
    elements: list[ElementVerdict] = []
