"""The verbs of jobs."""

from spinor.jobs.service.attempts import (
    StaleReport,
    expire_leases,
    finish_job,
    release_jobs_of_pilot,
    renew_leases,
    start_job,
)
from spinor.jobs.service.elements import Elements
from spinor.jobs.service.logs import append_log
from spinor.jobs.service.matching import Matcher, demand, match_jobs
from spinor.jobs.service.submission import submit_jobs

__all__ = [
    "Elements",
    "Matcher",
    "StaleReport",
    "append_log",
    "demand",
    "expire_leases",
    "finish_job",
    "match_jobs",
    "release_jobs_of_pilot",
    "renew_leases",
    "start_job",
    "submit_jobs",
]
