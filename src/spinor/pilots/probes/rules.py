"""Pure: the steps of a probe out of what is known of its pilot and its job."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from spinor.jobs.models import JobStatus
from spinor.pilots.models import ElementState, PilotStatus
from spinor.pilots.probes.models import JobFacts, Look, PilotFacts, Step, StepState

OK, FAILED, RUNNING, WAITING, SKIPPED = (
    StepState.OK, StepState.FAILED, StepState.RUNNING, StepState.WAITING, StepState.SKIPPED,
)  # fmt: skip

PRELUDE = ("operations data", "plugin options", "contact")
NAMES = (*PRELUDE, "submission", "queue", "start", "node", "match", "payload", "output", "good-bye")
FINAL_JOB = frozenset({JobStatus.DONE, JobStatus.FAILED, JobStatus.KILLED, JobStatus.DELETED})

_REMEDIES = {
    "operations data": "Correct the element in the operations data (`spinor config`).",
    "plugin options": "Correct `options` of the element in the operations data (`spinor config`).",
    "contact": "See whether the element is up, and whether this service's key or token is known there.",
    "submission": "Read what the element says; often it is an account, a queue or a limit that is not there (options).",
    "queue": "Look at the queue of the element: it may be full, stopped, or the account may have no share in it.",
    "start": "Read the pilot's log. The node needs Python 3.9 and a way by HTTPS to this service's address.",
    "node": "Mend or exclude the node; its checks are those of the pilot (`spinor pilot show`).",
    "match": "The pilot asked for its job and did not get it; see `spinor job explain` for the job.",
    "payload": "Read the job's output (`spinor job log`): the node runs the pilot, but not what it starts.",
    "output": "See whether nodes of this site reach the storage element, and whether there is room on it.",
    "good-bye": "The pilot stayed or vanished after its job; read its log (`spinor pilot log`).",
}


def steps_of(look: Look) -> list[Step]:
    """All steps in order. After the first that failed, the others are skipped."""
    found: list[Step] = []
    failed = False
    for step in (*look.row.prelude, *_later_steps(look)):
        if failed:
            found.append(Step(name=step.name, state=SKIPPED))
            continue
        if step.state is FAILED and not step.remedy:
            step = Step(
                name=step.name, state=FAILED, detail=step.detail, took_s=step.took_s, remedy=_REMEDIES[step.name]
            )
        found.append(step)
        failed = step.state is FAILED
    return _with_timeout(look, found)


def _with_timeout(look: Look, steps: list[Step]) -> list[Step]:
    """When the time is over, the step that runs has failed."""
    if look.row.age_s <= look.row.timeout_s or outcome(steps) is not None:
        return steps
    first = next((n for n, step in enumerate(steps) if step.state in (RUNNING, WAITING)), len(steps))
    late = steps[first]
    detail = f"not done within {look.row.timeout_s} s{f'; {late.detail}' if late.detail else ''}"
    failed = Step(name=late.name, state=FAILED, detail=detail, remedy=_REMEDIES[late.name])
    return [*steps[:first], failed, *(Step(name=step.name, state=SKIPPED) for step in steps[first + 1 :])]


def outcome(steps: list[Step]) -> bool | None:
    """Whether it succeeded; None while it goes on."""
    if any(step.state is FAILED for step in steps):
        return False
    return True if all(step.state in (OK, SKIPPED) for step in steps) and len(steps) == len(NAMES) else None


def first_failure(steps: list[Step]) -> str:
    """The reason of a probe that failed, in one sentence."""
    failed = next(step for step in steps if step.state is FAILED)
    return f"probe failed at the step {failed.name}: {failed.detail}"


def _later_steps(look: Look) -> Iterator[Step]:
    pilot, job = look.pilot, look.job
    if pilot is None:
        yield from (Step(name=name) for name in NAMES[len(PRELUDE) :])
        return
    yield _submission(pilot)
    yield _queue(look, pilot)
    yield _start(look, pilot)
    yield _node(pilot)
    if look.row.job_id is None:
        why = "who asked for this probe may not submit jobs, so it runs none"
        yield from (Step(name=name, state=SKIPPED, detail=why) for name in ("match", "payload", "output"))
    else:
        yield _match(pilot, job)
        yield _payload(pilot, job)
        yield _output(look, job)
    yield _goodbye(look, pilot, job)


def _submission(pilot: PilotFacts) -> Step:
    name = "submission"
    if pilot.external_id is not None:
        took = _took(pilot.created_at, pilot.submitted_at)
        return Step(name=name, state=OK, detail=f"the element calls it {pilot.external_id}", took_s=took)
    if pilot.enrolled_at is not None:
        return Step(name=name, state=OK, detail="it enrolled before its submission was recorded")
    if pilot.ended_at is not None:
        return Step(name=name, state=FAILED, detail=pilot.reason, took_s=_took(pilot.created_at, pilot.ended_at))
    return Step(name=name, state=RUNNING)


def _queue(look: Look, pilot: PilotFacts) -> Step:
    name = "queue"
    began = look.row.running_at or pilot.enrolled_at
    if began is not None:
        return Step(name=name, state=OK, detail="the pilot was started", took_s=_took(pilot.submitted_at, began))
    if pilot.external_id is None:
        return Step(name=name)
    if pilot.ended_at is not None:
        return Step(name=name, state=FAILED, detail=_with_log(pilot))
    return Step(
        name=name, state=RUNNING, detail=f"the element says: {look.row.said.value if look.row.said else 'nothing yet'}"
    )


def _start(look: Look, pilot: PilotFacts) -> Step:
    name = "start"
    if pilot.enrolled_at is not None:
        took = _took(look.row.running_at, pilot.enrolled_at)
        return Step(name=name, state=OK, detail=f"it enrolled from {pilot.hostname or 'an unnamed node'}", took_s=took)
    if look.row.running_at is None:
        return Step(name=name)
    if pilot.ended_at is not None:
        return Step(name=name, state=FAILED, detail=_with_log(pilot))
    return Step(name=name, state=RUNNING, detail="the pilot runs, and has not enrolled yet")


def _node(pilot: PilotFacts) -> Step:
    name = "node"
    if pilot.diagnosis:
        words = "; ".join(f"{each.check}: {each.detail}" for each in pilot.diagnosis)
        return Step(name=name, state=FAILED, detail=f"the pilot finds it unfit: {words}")
    if pilot.enrolled_at is None:
        return Step(name=name)
    return Step(name=name, state=OK, detail=node_words(pilot))


def node_words(pilot: PilotFacts) -> str:
    """What the pilot found, in one line."""
    node = pilot.node or {}
    sizes = {"memory_bytes": "memory", "disk_bytes": "disk"}
    parts = [f"{node['cores']} cores"] if "cores" in node else []
    parts += [f"{node[key] / 1e9:.1f} GB {word}" for key, word in sizes.items() if isinstance(node.get(key), int)]
    if pilot.offer is not None:
        offer = pilot.offer
        parts += [f"{offer.wall_s} s left"]
        parts += [f"{len(offer.gpus)} GPUs"] if offer.gpus else []
        parts += [f"runtimes {', '.join(offer.container_runtimes)}"] if offer.container_runtimes else []
    if pilot.hs23_per_core:
        parts.append(f"{pilot.hs23_per_core:.1f} HS23 a core")
    parts += [words for name, value in node.items() if (words := _fact(name, value))]
    return ", ".join(parts)


# By other words, or in another step.
_SAID = frozenset(
    {"hostname", "gpus", "container_runtimes", "hs23_per_core", "cores", "memory_bytes", "disk_bytes", "wall_s"}
)


def _fact(name: str, value: Any) -> str:
    plain = name.replace("_", " ")
    if name in _SAID or value in ("", None, [], {}):
        return ""
    if isinstance(value, bool):
        return f"{'' if value else 'no '}{plain}"
    if isinstance(value, list):
        return f"{plain} {' and '.join(map(str, value))}"
    if isinstance(value, dict):
        return f"{plain} {' and '.join(f'{key} {each}' for key, each in value.items())}"
    return f"{plain} {value}"


def _match(pilot: PilotFacts, job: JobFacts | None) -> Step:
    name = "match"
    if job is not None and job.matched_at is not None:
        return Step(name=name, state=OK, took_s=_took(pilot.enrolled_at, job.matched_at))
    if job is not None and job.status in FINAL_JOB:
        return Step(name=name, state=FAILED, detail=f"the job is {job.status.value}: {job.minor_status}")
    if pilot.ended_at is not None:
        return Step(name=name, state=FAILED, detail=f"the pilot has ended: {pilot.reason}")
    return Step(name=name, state=RUNNING if pilot.enrolled_at is not None else WAITING)


def _payload(pilot: PilotFacts, job: JobFacts | None) -> Step:
    name = "payload"
    if job is None or job.matched_at is None:
        return Step(name=name)
    if job.status is JobStatus.DONE or (job.status is JobStatus.FAILED and job.exit_code == 0):
        return Step(
            name=name, state=OK, detail=f"exit code {job.exit_code}", took_s=_took(job.started_at, job.ended_at)
        )
    if job.status in FINAL_JOB or job.status is JobStatus.CHECKING:
        words = job.reason or job.minor_status
        return Step(name=name, state=FAILED, detail=words, took_s=_took(job.matched_at, job.ended_at))
    if pilot.ended_at is not None:
        return Step(name=name, state=FAILED, detail=f"the pilot has ended: {pilot.reason}")
    return Step(name=name, state=RUNNING, detail=f"the job is {job.status.value}")


def _output(look: Look, job: JobFacts | None) -> Step:
    name = "output"
    if not look.row.se:
        return Step(name=name, state=SKIPPED, detail="no storage element was named")
    if job is None or job.status not in FINAL_JOB:
        return Step(name=name)
    if job.status is JobStatus.DONE and job.output_files:
        return Step(name=name, state=OK, detail=f"uploaded and registered: {', '.join(job.output_files)}")
    return Step(name=name, state=FAILED, detail=job.reason or job.minor_status)


def _goodbye(look: Look, pilot: PilotFacts, job: JobFacts | None) -> Step:
    name = "good-bye"
    if pilot.status is PilotStatus.DONE:
        began = job.ended_at if job else pilot.enrolled_at
        return Step(name=name, state=OK, detail=pilot.reason, took_s=_took(began, pilot.ended_at))
    if pilot.ended_at is not None:
        return Step(name=name, state=FAILED, detail=f"the pilot is {pilot.status.value}: {pilot.reason}")
    over = look.row.job_id is None or (job is not None and job.status in FINAL_JOB)
    return Step(name=name, state=RUNNING if over and pilot.enrolled_at is not None else WAITING)


def _with_log(pilot: PilotFacts) -> str:
    tail = " / ".join(line.strip() for line in pilot.log_tail.splitlines()[-3:] if line.strip())
    return f"{pilot.reason}{f'; its last words: {tail}' if tail else ''}"


def _took(began: datetime | None, ended: datetime | None) -> float | None:
    return max(0.0, round((ended - began).total_seconds(), 3)) if began and ended else None


def has_started(said: ElementState) -> bool:
    """Whether the element's word means that the pilot was started."""
    return said in (ElementState.RUNNING, ElementState.DONE, ElementState.FAILED)
