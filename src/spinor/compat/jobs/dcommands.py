"""dstat and dlogging: DIRAC's commands in the manner of a batch system."""

import csv
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from spinor.compat.jobs.looking import named_jobs
from spinor.compat.jobs.program import Given, Program, Switch, Usage
from spinor.compat.jobs.words import client, filled_table, for_each, instant, minor, say, site_of, state, where_of
from spinor.terminal import printable

if TYPE_CHECKING:
    from spinor.jobs.models import JobRow

_DAYS = 10
_FINAL = frozenset({"done", "failed", "killed", "deleted"})
_FIELDS: dict[str, Callable[["JobRow"], str]] = {
    "JobID": lambda row: str(row.job_id),
    "Owner": lambda row: printable(row.owner),
    "JobName": lambda row: printable(row.name),
    "OwnerGroup": lambda row: printable(row.group),
    "JobGroup": lambda row: printable(row.job_group) or "NoGroup",
    "Site": site_of,
    "Status": lambda row: state(row.status),
    "MinorStatus": lambda row: minor(row.minor_status),
    "SubmissionTime": lambda row: instant(row.submitted_at),
    "JobType": lambda row: printable(row.job_type.capitalize()),
    "ApplicationStatus": lambda row: printable(row.application_status) or "Unknown",
    "StartExecTime": lambda row: instant(row.started_at),
    "EndExecTime": lambda row: instant(row.ended_at),
    "CPUTime": lambda row: str(row.cpu_s or 0.0),
    "LastUpdateTime": lambda row: instant(row.updated_at),
    "UserPriority": lambda row: str(row.priority),
    "RescheduleCounter": lambda row: str(max(0, row.attempt - 1)),
}
_SHOWN = ("Owner", "JobName", "OwnerGroup", "JobGroup", "Site", "Status", "MinorStatus", "SubmissionTime")


def printed(fmt: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """pretty, csv or json."""
    if fmt == "csv":
        held = io.StringIO()
        csv.writer(held, lineterminator="\n").writerows([headings, *rows])
        say(held.getvalue().rstrip("\n"))
    elif fmt == "json":
        say(json.dumps([dict(zip(headings, row, strict=True)) for row in rows]))
    elif fmt == "pretty":
        lines = filled_table(headings, rows)
        width = max(map(len, lines))
        for line in [lines[0], "=" * width, *lines[1:]]:
            say(line)
    else:
        raise Usage(f"{printable(fmt)!r} is no format; there are pretty, csv and json")


def _dstat(given: Given) -> int:
    from spinor.jobs.client import find_rows
    from spinor.jobs.models import ChosenJobs, JobRow, JobStatus

    known: Mapping[str, str] = {name.lower(): name for name in _FIELDS}
    fields = [known.get(name.strip().lower(), name) for name in (given.value("Fields") or ",".join(_SHOWN)).split(",")]
    if unknown := [name for name in fields if name not in _FIELDS]:
        raise Usage(f"there is no field {printable(unknown[0])!r}; there are {', '.join(_FIELDS)}")
    every = {status.value for status in JobStatus}
    wanted = set((given.value("Status") or ",".join(every - _FINAL)).lower().split(","))
    wanted = every if given.has("StatusAll") or "all" in wanted else wanted
    with client() as connected:
        ids = named_jobs(Given(given.words, {"File": given.values("input-file")}), connected)
        if ids:
            rows = list(find_rows(connected, ChosenJobs(job_ids=ids)))
            wanted = wanted if given.has("Status") else every  # Who names a job wants to see it.
        else:
            body = {"where": _dstat_where(given, connected), "sort": ["job_id"]}
            rows = list(connected.pages("/api/jobs/search", body, JobRow))
    shown = [row for row in rows if row.status.value in wanted]
    headings = ["JobID", *(name for name in fields if name != "JobID")]
    printed((given.value("Fmt") or "pretty").lower(), headings, [[_FIELDS[n](row) for n in headings] for row in shown])
    return 0


def _dstat_where(given: Given, connected: object) -> str:
    from spinor.client import Client
    from spinor.identity.models import WhoAmI

    assert isinstance(connected, Client)
    days = given.value("JobDate") or str(_DAYS)
    if not days.isdecimal():
        raise Usage(f"--JobDate is {printable(days)!r}; it must be a number of days")
    user: str | None = given.value("User") or connected.get("/api/auth/whoami", WhoAmI).user
    if user == "*" or (user or "").lower() == "__all__":
        user = None
    since = (datetime.now(UTC).date() - timedelta(days=int(days))).isoformat()
    return where_of({"owner": user, "job_group": given.value("JobGroup"), "name": given.value("JobName")}, since)


def _dlogging(given: Given) -> int:
    from spinor.compat.jobs.words import job_ids
    from spinor.jobs.models import HistoryEntry

    fmt = (given.value("Fmt") or "pretty").lower()
    with client() as connected:

        def one(job_id: int) -> None:
            entries = connected.get(f"/api/jobs/{job_id}/history", list[HistoryEntry])
            headings = ("Status", "MinorStatus", "ApplicationStatus", "Time", "Source")
            rows = [
                (state(e.status), minor(e.minor_status), "Unknown", instant(e.at), printable(e.source)) for e in entries
            ]
            printed(fmt, headings, rows)

        code = for_each(job_ids(given.words), one)
    sys.stdout.flush()
    return code


DSTAT = Program(
    "Retrieve the status of jobs: of the last ten days and not ended, unless told otherwise",
    _dstat,
    "[JobID] ...",
    (
        Switch("u", "User=", "job owner; * for everybody"),
        Switch("S", "Status=", "select jobs by status (comma separated)"),
        Switch("a", "StatusAll", "display jobs of any status"),
        Switch("g", "JobGroup=", "select job by job group"),
        Switch("n", "JobName=", "select job by job name"),
        Switch("f", "Fmt=", "display format (pretty, csv, json)"),
        Switch("D", "JobDate=", "age of jobs to display (in days)"),
        Switch("F", "Fields=", "fields to display (comma separated)"),
        Switch("i", "input-file=", "read JobIDs from file"),
    ),
    example="$ dstat -a -u your.dirac.username",
)
DLOGGING = Program(
    "Retrieve the history of jobs",
    _dlogging,
    "JobID ...",
    (Switch("f", "Fmt=", "display format (pretty, csv, json)"),),
    least=1,
)
