"""Pure decisions: the state machine, who fits where, and what a pilot's report means."""

import hashlib
from collections.abc import Callable, Sequence
from operator import attrgetter

import msgspec
from msgspec import Struct

from spinor.access import Caller
from spinor.errors import Conflict
from spinor.jobs.fit import Capacity as Capacity
from spinor.jobs.fit import exclusions as exclusions
from spinor.jobs.fit import listed as listed
from spinor.jobs.models import ErrorClass, FinishReport, JobSpec, JobStatus, Requirements, Retries

S = JobStatus

LEASE_S = 60  # A pilot renews its leases far more often; one that is silent for so long has lost its jobs.
WAITS_FOR_OTHERS = "waits for other jobs"
BLOCK = 100  # Elements of an array whose parameters lie in one row.

FINAL = frozenset({S.DONE, S.FAILED, S.KILLED, S.DELETED})
HELD = frozenset({S.MATCHED, S.RUNNING, S.COMPLETING})  # A pilot works on it, under a lease.

# From each state to those it may become. Differences from DIRAC's machine: docs/reference/job-states.md.
TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    S.SUBMITTING: frozenset({S.RECEIVED, S.FAILED, S.KILLED}),
    S.RECEIVED: frozenset({S.CHECKING, S.SCOUTING, S.STAGING, S.WAITING, S.FAILED, S.KILLED}),
    S.CHECKING: frozenset({S.SCOUTING, S.STAGING, S.WAITING, S.FAILED, S.KILLED}),
    S.SCOUTING: frozenset({S.CHECKING, S.FAILED, S.KILLED}),
    S.STAGING: frozenset({S.CHECKING, S.WAITING, S.FAILED, S.KILLED}),
    S.WAITING: frozenset({S.MATCHED, S.CHECKING, S.FAILED, S.KILLED}),
    S.MATCHED: frozenset({S.RUNNING, S.STALLED, S.RESCHEDULED, S.FAILED, S.KILLED}),
    S.RUNNING: frozenset({S.COMPLETING, S.DONE, S.STALLED, S.RESCHEDULED, S.FAILED, S.KILLED}),
    S.STALLED: frozenset({S.RUNNING, S.RESCHEDULED, S.FAILED, S.KILLED}),
    S.COMPLETING: frozenset({S.COMPLETED, S.DONE, S.STALLED, S.RESCHEDULED, S.FAILED, S.KILLED}),
    S.COMPLETED: frozenset({S.DONE, S.FAILED, S.KILLED}),
    S.DONE: frozenset({S.RESCHEDULED, S.DELETED}),
    S.FAILED: frozenset({S.RESCHEDULED, S.DELETED}),
    S.KILLED: frozenset({S.RESCHEDULED, S.DELETED}),
    S.RESCHEDULED: frozenset({S.WAITING, S.CHECKING, S.FAILED, S.KILLED}),
    S.DELETED: frozenset(),
}


class TransitionRefused(Conflict):
    """The job's present state does not allow this."""

    code = "transition-refused"


def allowed(old: JobStatus, new: JobStatus) -> bool:
    return new in TRANSITIONS[old]


def sources_of(new: JobStatus) -> list[str]:
    """The states that may become `new`: the `compare` of a compare-and-set."""
    return [old.value for old, targets in TRANSITIONS.items() if new in targets]


def refusal(old: JobStatus, new: JobStatus) -> TransitionRefused:
    """The error that tells why a job cannot become `new`."""
    if old is new:
        sentence = f"It is already {old.value}."
    elif new is S.KILLED and old in FINAL:
        sentence = f"It is {old.value}: it has ended already."
    elif new is S.RESCHEDULED and old in {S.WAITING, S.RECEIVED, S.CHECKING, S.STAGING, S.SCOUTING}:
        sentence = f"It is {old.value}: it does not run, and need not be rescheduled."
    else:
        sentence = f"It is {old.value}, and cannot become {new.value}; only {listed(sources_of(new))} can."
    return TransitionRefused(sentence, status=old.value, wanted=new.value)


def digest(wants: Requirements) -> bytes:
    """Equal requirements have an equal digest."""
    return hashlib.sha256(msgspec.json.encode(wants)).digest()


def requirements(spec: JobSpec, caller: Caller) -> Requirements:
    """Of a normalised description: see `spinor.jobs.description.normalised`."""
    return Requirements(
        vo_id=caller.vo_id,
        owner_id=caller.user_id,
        group_id=caller.group_id,
        job_type=spec.job_type,
        cores=spec.cores,
        max_cores=max(spec.cores, spec.max_cores or 0),
        whole_node=spec.whole_node,
        memory_bytes=int(spec.memory_bytes),
        disk_bytes=int(spec.disk_bytes),
        wall_s=int(spec.wall_s),
        cpu_work_hs23_s=spec.cpu_work_hs23_s or 0,
        gpus=spec.gpus,
        gpu_model=spec.gpu_model.casefold(),
        gpu_memory_bytes=int(spec.gpu_memory_bytes),
        platform=spec.platform,
        container=bool(spec.container_image),
        sites=sorted(set(spec.sites)),
        banned_sites=sorted(set(spec.banned_sites)),
        computing_elements=sorted(set(spec.computing_elements)),
        tags=sorted(set(spec.tags)),
        labels=sorted(set(spec.labels)),
    )


STORAGE_PAUSE = "waits for storage elements"  # The minor status of jobs that pause until one may be used again.
ERROR_CLASSES = tuple(ErrorClass)  # The order of `job.retried` and `job_array.retries`.


allowed_retries: Callable[[Retries], tuple[int, ...]] = attrgetter(*(each.value for each in ERROR_CLASSES))


def error_class(report: FinishReport) -> ErrorClass:
    """What an attempt that failed is counted as."""
    if report.error_class is not None:
        return report.error_class
    return ErrorClass.SITE if report.exit_code is None else ErrorClass.PAYLOAD


LONGEST_DELAY_S = 3600


def retry_delay_s(retries: Retries, earlier: int) -> int:
    """How long a job pauses before its next retry, after so many of any class."""
    return min(LONGEST_DELAY_S, int(retries.delay_s) * (1 << min(earlier, 20)))


class Verdict(Struct, frozen=True, kw_only=True):
    """What an attempt's end makes of its job."""

    status: JobStatus
    minor_status: str
    reason: str = ""
    error_class: ErrorClass | None = None  # When it is another than the report's.


def verdict(report: FinishReport, missing: Sequence[str]) -> Verdict:
    """From the pilot's report and the outputs that had to be there and are not."""
    if report.error:
        return Verdict(status=S.FAILED, minor_status=first_line(report.error), reason=report.error)
    if report.exit_code is None:
        return Verdict(status=S.FAILED, minor_status="application did not run", reason="the pilot gave no exit code")
    if report.exit_code != 0:
        reason = f"exit code {report.exit_code}" if report.exit_code > 0 else f"ended by signal {-report.exit_code}"
        return Verdict(status=S.FAILED, minor_status="application finished with errors", reason=reason)
    if missing:
        reason = f"the application ended well but left no file for {named(missing)}"
        return Verdict(status=S.FAILED, minor_status="output data missing", reason=reason)
    return Verdict(status=S.DONE, minor_status="execution complete")


def first_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[0][:128]


def named(items: Sequence[str], most: int = 3) -> str:
    """The first few of a list and how many there are."""
    shown = ", ".join(items[:most])
    return shown if len(items) <= most else f"{shown} and {len(items) - most} more"


def source_of(pilot_id: int) -> str:
    """What the history calls a pilot."""
    return f"pilot {pilot_id}"


def held_by(user: str) -> str:
    """The minor status of a job that waits for its release."""
    return f"held by {user}"
