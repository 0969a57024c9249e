"""The states of a job, in DIRAC's words. `spinor.jobs.rules` holds the transitions between them."""

from enum import StrEnum


class JobStatus(StrEnum):
    SUBMITTING = "submitting"
    RECEIVED = "received"
    CHECKING = "checking"
    SCOUTING = "scouting"
    STAGING = "staging"
    WAITING = "waiting"
    MATCHED = "matched"
    RUNNING = "running"
    STALLED = "stalled"
    COMPLETING = "completing"
    COMPLETED = "completed"
    DONE = "done"
    FAILED = "failed"
    KILLED = "killed"
    RESCHEDULED = "rescheduled"
    DELETED = "deleted"


class LogStream(StrEnum):
    STDOUT = "stdout"
    STDERR = "stderr"
