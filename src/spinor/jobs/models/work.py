"""What passes between the server and its pilots: offers, assignments, leases and reports."""

from typing import Annotated

from msgspec import Meta, Struct

from spinor.jobs.models.description import ErrorClass, InputPolicy
from spinor.jobs.models.states import JobStatus, LogStream

NonNegative = Annotated[int, Meta(ge=0)]
NonNegativeFloat = Annotated[float, Meta(ge=0)]


class Gpu(Struct, frozen=True, kw_only=True):
    model: str
    memory_bytes: NonNegative


class Offer(Struct, frozen=True, kw_only=True):
    """What a pilot's slot has left."""

    cores: Annotated[int, Meta(ge=0)]
    memory_bytes: NonNegative
    disk_bytes: NonNegative
    wall_s: NonNegative
    tags: list[str] = []
    gpus: list[Gpu] = []
    platform: str = ""  # As `uname -m` says; empty: an old pilot that does not tell.
    hs23_per_core: NonNegativeFloat = 0  # 0: not measured.
    container_runtimes: list[str] = []  # apptainer, podman, …: what can run an image here.
    whole_node: bool = False  # Nothing else runs on this node, and nothing runs in this slot yet.


class Slot(Struct, frozen=True, kw_only=True):
    """An offer, and what the server itself knows of the pilot that makes it."""

    pilot_id: int
    site: str
    site_id: int
    ce: str
    ce_id: int
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
    """A place for one output. The PFN names job and attempt: no attempt overwrites another's bytes.

    For a pattern, `lfn`, `pfn` and `url` have `{file}` in them, which stands for the file's name.
    """

    se: str
    pfn: str
    url: str


class Output(Struct, frozen=True, kw_only=True):
    """Files that the pilot takes out of the job's directory: to all `places`, else to the first of `failover`."""

    path: str
    lfn: str
    places: list[OutputPlace]
    failover: list[OutputPlace] = []
    required: bool = True


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
    output_data: list[Output]
    cores: int
    memory_bytes: int
    disk_bytes: int
    wall_s: int
    gpus: int = 0
    gpu_model: str = ""
    gpu_memory_bytes: int = 0
    container_image: str = ""
    input_policy: InputPolicy = InputPolicy.DOWNLOAD
    stdout: str = ""
    stderr: str = ""
    stop_signal: str = "SIGTERM"
    stop_margin_s: int = 10
    token_scopes: list[str] = []
    token: str = ""  # The payload's own, for this attempt.


class Held(Struct, frozen=True, kw_only=True):
    """An attempt that a pilot works on, with its use so far."""

    job_id: int
    attempt: int
    cpu_s: float = 0.0
    wall_s: float = 0.0
    max_rss_bytes: int = 0
    rss_bytes: int = 0
    disk_bytes: int = 0  # In the job's directory.
    read_bytes: int = 0
    written_bytes: int = 0


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
    error_class: ErrorClass | None = None  # None: `payload` when there is an exit code, else `site`.
    output_sandbox_id: int | None = None
    missing: list[str] = []  # Patterns of the output sandbox and paths of output data that matched no file.
    outputs: list[OutputFile] = []
    cpu_s: float | None = None
    wall_s: float | None = None
    max_rss_bytes: int | None = None


class AttemptRef(Struct, frozen=True, kw_only=True):
    job_id: int
    attempt: int

    @property
    def key(self) -> tuple[int, int]:
        return self.job_id, self.attempt


class EndReport(FinishReport, frozen=True, kw_only=True):
    """The same among others."""

    job_id: int

    @property
    def key(self) -> tuple[int, int]:
        return self.job_id, self.attempt


class Reports(Struct, frozen=True, kw_only=True):
    """What a pilot has to say of its attempts, each job once: payloads that run, attempts that ended, and attempts that
    it could not begin and gives back."""

    started: Annotated[list[AttemptRef], Meta(max_length=1000)] = []
    ended: Annotated[list[EndReport], Meta(max_length=1000)] = []
    returned: Annotated[list[AttemptRef], Meta(max_length=1000)] = []


class Refusal(Struct, frozen=True, kw_only=True):
    status: int
    code: str
    detail: str


class Answer(Struct, frozen=True, kw_only=True):
    """What the job is now (`failed` also when the catalog refused its outputs), or why the report was refused."""

    status: JobStatus | None = None
    refused: Refusal | None = None


class Reported(Struct, frozen=True, kw_only=True):
    """The answers, in the order of the reports."""

    started: list[Answer]
    ended: list[Answer]
    returned: list[Answer]


class LogChunk(Struct, frozen=True, kw_only=True):
    """Bytes of a stream from `position` on."""

    job_id: int
    attempt: int
    stream: LogStream
    position: NonNegative
    data: bytes


class Requirements(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the jobs of one task queue have in common. Equal requirements have an equal digest."""

    vo_id: int
    owner_id: int
    group_id: int
    job_type: str = "user"
    cores: int = 1  # The least.
    max_cores: int = 1
    whole_node: bool = False
    memory_bytes: int = 0
    disk_bytes: int = 0
    wall_s: int = 1
    cpu_work_hs23_s: float = 0
    gpus: int = 0
    gpu_model: str = ""
    gpu_memory_bytes: int = 0
    platform: str = ""
    container: bool = False
    sites: list[str] = []  # Empty: any. All lists are sorted and without repeats.
    banned_sites: list[str] = []
    computing_elements: list[str] = []
    tags: list[str] = []
    labels: list[str] = []
    near_sites: list[str] = []  # Where its input data are; others may take it after `near_wait_s`.
    near_wait_s: int = 0


class Demand(Struct, frozen=True, kw_only=True):
    """Jobs that wait in one task queue."""

    task_queue_id: int
    wants: Requirements
    waiting: int


class ShareOfVO(Struct, frozen=True, kw_only=True):
    """What a VO has used, in core-seconds that are forgotten with its half-life, and what runs for it now."""

    vo_id: int
    vo: str
    share: float = 1.0
    core_s: float = 0.0
    running_cores: int = 0
