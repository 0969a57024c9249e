"""The verbs of jobs."""

from spinor.jobs.service.attempts import (
    StaleReport,
    expire_leases,
    finish_job,
    release_jobs_of_pilot,
    renew_leases,
    start_job,
)
from spinor.jobs.service.commands import kill_jobs, reschedule_jobs
from spinor.jobs.service.elements import Elements
from spinor.jobs.service.explanation import explain_job
from spinor.jobs.service.logs import UnknownJob, append_log, read_log
from spinor.jobs.service.looking import arrays_of, count_jobs, job_history, search_jobs, show_job, summarise_jobs
from spinor.jobs.service.matching import Matcher, demand, match_jobs
from spinor.jobs.service.payloads import AttemptEnded, caller_of_payload, interrupt_suspended, note_progress, own_job
from spinor.jobs.service.sandboxes import (
    find_output,
    find_sandbox,
    find_sandbox_of_attempt,
    receive_sandbox,
    receive_sandbox_of_attempt,
    sweep_sandboxes,
)
from spinor.jobs.service.submission import submit_jobs

__all__ = [
    "AttemptEnded",
    "Elements",
    "Matcher",
    "StaleReport",
    "UnknownJob",
    "append_log",
    "arrays_of",
    "caller_of_payload",
    "count_jobs",
    "demand",
    "expire_leases",
    "explain_job",
    "find_output",
    "find_sandbox",
    "find_sandbox_of_attempt",
    "finish_job",
    "interrupt_suspended",
    "job_history",
    "kill_jobs",
    "match_jobs",
    "note_progress",
    "own_job",
    "read_log",
    "receive_sandbox",
    "receive_sandbox_of_attempt",
    "release_jobs_of_pilot",
    "renew_leases",
    "reschedule_jobs",
    "search_jobs",
    "show_job",
    "start_job",
    "submit_jobs",
    "summarise_jobs",
    "sweep_sandboxes",
]
