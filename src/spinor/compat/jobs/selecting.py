"""dirac-wms-select-jobs, dirac-wms-jobs-select-output-search, dirac-wms-get-wn."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from spinor.compat.jobs.program import Given, Program, Switch, Usage
from spinor.compat.jobs.words import client, for_each, host_of, minor, say, state, where_of
from spinor.terminal import printable

if TYPE_CHECKING:
    from spinor.client import Client
    from spinor.jobs.models import JobRow

_MOST = 100
_CONDITIONS = (
    Switch("", "Status=", "Primary status"),
    Switch("", "MinorStatus=", "Secondary status"),
    Switch("", "ApplicationStatus=", "Application status"),
    Switch("", "Site=", "Execution site"),
    Switch("", "Owner=", "Owner (nickname)"),
    Switch("", "JobGroup=", "Select jobs for specified job group"),
    Switch("", "Date=", "Date in YYYY-MM-DD format, if not specified default is today"),
)


def _day(text: str | None) -> str:
    """The first day of those that are wanted; today where none is named, as with DIRAC."""
    if text is None or text.lower() == "today":
        return datetime.now(UTC).date().isoformat()
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise Usage(f"{printable(text)!r} is no date such as 2026-11-27") from None


def _where(given: Given) -> str:
    status, secondary = given.value("Status"), given.value("MinorStatus")
    return where_of(
        {
            "status": status.lower() if status else None,
            "minor_status": secondary.lower() if secondary else None,
            "application_status": given.value("ApplicationStatus"),
            "site": given.value("Site"),
            "owner": given.value("Owner"),
            "job_group": given.value("JobGroup"),
        },
        _day(given.value("Date")),
    )


def _rows(connected: "Client", where: str) -> "list[JobRow]":
    from spinor.jobs.models import JobRow

    return list(connected.pages("/api/jobs/search", {"where": where, "sort": ["job_id"]}, JobRow))


def _select(given: Given) -> int:
    text = given.value("Maximum") or str(_MOST)
    if not text.isdecimal():
        raise Usage(f"--Maximum is {printable(text)!r}; it must be a whole number")
    most = int(text)
    named = {name: given.value(name) for name in ("Status", "MinorStatus", "ApplicationStatus", "Owner", "JobGroup")}
    shown = ", ".join(f"{name} = {value}" for name, value in {**named, "Date": given.value("Date") or "Today"}.items()
                      if value)  # fmt: skip
    with client() as connected:
        rows = _rows(connected, _where(given))
    if not rows:
        say(f"No jobs were selected with conditions: {printable(shown)}")
        return 0
    ids = [str(row.job_id) for row in rows[: most or None]]
    cut = f" (first {most} shown) " if len(ids) < len(rows) else " "
    say(f"==> Selected {len(ids)} jobs{cut}with conditions: {printable(shown)}")
    say(",".join(ids))
    return 0


def _output_search(given: Given) -> int:
    from spinor.compat.jobs.output import streams_or_file

    wanted, name = given.words[0].encode(), given.value("File") or "std.out"
    with client() as connected:
        ids = [row.job_id for row in _rows(connected, _where(given))]

        def one(job_id: int) -> None:
            found = [line for line in streams_or_file(connected, job_id, name).splitlines() if wanted in line]
            if found:
                say(str((str(job_id), printable(found[-1].decode(errors="replace")) + "\n")))

        return for_each(ids, one)


def _worker_nodes(given: Given) -> int:
    text = given.value("Status") or "Running"
    statuses = "" if text.lower() == "all" else text.lower()
    since, until = _period(given)
    where = where_of({"site": given.value("Site"), "status": statuses}, since)
    if secondary := given.value("MinorStatus"):
        where += " " + where_of({"minor_status": secondary.lower()})
    if until:
        where += f" submitted_at<{until}"
    nodes = (given.value("WorkerNode") or "").split(",") if given.has("WorkerNode") else []
    batch_ids = (given.value("BatchID") or "").split(",") if given.has("BatchID") else []
    with client() as connected:
        found = [(row, *_place(connected, row)) for row in _rows(connected, where)]
    if not found:
        say("No jobs found...")
        return 0
    say(f"{len(found)} jobs found")
    found = [each for each in found if not nodes or any(each[1].startswith(node) for node in nodes)]
    found = [each for each in found if not batch_ids or each[2] in batch_ids]
    site, label = printable(given.value("Site") or "all sites"), since or "today"
    if nodes or batch_ids:
        say(f"Found {len(found)} jobs at {site}, WN {nodes or None} (since {label}):")
        say(f"List of jobs: {','.join(str(row.job_id) for row, _, _ in reversed(found))}")
    else:
        say(f"Found {len(found)} jobs {text} at {site} (since {label}):")
        counted = Counter(node for _, node, _ in found)
        say("List of WNs: " + ",".join(f"{node} ({count})" for node, count in counted.most_common()))
    if given.has("Full") or nodes or batch_ids:
        for row, node, batch_id in found:
            status = f"{state(row.status)}; {minor(row.minor_status)}; {printable(row.application_status) or 'Unknown'}"
            say(f"{node} ({batch_id}): {row.job_id} - {status}")
    return 0


def _place(connected: "Client", row: "JobRow") -> tuple[str, str]:
    """The worker node, and the pilot's id in the batch system."""
    from contextlib import suppress

    from spinor.errors import SpinorError
    from spinor.pilots.models import Pilot

    batch_id = "Unknown"
    if row.pilot_id is not None:
        with suppress(SpinorError):
            batch_id = printable(connected.get(f"/api/pilots/{row.pilot_id}", Pilot).external_id or "Unknown")
    return host_of(row, connected) or "Unknown", batch_id


def _period(given: Given) -> tuple[str, str]:
    """From which day on, and before which one."""
    if given.has("Date"):
        first = date.fromisoformat(_day(given.value("Date")))
        return first.isoformat(), (first + timedelta(days=1)).isoformat()
    words = {"today": "0", "yesterday": "1", "ever": "730"}
    text = words.get((given.value("Since") or "today").lower(), given.value("Since") or "0")
    if text.isdecimal():
        return (datetime.now(UTC).date() - timedelta(days=int(text))).isoformat(), ""
    return _day(text), ""


SELECT = Program(
    "Select jobs matching the given conditions",
    _select,
    "",
    (*_CONDITIONS, Switch("", "Maximum=", f"Maximum number of jobs shown (default {_MOST}, 0 means all)")),
)
OUTPUT_SEARCH = Program(
    "Search for a string in the output of the selected jobs",
    _output_search,
    "String",
    (*_CONDITIONS, Switch("", "File=", "File name, if not specified default is std.out")),
    least=1,
)
WORKER_NODES = Program(
    "Get the worker nodes of a selection of jobs",
    _worker_nodes,
    "",
    (
        Switch("", "Site=", "Select site (default: all)"),
        Switch("", "Status=", "Select status (default: Running)"),
        Switch("", "MinorStatus=", "Select minor status"),
        Switch("", "WorkerNode=", "Select WN"),
        Switch("", "BatchID=", "Select batch jobID"),
        Switch("", "Since=", "Date since when to select jobs, or number of days (default: today)"),
        Switch("", "Date=", "Specify the date (check for a full day)"),
        Switch("", "Full", "Printout full list of jobs"),
    ),
)
