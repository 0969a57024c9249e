"""Pure decisions: the state machine, who fits where, and what a pilot's report means."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from spinor.errors import Conflict
from spinor.jobs.models import FinishReport, JobSpec, JobStatus, Offer

S = JobStatus

LEASE_S = 60  # A pilot renews its leases far more often; one that is silent for so long has lost its jobs.

FINAL = frozenset({S.DONE, S.FAILED, S.KILLED, S.DELETED})
HELD = frozenset({S.MATCHED, S.RUNNING, S.COMPLETING})  # A pilot works on it, under a lease.

# From each state to those it may become. Differences from DIRAC's machine: docs/reference/job-states.md.
TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    S.SUBMITTING: frozenset({S.RECEIVED, S.FAILED, S.KILLED}),
    S.RECEIVED: frozenset({S.CHECKING, S.SCOUTING, S.STAGING, S.WAITING, S.FAILED, S.KILLED}),
    S.CHECKING: frozenset({S.SCOUTING, S.STAGING, S.WAITING, S.FAILED, S.KILLED}),
    S.SCOUTING: frozenset({S.CHECKING, S.FAILED, S.KILLED}),
    S.STAGING: frozenset({S.CHECKING, S.WAITING, S.FAILED, S.KILLED}),
    S.WAITING: frozenset({S.MATCHED, S.FAILED, S.KILLED}),
    S.MATCHED: frozenset({S.RUNNING, S.STALLED, S.RESCHEDULED, S.FAILED, S.KILLED}),
    S.RUNNING: frozenset({S.COMPLETING, S.DONE, S.STALLED, S.RESCHEDULED, S.FAILED, S.KILLED}),
    S.STALLED: frozenset({S.RUNNING, S.RESCHEDULED, S.FAILED, S.KILLED}),
    S.COMPLETING: frozenset({S.COMPLETED, S.DONE, S.STALLED, S.FAILED, S.KILLED}),
    S.COMPLETED: frozenset({S.DONE, S.FAILED, S.KILLED}),
    S.DONE: frozenset({S.DELETED}),
    S.FAILED: frozenset({S.RESCHEDULED, S.DELETED}),
    S.KILLED: frozenset({S.RESCHEDULED, S.DELETED}),
    S.RESCHEDULED: frozenset({S.WAITING, S.FAILED, S.KILLED}),
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


def refusal(job_id: int, old: JobStatus, new: JobStatus) -> TransitionRefused:
    """The error that tells why a job cannot become `new`."""
    if old is new:
        sentence = f"Job {job_id} is already {old.value}."
    elif new is S.KILLED and old in FINAL:
        sentence = f"Job {job_id} is {old.value}: it has ended already."
    elif new is S.RESCHEDULED and old in {S.WAITING, S.RECEIVED, S.CHECKING, S.STAGING, S.SCOUTING}:
        sentence = f"Job {job_id} is {old.value}: it has not run yet, and need not be rescheduled."
    else:
        sentence = f"Job {job_id} is {old.value}, and cannot become {new.value}; only {listed(sources_of(new))} can."
    return TransitionRefused(sentence, job_id=job_id, status=old.value, wanted=new.value)


def listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


class Requirements(msgspec.Struct, frozen=True, kw_only=True):
    """What jobs of one task queue have in common. Equal requirements have an equal digest."""

    vo_id: int
    owner_id: int
    group_id: int
    cores: int
    memory_bytes: int
    disk_bytes: int
    wall_s: int
    sites: list[str]
    tags: list[str]

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(msgspec.json.encode(self)).digest()


def requirements(spec: JobSpec, vo_id: int, owner_id: int, group_id: int) -> Requirements:
    """Of a normalised description: see `spinor.jobs.description.normalised`."""
    return Requirements(
        vo_id=vo_id,
        owner_id=owner_id,
        group_id=group_id,
        cores=spec.cores,
        memory_bytes=int(spec.memory_bytes),
        disk_bytes=int(spec.disk_bytes),
        wall_s=int(spec.wall_s),
        sites=sorted(set(spec.sites)),
        tags=sorted(set(spec.tags)),
    )


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What a slot has, or what an element gives its pilots. None: not known beforehand."""

    site: str
    cores: int
    memory_bytes: int
    disk_bytes: int | None
    wall_s: int
    tags: frozenset[str]

    @staticmethod
    def of(offer: Offer, site: str) -> "Capacity":
        return Capacity(
            site=site,
            cores=offer.cores,
            memory_bytes=offer.memory_bytes,
            disk_bytes=offer.disk_bytes,
            wall_s=offer.wall_s,
            tags=frozenset(offer.tags),
        )


class Wants(Protocol):
    """The constraints of a task queue that a slot must satisfy."""

    @property
    def cores(self) -> int: ...
    @property
    def memory_bytes(self) -> int: ...
    @property
    def disk_bytes(self) -> int: ...
    @property
    def wall_s(self) -> int: ...
    @property
    def sites(self) -> list[str]: ...
    @property
    def tags(self) -> list[str]: ...


def exclusions(wants: Wants, has: Capacity) -> list[str]:
    """Each constraint that keeps these jobs off this slot, as a clause with both values; empty when they fit."""
    found = []
    if wants.sites and has.site not in wants.sites:
        found.append(f"site: the job asks for {listed(wants.sites)}, this is {has.site}")
    if wants.cores > has.cores:
        found.append(f"cores: the job asks for {wants.cores}, here are {has.cores}")
    if wants.memory_bytes > has.memory_bytes:
        found.append(f"memory_bytes: the job asks for {wants.memory_bytes:,}, here are {has.memory_bytes:,}")
    if has.disk_bytes is not None and wants.disk_bytes > has.disk_bytes:
        found.append(f"disk_bytes: the job asks for {wants.disk_bytes:,}, here are {has.disk_bytes:,}")
    if wants.wall_s > has.wall_s:
        found.append(f"wall_s: the job asks for {wants.wall_s:,} s, here are {has.wall_s:,} s")
    absent = sorted(set(wants.tags) - has.tags)
    if absent:
        found.append(f"tags: {listed(absent)} not offered here")
    return found


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt's end makes of its job."""

    status: JobStatus
    minor_status: str
    reason: str = ""


def verdict(report: FinishReport, wanted: Iterable[str]) -> Verdict:
    """From the pilot's report and the LFNs that the job must leave behind."""
    if report.error:
        return Verdict(status=S.FAILED, minor_status=first_line(report.error), reason=report.error)
    if report.exit_code is None:
        return Verdict(status=S.FAILED, minor_status="application did not run", reason="the pilot gave no exit code")
    if report.exit_code != 0:
        reason = f"exit code {report.exit_code}" if report.exit_code > 0 else f"ended by signal {-report.exit_code}"
        return Verdict(status=S.FAILED, minor_status="application finished with errors", reason=reason)
    produced = {output.lfn for output in report.outputs}
    missing = [lfn for lfn in wanted if lfn not in produced]
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
