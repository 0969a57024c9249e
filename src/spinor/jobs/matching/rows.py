"""Rows that the matcher reads."""

import msgspec

from spinor.jobs.models import Requirements


class QueueRow(msgspec.Struct, frozen=True, kw_only=True):
    """A task queue with the names of its owner."""

    task_queue_id: int
    vo_id: int
    vo: str
    group: str
    user: str
    wants: Requirements


class HeadRow(msgspec.Struct, frozen=True, kw_only=True):
    """The first job of a queue; `priority` is stored as 9 minus the job's. `since` in seconds of the epoch."""

    task_queue_id: int
    priority: int
    job_id: int
    since: float


class UseRow(msgspec.Struct, frozen=True, kw_only=True):
    """Core-seconds of a user in a group, as they stood `age_s` ago."""

    vo_id: int
    group: str
    user: str
    core_s: float
    age_s: float


class ClaimedJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job that was given to a pilot by a claim."""

    job_id: int
    array_id: int
    array_index: int
    vo_id: int
    owner_id: int
    group_id: int
    attempt: int
    pilot_id: int
    cores: int
    task_queue_id: int
    priority: int
