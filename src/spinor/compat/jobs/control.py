"""dirac-wms-job-kill, -delete, -reschedule, dirac-admin-reset-job, and dkill."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from spinor.compat.jobs.looking import named_jobs
from spinor.compat.jobs.program import Given, Program, Switch, Usage
from spinor.compat.jobs.words import client, job_ids, say
from spinor.terminal import printable

if TYPE_CHECKING:
    from spinor.client import Client
    from spinor.jobs.models import Outcome


def _command(connected: "Client", verb: str, ids: Sequence[int]) -> "Outcome":
    from spinor.jobs.models import CommandJobs, Outcome

    return connected.post(f"/api/jobs/{verb}", CommandJobs(job_ids=list(ids)), Outcome)


def _told(outcome: "Outcome", past: str) -> int:
    """DIRAC names the jobs behind the verb; what was refused comes after."""
    from spinor.jobs.client import refusals

    if outcome.done:
        say(f"{past} {','.join(map(str, outcome.done_ids))}")
    for sentence in refusals(outcome):
        say(f"ERROR {printable(sentence)}")
    return 2 if outcome.refused else 0


def _kill(given: Given) -> int:
    with client() as connected:
        return _told(_command(connected, "kill", job_ids(given.words)), "Killed jobs")


def _delete(given: Given) -> int:
    with client() as connected:
        ids = named_jobs(given, connected)
        if not ids:
            raise Usage("no jobs selected")
        return _told(_command(connected, "delete", ids), "Deleted jobs")


def _reschedule(given: Given) -> int:
    with client() as connected:
        return _told(_command(connected, "reschedule", job_ids(given.words)), "Rescheduled job")


def _reset(given: Given) -> int:
    from spinor.jobs.client import refusals

    with client() as connected:
        outcome = _command(connected, "reschedule", job_ids(given.words))
    for job_id in outcome.done_ids:
        say(f"Reset Job {job_id}")
    for sentence in refusals(outcome):
        say(f"ERROR {printable(sentence)}")
    return 2 if outcome.refused else 0


def _dkill(given: Given) -> int:
    from spinor.identity.models import WhoAmI
    from spinor.jobs.client import BEFORE_RUNNING, quoted, refusals
    from spinor.jobs.models import CommandJobs, Outcome

    verb, past = ("delete", "deleted") if given.has("delete") else ("kill", "killed")
    with client() as connected:
        ids, where = job_ids(given.words), ""
        if given.has("all"):
            user = connected.get("/api/auth/whoami", WhoAmI).user
            living = sorted({*BEFORE_RUNNING, "running", "stalled", "completing", "completed"})
            where = f"owner={quoted(user)}" + (
                " status!=deleted" if verb == "delete" else f" status={','.join(living)}"
            )
        if not ids and not where:
            raise Usage("name jobs by their ids, or all of yours by -a")
        outcome = connected.post(f"/api/jobs/{verb}", CommandJobs(job_ids=ids, where=where), Outcome)
    if given.has("verbose"):
        for job_id in outcome.done_ids:
            say(f"{past} job {job_id}")
    for sentence in refusals(outcome):
        say(f"ERROR: {printable(sentence)}")
    return 2 if outcome.refused else 0


_JOBS = "JobID ..."

KILL = Program(
    "Issue a kill signal to jobs", _kill, _JOBS, least=1, example="$ dirac-wms-job-kill 1918\nKilled jobs 1918"
)
DELETE = Program(
    "Delete jobs; what runs is killed",
    _delete,
    _JOBS,
    (
        Switch("f", "File=", "Delete jobs with IDs from the file"),
        Switch("g", "JobGroup=", "Delete jobs in the given group"),
    ),
    example="$ dirac-wms-job-delete 12\nDeleted jobs 12",
)
RESCHEDULE = Program(
    "Reschedule jobs", _reschedule, _JOBS, least=1, example="$ dirac-wms-job-reschedule 1\nRescheduled job 1"
)
RESET = Program(
    "Reset jobs: their automatic retries are counted anew",
    _reset,
    _JOBS,
    least=1,
    example="$ dirac-admin-reset-job 1848\nReset Job 1848",
)
DKILL = Program(
    "Kill or delete jobs",
    _dkill,
    _JOBS,
    (
        Switch("D", "delete", "delete job"),
        Switch("a", "all", "select all jobs"),
        Switch("v", "verbose", "verbose output"),
    ),
)
