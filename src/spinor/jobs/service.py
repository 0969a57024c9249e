"""The verbs of jobs."""

from spinor.jobs.attempts.grace import keep_marking, service_answers
from spinor.jobs.attempts.payloads import (
    AttemptEnded,
    caller_of_payload,
    interrupt_suspended,
    note_progress,
    own_job,
)
from spinor.jobs.attempts.reports import finish_job, start_job, take_reports
from spinor.jobs.attempts.service import (
    expire_leases,
    expire_leases_when_due,
    give_back_jobs_of_pilot,
    quick_failures,
    release_jobs_of_pilot,
    renew_leases,
    renew_leases_of,
)
from spinor.jobs.control.service import (
    delete_jobs,
    hold_jobs,
    kill_jobs,
    prioritise_jobs,
    release_jobs,
    reschedule_jobs,
)
from spinor.jobs.errors import StaleReport, UnknownJob
from spinor.jobs.logs.service import append_log, read_log
from spinor.jobs.looking.queues import task_queues
from spinor.jobs.looking.service import arrays_of, count_jobs, job_history, search_jobs, show_job, summarise_jobs
from spinor.jobs.looking.statistics import job_statistics
from spinor.jobs.matching.claims import Ask
from spinor.jobs.matching.elements import Elements
from spinor.jobs.matching.explanation import explain_job
from spinor.jobs.matching.reserved import claim_reserved
from spinor.jobs.matching.service import (
    Matcher,
    charge_shares,
    demand,
    match_asks,
    match_jobs,
    may_match,
    shares_of_vos,
)
from spinor.jobs.matching.watch import LOOKING_NICENESS, Watch
from spinor.jobs.sandboxes.service import (
    find_output,
    find_sandbox,
    find_sandbox_of_attempt,
    receive_sandbox,
    receive_sandbox_of_attempt,
    sweep_sandboxes,
)
from spinor.jobs.submission.checking import check_jobs
from spinor.jobs.submission.intake import Intake
from spinor.jobs.submission.service import linked, stands_alone, submit_alone, submit_jobs
from spinor.jobs.usage.peeking import take_peeks, take_peeks_of
from spinor.jobs.usage.service import attempts, forget_usage, usage

__all__ = [
    "LOOKING_NICENESS",
    "Ask",
    "AttemptEnded",
    "Elements",
    "Intake",
    "Matcher",
    "StaleReport",
    "UnknownJob",
    "Watch",
    "append_log",
    "arrays_of",
    "attempts",
    "caller_of_payload",
    "charge_shares",
    "check_jobs",
    "claim_reserved",
    "count_jobs",
    "delete_jobs",
    "demand",
    "expire_leases",
    "expire_leases_when_due",
    "explain_job",
    "find_output",
    "find_sandbox",
    "find_sandbox_of_attempt",
    "finish_job",
    "forget_usage",
    "give_back_jobs_of_pilot",
    "hold_jobs",
    "interrupt_suspended",
    "job_history",
    "job_statistics",
    "keep_marking",
    "kill_jobs",
    "linked",
    "match_asks",
    "match_jobs",
    "may_match",
    "note_progress",
    "own_job",
    "prioritise_jobs",
    "quick_failures",
    "read_log",
    "receive_sandbox",
    "receive_sandbox_of_attempt",
    "release_jobs",
    "release_jobs_of_pilot",
    "renew_leases",
    "renew_leases_of",
    "reschedule_jobs",
    "search_jobs",
    "service_answers",
    "shares_of_vos",
    "show_job",
    "stands_alone",
    "start_job",
    "submit_alone",
    "submit_jobs",
    "summarise_jobs",
    "sweep_sandboxes",
    "take_peeks",
    "take_peeks_of",
    "take_reports",
    "task_queues",
    "usage",
]
