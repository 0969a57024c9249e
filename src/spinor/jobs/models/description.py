"""What a user writes: job descriptions, and the answer to their submission."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

Scalar = str | int | float | bool


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


class OutputData(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Files that the job leaves behind, and where they go."""

    path: str  # In the job's directory; with `*`, `?` or `[…]` it is a pattern.
    lfn: str  # Of the one file; with a pattern, or with `/` at its end, the directory.
    se: str = ""
    ses: list[str] = []  # More places: the file is replicated to each of them.
    failover: list[str] = []  # Tried in this order when none of the others takes the file.
    metadata: dict[str, Scalar] = {}  # Set on each file that is registered.
    required: bool = True  # Whether the job has failed when no file is there.


class Placement(StrEnum):
    """Whether a job with input data runs where replicas are."""

    PREFER = "prefer"  # Elsewhere only after `placement_wait_s`.
    REQUIRE = "require"
    IGNORE = "ignore"


class InputPolicy(StrEnum):
    """How input data reach the payload."""

    DOWNLOAD = "download"
    PROTOCOL = "protocol"  # The payload opens the URLs in SPINOR_INPUTS by itself.


class ErrorClass(StrEnum):
    """What an attempt failed of; each has its own number of retries."""

    SITE = "site"  # The node, the pilot or its computing element.
    DATA = "data"  # Inputs could not be read, or outputs not be written.
    PAYLOAD = "payload"  # The application's own exit code.
    MEMORY = "memory"  # It was ended for using more memory than it asked for.
    TIME = "time"  # It was ended for using more time than it asked for.


class Retries(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How often a job is tried again by itself, by what it failed of. Each class is counted on its own."""

    site: Annotated[int, Meta(ge=0, le=100)] = 3
    data: Annotated[int, Meta(ge=0, le=100)] = 2
    payload: Annotated[int, Meta(ge=0, le=100)] = 0
    memory: Annotated[int, Meta(ge=0, le=100)] = 1
    time: Annotated[int, Meta(ge=0, le=100)] = 0
    memory_growth: Annotated[float, Meta(ge=1, le=10)] = 1.5  # After running out of memory, it asks for so much more.
    delay_s: int | str = 30  # Before the first retry; doubled before each further one, up to an hour.


class Condition(StrEnum):
    """What a job waits for another one to be."""

    DONE = "done"
    FAILED = "failed"  # Failed or killed.
    ENDED = "ended"


class After(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What must have come to its end before this one may run: a job, an array or a name, exactly one of them."""

    job_id: int | None = None
    array_id: int | None = None
    name: str = ""  # Of another description in the same submission.
    condition: Condition = Condition.DONE
    each: bool = False  # Element i waits for element i alone; both arrays are of one size.


class Notify(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Whom to tell of what. The array counts as ended when all its jobs have."""

    on: list[Condition] = msgspec.field(default_factory=lambda: [Condition.ENDED])
    email: str = ""
    webhook: str = ""  # An https URL; it gets a POST with JSON.


class JobSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A job description, as written in YAML or JSON: docs/reference/job-description.md.

    `{name}` in a string stands for this job's value of the parameter, or for `index`, `job_id` or `array_id`.
    """

    executable: str
    arguments: list[Scalar] = []
    environment: dict[str, Scalar] = {}
    name: str = ""
    job_group: Annotated[str, Meta(max_length=255)] = ""  # The set that it belongs to.
    job_type: Annotated[str, Meta(max_length=32)] = "user"
    input_sandbox: list[str] = []  # Local paths: the client packs and uploads them, and sends `input_sandboxes`.
    input_sandboxes: list[int] = []
    input_data: list[str] = []  # LFNs.
    input_query: str = ""  # More input data: what a catalog query finds at submission.
    input_policy: InputPolicy = InputPolicy.DOWNLOAD
    placement: Placement = Placement.PREFER
    placement_wait_s: int | str = 600
    output_sandbox: list[str] = []  # Patterns of files in the job's directory.
    output_data: list[OutputData] = []
    stdout: str = ""  # Also keep it as this file of the job's directory, where output patterns find it.
    stderr: str = ""
    parameters: dict[str, list[Any]] = {}
    cores: Annotated[int, Meta(ge=1, le=1024)] = 1
    max_cores: Annotated[int, Meta(ge=1, le=1024)] | None = None  # It takes up to so many where there is room.
    whole_node: bool = False
    memory_bytes: int | str = 1_000_000_000  # Also "2GB".
    disk_bytes: int | str = 1_000_000_000
    wall_s: int | str = 1800  # Also "90m".
    cpu_work_hs23_s: Annotated[float, Meta(gt=0)] | None = None  # HS23 seconds over all cores.
    gpus: Annotated[int, Meta(ge=0, le=64)] = 0
    gpu_model: str = ""  # Part of the model's name, in any case.
    gpu_memory_bytes: int | str = 0  # Of each.
    platform: str = ""  # The machine as `uname -m` says: x86_64, aarch64.
    container_image: str = ""
    site: str = ""  # The same as `sites` with one entry.
    sites: list[str] = []
    banned_sites: list[str] = []
    computing_elements: list[str] = []
    tags: list[str] = []  # Each must be offered by the slot.
    labels: list[str] = []  # Limits of the operations data may name them.
    priority: Annotated[int, Meta(ge=0, le=9)] = 5
    deadline: datetime | None = None  # A job that has not started by then has failed.
    token_scopes: list[TokenScope] = []  # What the payload's own token may do beside reporting on its job.
    retries: Retries = Retries()
    after: list[After] = []
    notify: list[Notify] = []
    stop_signal: str = "SIGTERM"  # What the payload gets before it is ended for time.
    stop_margin_s: int | str = 10  # And so long before.
    hold: bool = False  # Wait for `spinor job release`.


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


class CheckedElement(Struct, frozen=True, kw_only=True):
    """Whether a computing element could run it, as far as is known before a pilot is there."""

    computing_element: str
    site: str
    excluded_by: list[str]


class CheckedArray(Struct, frozen=True, kw_only=True):
    """What a description would become, if it were submitted now."""

    name: str
    size: int
    description: JobSpec  # Normalised; the values of its parameters are left out.
    parameters: list[str]  # Their names.
    first: JobSpec  # The first job's own description.
    requirements: dict[str, Any]  # Of its task queue, but for what is as it is for every job.
    elements: list[CheckedElement]


class Checked(Struct, frozen=True, kw_only=True):
    arrays: list[CheckedArray]
    warnings: list[str] = []
