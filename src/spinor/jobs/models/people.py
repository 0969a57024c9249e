"""What people ask of jobs, and what they are told."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from spinor.jobs.models.description import IdRange, JobSpec
from spinor.jobs.models.states import JobStatus, LogStream
from spinor.jobs.models.work import NonNegative, Requirements


class JobIds(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Jobs by their own ids and by their arrays'."""

    job_ids: list[int] = []
    array_ids: list[int] = []


class ChosenJobs(JobIds, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Jobs by id, by array, by set and by a query (docs/reference/search.md): all that any of them names."""

    job_groups: list[str] = []
    where: str = ""


class CommandJobs(ChosenJobs, frozen=True, kw_only=True, forbid_unknown_fields=True):
    reason: Annotated[str, Meta(max_length=1000)] = ""


class PrioritiseJobs(CommandJobs, frozen=True, kw_only=True, forbid_unknown_fields=True):
    priority: Annotated[int, Meta(ge=0, le=9)]


class Refused(Struct, frozen=True, kw_only=True):
    """Jobs that a command did not change, and why: one line for each reason."""

    job_ids: list[IdRange]
    code: str
    detail: str

    @property
    def ids(self) -> list[int]:
        return [job_id for ids in self.job_ids for job_id in range(ids.first, ids.last + 1)]


class Outcome(Struct, frozen=True, kw_only=True):
    """What a command did to each of many jobs."""

    done: list[IdRange]
    refused: list[Refused]

    @property
    def done_ids(self) -> list[int]:
        return [job_id for ids in self.done for job_id in range(ids.first, ids.last + 1)]


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
    job_group: str
    job_type: str
    status: JobStatus
    minor_status: str
    application_status: str
    owner: str
    group: str
    site: str | None
    computing_element: str | None
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


class TaskQueueQuery(Struct, frozen=True, kw_only=True):
    """Task queues with waiting jobs: an owner's, a group's, those that may run at a site, or the one of a job."""

    owner: str = ""
    group: str = ""
    site: str = ""
    job_id: int = 0
    after: NonNegative = 0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class TaskQueue(Struct, frozen=True, kw_only=True):
    """Jobs of equal requirements that wait together, and how their owner stands in the fair share.

    `core_s` is what the owner has used in the group, forgotten with the VO's half-life, and `cores` what runs now.
    """

    task_queue_id: int
    owner: str
    group: str
    waiting: int
    running: int  # Matched and completing ones too.
    priority: int | None  # Of the job that goes first; None: none waits.
    next_job_id: int | None
    oldest_job_id: int | None
    oldest_at: datetime | None
    wants: Requirements
    group_share: float = 1.0
    user_share: float = 1.0
    core_s: float = 0.0
    cores: int = 0


class TaskQueuePage(Struct, frozen=True, kw_only=True):
    rows: list[TaskQueue]
    next: int | None = None


class CountedBy(StrEnum):
    SITE = "site"
    COMPUTING_ELEMENT = "computing_element"
    OWNER = "owner"
    GROUP = "group"


class StatisticsQuery(Struct, frozen=True, kw_only=True):
    """What waits and runs now, and what ended in the last `last_s`: of one owner, or of the whole VO."""

    by: CountedBy = CountedBy.SITE
    owner: str = ""
    last_s: Annotated[int, Meta(ge=60, le=366 * 86_400)] = 7 * 86_400


class StatisticsRow(Struct, frozen=True, kw_only=True):
    """`value` is of the field that is counted by; None: no site has them. What ended are attempts: a job's last
    one, or one that was followed by another.

    `core_s` is their wall time on all their cores, `efficiency` the share of it in which a processor worked.
    """

    value: str | None
    waiting: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    killed: int = 0
    retried: int = 0  # They failed or were lost, and their jobs went on.
    cpu_s: float = 0.0
    core_s: float = 0.0
    success: float | None = None  # Of those that ended well or failed.
    efficiency: float | None = None
    waited_s: float | None = None  # The median from submission to start, of first attempts.
    wall_s: float | None = None  # The median of those that ended well.
    max_rss_bytes: int | None = None


class FailureCount(Struct, frozen=True, kw_only=True):
    """Attempts that failed in the same way."""

    error_class: str
    exit_code: int | None
    attempts: int
    last_job_id: int


class JobStatistics(Struct, frozen=True, kw_only=True):
    since: datetime
    rows: list[StatisticsRow]
    total: StatisticsRow
    failures: list[FailureCount]  # The commonest first.
