"""The changes that people and chores make of jobs: the state that each leads to, and its lines in the history."""

from spinor.jobs import rules
from spinor.jobs.models import JobStatus
from spinor.jobs.rows import Change

S = JobStatus


def killed(source: str, reason: str) -> Change:
    minor = f"killed by {source}"
    return Change(status=S.KILLED, minor_status=minor, source=source, steps=[(S.KILLED, minor, reason)])


def deleted(source: str, reason: str, *, ended: bool) -> Change:
    """Of jobs that have `ended`; the others are killed on the way."""
    minor = f"deleted by {source}"
    steps = [(S.DELETED, minor, reason)]
    if not ended:
        steps.insert(0, (S.KILLED, f"killed by {source}", reason))
    return Change(status=S.DELETED, minor_status=minor, source=source, steps=steps)


def rescheduled(source: str, reason: str) -> Change:
    """A person's order starts the count of the automatic retries anew."""
    minor = f"rescheduled by {source}"
    return Change(
        status=S.WAITING,
        minor_status=minor,
        source=source,
        steps=[(S.RESCHEDULED, minor, reason), (S.WAITING, minor, "")],
        attempt_status=S.RESCHEDULED,
        anew=True,
    )


def given_back(source: str, reason: str = "the slot was busy for longer than expected") -> Change:
    """A pilot had it in hand and did not begin it: that counts as no attempt of the automatic retries."""
    minor = "given back unused"
    return Change(
        status=S.WAITING,
        minor_status=minor,
        source=source,
        steps=[(S.RESCHEDULED, minor, reason), (S.WAITING, minor, "")],
        attempt_status=S.RESCHEDULED,
    )


def held(source: str, reason: str, *, running: bool) -> Change:
    """Of jobs that a pilot works on (`running`), the attempt ends and another one follows the release."""
    minor = rules.held_by(source)
    steps = [(S.CHECKING, minor, reason)]
    if running:
        steps.insert(0, (S.RESCHEDULED, minor, reason))
    return Change(status=S.CHECKING, minor_status=minor, source=source, steps=steps, attempt_status=S.RESCHEDULED)


def queued(source: str, reason: str) -> Change:
    """Out of `checking`, into the queue."""
    return Change(status=S.WAITING, minor_status="", source=source, steps=[(S.WAITING, "", reason)])


def made_to_wait(source: str) -> Change:
    """Released, but jobs that it comes after have not ended yet."""
    minor = rules.WAITS_FOR_OTHERS
    return Change(status=S.CHECKING, minor_status=minor, source=source, steps=[(S.CHECKING, minor, "released")])


def failed(source: str, minor: str, reason: str) -> Change:
    return Change(
        status=S.FAILED, minor_status=minor, source=source, steps=[(S.FAILED, minor, reason)], attempt_status=S.FAILED
    )
