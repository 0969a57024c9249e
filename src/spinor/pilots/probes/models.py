"""The nouns of probes."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from spinor.jobs.models import JobStatus, Offer
from spinor.pilots.models import ElementState, Finding, PilotStatus

NonNegativeFloat = Annotated[float, Meta(ge=0)]


class StepState(StrEnum):
    WAITING = "waiting"  # For the steps before it.
    RUNNING = "running"
    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a probe: what was seen, how long it took, and what to do when it failed."""

    name: str
    state: StepState = StepState.WAITING
    detail: str = ""
    remedy: str = ""
    took_s: float | None = None


class StartProbes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Probe these computing elements, or all of a site. With `se`, the job leaves a file there, which is removed."""

    site: str = ""
    computing_elements: list[str] = []
    se: str = ""
    timeout_s: Annotated[int, Meta(ge=10, le=86_400)] = 900


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """A probe as people see it. `version` rises with every change."""

    probe_id: int
    computing_element: str
    site: str
    actor: str
    created_at: datetime
    ended_at: datetime | None
    succeeded: bool | None
    pilot_id: int | None
    job_id: int | None
    version: int
    steps: list[Step]


class ProbeQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Wait up to `wait_s` for another version than the one that was seen."""

    seen: int = 0
    wait_s: Annotated[float, Meta(ge=0, le=20)] = 0


class ProbeRow(msgspec.Struct, frozen=True, kw_only=True):
    """A probe as it is worked on. `vo_id`, `owner_id` and `group_id` are whose job it runs; nobody's: it runs none."""

    probe_id: int
    vo_id: int
    ce_id: int
    ce: str
    site: str
    actor: str
    owner_id: int | None
    group_id: int | None
    decides_kind: str | None  # What comes back into use when it succeeds.
    decides_name: str | None
    se: str
    timeout_s: int
    phase: str
    pilot_id: int | None
    job_id: int | None
    said: ElementState | None  # What the element said of the pilot, last.
    running_at: datetime | None  # When it first said that the pilot runs.
    prelude: list[Step]
    age_s: float
    version: int
    steps: list[Step]


class PilotFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The pilot of a probe."""

    status: PilotStatus
    external_id: str | None
    created_at: datetime
    submitted_at: datetime | None
    enrolled_at: datetime | None
    last_seen_at: datetime | None
    ended_at: datetime | None
    hostname: str
    reason: str
    offer: Offer | None
    hs23_per_core: float | None
    node: dict[str, Any] | None
    diagnosis: list[Finding]
    log_tail: str


class JobFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The job of a probe."""

    status: JobStatus
    minor_status: str
    reason: str
    exit_code: int | None
    matched_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    output_files: list[str]


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is known of a probe at a moment."""

    row: ProbeRow
    at: datetime
    pilot: PilotFacts | None = None
    job: JobFacts | None = None
