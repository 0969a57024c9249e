"""The nouns of pilots, shared by server, client and command line."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from spinor.jobs.models import Assignment, Held, Lost, Offer, PeekAsked


class Purpose(StrEnum):
    """What a pilot is for."""

    WORK = "work"
    PROBE = "probe"  # To see whether its element works: it takes the job of its probe, and no other.


class PilotStatus(StrEnum):
    """DIRAC's states. `spinor.pilots.rules` holds the transitions between them."""

    NEW = "new"
    SUBMITTED = "submitted"
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    ABORTED = "aborted"
    DELETED = "deleted"


class ElementState(StrEnum):
    """What a computing element says about a pilot that it was given."""

    WAITING = "waiting"  # In its queue.
    RUNNING = "running"
    DONE = "done"  # Ended with exit code 0.
    FAILED = "failed"  # Ended otherwise.
    VANISHED = "vanished"  # The element knows nothing of it, or it ended and nobody saw how.
    UNKNOWN = "unknown"  # The element could not be asked just now.


# ------------------------------------------------------------------------------------------------------- for pilots


class Enrolment(msgspec.Struct, frozen=True, kw_only=True):
    """A pilot's first words. The secret works once."""

    pilot_id: int
    secret: Annotated[str, Meta(min_length=1, max_length=200)]
    offer: Offer
    node: dict[str, Any] = {}  # hostname, kernel, machine, python


class Enrolled(msgspec.Struct, frozen=True, kw_only=True):
    token: str
    expires_in: int  # Seconds.
    heartbeat_s: float
    lease_s: float


class MatchRequest(msgspec.Struct, frozen=True, kw_only=True):
    offer: Offer
    max_jobs: Annotated[int, Meta(ge=1, le=1000)] = 1
    wait_s: Annotated[float, Meta(ge=0, le=20)] = 0


class Matched(msgspec.Struct, frozen=True, kw_only=True):
    jobs: list[Assignment]


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    held: list[Held]
    wait_s: Annotated[float, Meta(ge=0, le=30)] = 0
    draining: bool = False  # It takes no more jobs already, and need not be told at once.


class Beaten(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a heartbeat. With a `token`, the pilot uses that one from now on."""

    lost: list[Lost]
    drain: bool = False
    token: str | None = None
    peeks: list[PeekAsked] = []  # People wait to see these: answer with PUT /api/pilot/jobs/{job_id}/peek.


class JobLogQuery(msgspec.Struct, frozen=True, kw_only=True):
    attempt: int
    stream: Annotated[str, Meta(pattern="^(stdout|stderr)$")]
    position: Annotated[int, Meta(ge=0)]


class LogQuery(msgspec.Struct, frozen=True, kw_only=True):
    position: Annotated[int, Meta(ge=0)]


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """The byte offset that is expected next."""

    position: int


class AttemptQuery(msgspec.Struct, frozen=True, kw_only=True):
    job_id: int
    attempt: int


class StoredSandbox(msgspec.Struct, frozen=True, kw_only=True):
    sandbox_id: int


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something about a node that keeps a pilot from working there."""

    check: Annotated[str, Meta(min_length=1, max_length=100)]
    detail: Annotated[str, Meta(max_length=2000)] = ""


class Unfit(msgspec.Struct, frozen=True, kw_only=True):
    """The last words of a pilot that cannot work on its node."""

    diagnosis: Annotated[list[Finding], Meta(min_length=1, max_length=50)]


class Goodbye(msgspec.Struct, frozen=True, kw_only=True):
    reason: Annotated[str, Meta(max_length=1000)] = ""


# ------------------------------------------------------------------------------------------------------- for people


class Pilot(msgspec.Struct, frozen=True, kw_only=True):
    """One pilot, as people see it."""

    pilot_id: int
    status: PilotStatus
    computing_element: str
    site: str
    external_id: str | None
    hostname: str
    created_at: datetime
    submitted_at: datetime | None
    enrolled_at: datetime | None
    last_seen_at: datetime | None
    ended_at: datetime | None
    jobs_taken: int
    offer: Offer | None = None  # What its slot has left, as it said last.
    reason: str
    purpose: Purpose = Purpose.WORK
    hs23_per_core: float | None = None
    node: dict[str, Any] | None = None  # What it found there.
    diagnosis: list[Finding] = []  # Why its node is unfit.
    drain_reason: str = ""


class ElementPilots(msgspec.Struct, frozen=True, kw_only=True):
    """The pilots of a VO on a computing element: those that are alive now, and those of a period that have ended."""

    computing_element: str
    site: str
    submitted: int = 0
    waiting: int = 0
    running: int = 0
    done: int = 0
    empty: int = 0  # Of those done, without a job.
    failed: int = 0
    aborted: int = 0
    cancelled: int = 0
    jobs: int = 0
    efficiency: float | None = None  # The part of those that ended which had done work.
    jobs_per_pilot: float | None = None
    failures: int = 0  # In a row, for which the factory pauses until `next_try_at`.
    next_try_at: datetime | None = None
    trouble: str = ""


class StatsQuery(msgspec.Struct, frozen=True, kw_only=True):
    last_s: Annotated[int, Meta(ge=60, le=366 * 86_400)] = 86_400
    computing_element: str = ""


class NodeMask(msgspec.Struct, frozen=True, kw_only=True):
    """A node whose pilots get no jobs for a while."""

    computing_element: str
    hostname: str
    reason: str
    actor: str
    since: datetime
    until: datetime


class MaskQuery(msgspec.Struct, frozen=True, kw_only=True):
    computing_element: str = ""


class MaskNodes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    computing_element: str
    hostnames: Annotated[list[str], Meta(min_length=1, max_length=10_000)]
    reason: Annotated[str, Meta(max_length=1000)] = ""
    lasting_s: Annotated[int, Meta(ge=0, le=366 * 86_400)] = 6 * 3600  # 0: lift the mask.


class PilotPage(msgspec.Struct, frozen=True, kw_only=True):
    rows: list[dict[str, Any]]
    next: str | None  # `after` of the next page; None on the last.


class PilotLogQuery(msgspec.Struct, frozen=True, kw_only=True):
    position: Annotated[int, Meta(ge=0)] = 0


class CancelPilots(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pilot_ids: Annotated[list[int], Meta(min_length=1, max_length=10_000)]
    reason: Annotated[str, Meta(max_length=1000)] = ""


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    pilot_id: int
    code: str
    detail: str


class Cancelled(msgspec.Struct, frozen=True, kw_only=True):
    done: list[int]
    refused: list[Refused]


# --------------------------------------------------------------------------------------------------- for the factory


class Census(msgspec.Struct, frozen=True, kw_only=True):
    """How many pilots of a VO a computing element has, exactly."""

    ce_id: int
    vo_id: int
    alive: int
    on_the_way: int = 0  # Of these, not enrolled yet, and going to take jobs.
    submitted_lately: int = 0  # Within the last minute.


class IdlePilots(msgspec.Struct, frozen=True, kw_only=True):
    """Pilots that have asked for jobs within the last half minute and got none, and what each of them has left."""

    ce_id: int
    vo_id: int
    offer: Offer
    count: int = 1


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """How the last pilots of a VO on a computing element fared: batches in a row of which no pilot took a job."""

    ce_id: int
    vo_id: int
    fruitless: int
    since_s: float  # Since the end of the last of them.


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """Why the factory waits before it submits pilots of a VO to a computing element again."""

    ce_id: int
    vo_id: int
    failures: int
    reason: str
    last_at: datetime
    next_try_at: datetime
    paused: bool


class SeenOffer(msgspec.Struct, frozen=True, kw_only=True):
    ce_id: int
    offer: Offer


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """So many pilots for this VO on this computing element."""

    ce_id: int
    vo_id: int
    count: int


class Followed(msgspec.Struct, frozen=True, kw_only=True):
    """What the chores need to know of a pilot to ask its computing element about it."""

    pilot_id: int
    vo_id: int
    ce_id: int
    status: PilotStatus
    external_id: str | None
    age_s: float  # Since the intent.
    running_s: float | None = None  # Since the enrolment.
    silent_s: float | None = None  # Since the last word from it.


class NewPilot(msgspec.Struct, frozen=True, kw_only=True):
    """A recorded intent. The secret lives here and in the launch, never in the database."""

    pilot_id: int
    vo_id: int
    vo: str
    secret: str


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """A decision of the follower: this pilot has ended, as `status` says."""

    pilot_id: int
    status: PilotStatus
    reason: str
