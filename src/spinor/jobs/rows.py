"""Rows of the jobs tables, as the service works with them inside the server."""

from datetime import datetime

import msgspec

from spinor.jobs.models import JobStatus, SandboxRef


class NewArray(msgspec.Struct, frozen=True, kw_only=True):
    """One description, ready to be stored."""

    name: str
    size: int
    spec: bytes  # JSON, without parameter values.
    parameters: list[str] | None  # JSON of each job's values; None: there are none.
    digest: bytes
    priority: int
    key: str | None
    sandbox_ids: list[int]


class Ids(msgspec.Struct, frozen=True):
    array_id: int
    first: int
    last: int


class StoredArray(msgspec.Struct, frozen=True):
    array_id: int
    name: str
    size: int
    spec: str


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """A task queue and the first jobs that wait in it, in order; the priority is stored as 9 minus the job's."""

    task_queue_id: int
    vo_id: int
    cores: int
    memory_bytes: int
    disk_bytes: int
    wall_s: int
    sites: list[str]
    tags: list[str]
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
    status: JobStatus | None
    newest_attempt: int | None
    minor_status: str | None


class LockedJob(msgspec.Struct, frozen=True, kw_only=True):
    job_id: int
    array_id: int
    owner_id: int
    status: JobStatus
    attempt: int
    pilot_id: int | None


class Released(msgspec.Struct, frozen=True):
    job_id: int
    array_id: int
    status: JobStatus


class SandboxOfArray(SandboxRef, frozen=True, kw_only=True):
    array_id: int


class StoredJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job's row with the names around it."""

    job_id: int
    array_id: int
    array_index: int
    array_size: int
    name: str
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


class SuspendedJob(msgspec.Struct, frozen=True):
    """A job that runs for somebody who was suspended."""

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
