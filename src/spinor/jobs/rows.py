"""Rows of the jobs tables, as the service works with them inside the server."""

from datetime import datetime

import msgspec

from spinor.jobs.models import Condition, JobStatus, Requirements, SandboxRef


class NewArray(msgspec.Struct, frozen=True, kw_only=True):
    """One description, ready to be stored."""

    name: str
    size: int
    spec: bytes  # JSON, without parameter values.
    elements: list[bytes]  # JSON lists of the jobs' values, `rules.BLOCK` jobs in each; empty: there are none.
    digest: bytes
    priority: int
    key: str | None
    sandbox_ids: list[int]
    job_group: str = ""
    job_type: str = "user"
    status: JobStatus = JobStatus.WAITING
    minor_status: str = ""
    deadline: datetime | None = None
    retries: tuple[int, ...] = ()  # By class.


class Ids(msgspec.Struct, frozen=True):
    array_id: int
    first: int
    last: int
    ordinal: int  # Which of the arrays it is, from 1.


class StoredArray(msgspec.Struct, frozen=True):
    array_id: int
    name: str
    size: int
    spec: str
    first_job_id: int


class Upstream(msgspec.Struct, frozen=True):
    """What others wait for: a job or an array, as a range of jobs."""

    kind: str
    id: int
    first: int
    last: int


class UpstreamOf(msgspec.Struct, frozen=True, kw_only=True):
    """An array waits for these jobs."""

    array_id: int
    first: int
    last: int
    condition: Condition
    each: bool


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """A task queue and the first jobs that wait in it, in order; the priority is stored as 9 minus the job's."""

    task_queue_id: int
    wants: Requirements
    priorities: list[int]
    job_ids: list[int]


class HeldJob(msgspec.Struct, frozen=True, kw_only=True):
    job_id: int
    array_id: int
    array_index: int
    owner_id: int
    group_id: int
    attempt: int
    parameters: str | None
    spec: str
    status: JobStatus = JobStatus.MATCHED
    task_queue_id: int = 0
    cores: int = 0  # Granted.
    retried: list[int] | None = None  # By class.


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """What follows a failed attempt when the job is tried again."""

    status: JobStatus
    minor_status: str
    task_queue_id: int
    retried: list[int]
    delay_s: int
    steps: list[tuple[str, str, str]]  # History lines after the failure: state, minor status, reason.


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What a command makes of jobs, and the history lines on the way."""

    status: JobStatus
    minor_status: str
    source: str
    steps: list[tuple[JobStatus, str, str]]
    attempt_status: JobStatus = JobStatus.KILLED  # What becomes of an attempt that a pilot holds.
    anew: bool = False  # The automatic retries are counted anew.


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    job_id: int
    array_id: int
    array_index: int
    owner_id: int
    group_id: int
    status: JobStatus
    attempt: int
    pilot_id: int | None
    minor_status: str


class NotRenewed(msgspec.Struct, frozen=True, kw_only=True):
    job_id: int
    attempt: int
    pilot_id: int
    status: JobStatus | None
    newest_attempt: int | None
    minor_status: str | None


class LockedJob(msgspec.Struct, frozen=True, kw_only=True):
    job_id: int
    array_id: int
    owner_id: int
    status: JobStatus
    minor_status: str
    attempt: int
    pilot_id: int | None
    has_outputs: bool
    has_open_dependency: bool


class Released(msgspec.Struct, frozen=True):
    job_id: int
    array_id: int
    status: JobStatus


class StoredArrayRange(msgspec.Struct, frozen=True):
    array_id: int
    first_job_id: int
    size: int


class Dependency(msgspec.Struct, frozen=True, kw_only=True):
    """An array that waits for jobs, with its own."""

    array_id: int
    first_job_id: int
    last_job_id: int
    condition: Condition
    each: bool
    vo_id: int
    open_from: int
    own_first: int
    size: int

    @property
    def own(self) -> tuple[int, int]:
        return self.own_first, self.own_first + self.size - 1


class UndueNotification(msgspec.Struct, frozen=True):
    notification_id: int
    vo_id: int
    condition: Condition
    first_job_id: int
    last_job_id: int


class DueNotification(msgspec.Struct, frozen=True, kw_only=True):
    notification_id: int
    vo_id: int
    vo: str
    array_id: int
    name: str
    size: int
    first_job_id: int
    condition: Condition
    email: str
    webhook: str
    tries: int


class SandboxOfArray(SandboxRef, frozen=True, kw_only=True):
    array_id: int


class StoredJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job's row with the names around it."""

    job_id: int
    array_id: int
    array_index: int
    array_size: int
    name: str
    job_group: str
    job_type: str
    vo: str
    owner: str
    group: str
    status: JobStatus
    minor_status: str
    application_status: str
    priority: int
    attempt: int
    reschedules: int
    site: str | None
    computing_element: str | None
    pilot_id: int | None
    exit_code: int | None
    submitted_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    updated_at: datetime
    cpu_s: float | None
    wall_s: float | None
    max_rss_bytes: int | None
    task_queue_id: int
    owner_id: int
    group_id: int
    parameters: str | None
    spec: str
    output_files: list[str]


class ChosenJob(msgspec.Struct, frozen=True):
    """A job that a chore has chosen and locked."""

    job_id: int
    array_id: int
    vo_id: int
    pilot_id: int | None


class PayloadRow(msgspec.Struct, frozen=True):
    """Whose payload an attempt is."""

    job_id: int
    attempt: int
    vo_id: int
    owner_id: int
    group_id: int


class KnownId(msgspec.Struct, frozen=True):
    kind: str
    id: int
    array_id: int


class PlaceInQueue(msgspec.Struct, frozen=True):
    ahead_in_queue: int
    other_queues: int
    ahead_in_others: int


class PilotCount(msgspec.Struct, frozen=True):
    computing_element: str
    status: str
    pilots: int


class FactoryPause(msgspec.Struct, frozen=True, kw_only=True):
    """Why no pilots are sent to an element just now."""

    computing_element: str
    failures: int
    reason: str
    next_try_at: datetime


class QuickFailures(msgspec.Struct, frozen=True, kw_only=True):
    """Of a pilot's attempts that ended lately: all, and those that failed at once for reasons of the site."""

    pilot_id: int
    ended: int
    failed: int
