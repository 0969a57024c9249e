"""Rows that the matcher reads."""

from datetime import datetime

import msgspec

from spinor.jobs.models import Condition, Offer, Requirements


class QueueRow(msgspec.Struct, frozen=True, kw_only=True):
    """A task queue with the names of its owner."""

    task_queue_id: int
    vo: str
    group: str
    user: str
    wants: Requirements


class UseRow(msgspec.Struct, frozen=True, kw_only=True):
    """Core-seconds of a user in a group, as they stood `age_s` ago."""

    vo_id: int
    group: str
    user: str
    core_s: float
    age_s: float


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """How many jobs wait in which queues, packed as `view.COUNT`, and whose jobs may not start now."""

    counts: bytes
    suspended: list[tuple[int, int | None]]  # User, and the VO; None: every VO.


class Occupied(msgspec.Struct, frozen=True, kw_only=True):
    """How many jobs run from which queue on which element with how many cores, packed as `view.OCCUPANCY`, and what is
    kept of limits: all of one snapshot."""

    counts: bytes
    states: list["KeyState"]


class KeyState(msgspec.Struct, frozen=True, kw_only=True):
    """What the database keeps of a key of a limit; times in seconds of the epoch, `at` by the database's clock."""

    limit: str
    key: str
    started: int
    tokens: float | None
    refilled_at: float
    at: float


class Wish(msgspec.Struct, frozen=True):
    """So many jobs of a queue, from this place of it on."""

    task_queue_id: int
    count: int
    priority: int
    job_id: int


class Deal(msgspec.Struct, frozen=True):
    """The nth job that a claim gets of a queue is for this pilot; `waited_s`: only if it has waited so long."""

    task_queue_id: int
    n: int
    pilot_id: int
    vo_id: int
    site_id: int
    ce_id: int
    cores: int
    waited_s: float


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
    parameters: str | None


class StandingRow(msgspec.Struct, frozen=True, kw_only=True):
    """A user in a group: what waits and runs, and the core-seconds as forgotten until now."""

    group: str
    user: str
    waiting: int
    cores: int
    core_s: float


class PilotSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A pilot that was heard of lately, and what it had left then."""

    pilot_id: int
    hostname: str
    ce: str
    site: str
    offer: Offer
    drain_reason: str
    ago_s: float


class OpenDependency(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs that must come to their end first: how many have, and how many have not."""

    first_job_id: int
    last_job_id: int
    condition: Condition
    each: bool
    ended: int
    going: int


class Pause(msgspec.Struct, frozen=True):
    until: datetime
