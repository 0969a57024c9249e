"""Spinor's jobs in DIRAC's words: states, times, attributes and JDL."""

import pprint
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spinor.compat.jobs.program import Usage
from spinor.errors import SpinorError
from spinor.terminal import printable

if TYPE_CHECKING:
    from spinor.client import Client
    from spinor.jobs.models import Job, JobRow

_MINOR = {
    "": "Unknown",
    "execution complete": "Execution Complete",
    "application finished with errors": "Application Finished With Errors",
}


def client() -> "AbstractContextManager[Client]":
    from spinor.client import Client

    return Client.from_environment()


def state(status: str) -> str:
    """waiting -> Waiting."""
    return status.capitalize()


def minor(text: str) -> str:
    return printable(_MINOR.get(text, text[:1].upper() + text[1:]))


def seconds(value: float | None) -> str:
    """A time as DIRAC's parameters have it; empty when it is not known."""
    return "" if value is None else f"{value:.2f}"


def instant(at: datetime | None) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if at else "None"


def site_of(row: "JobRow") -> str:
    return printable(row.site or "ANY")


def host_of(row: "JobRow", connected: "Client") -> str:
    """The worker node of its newest attempt, where one may know it."""
    from contextlib import suppress

    from spinor.pilots.models import Pilot

    if row.pilot_id is not None:
        with suppress(SpinorError):
            return printable(connected.get(f"/api/pilots/{row.pilot_id}", Pilot).hostname)
    return ""


def job_ids(words: Iterable[str]) -> list[int]:
    """Ids, lists and ranges of them (1,2,5-9), and files with ids in them."""
    found: list[int] = []
    for word in words:
        for part in word.replace(",", " ").split():
            first, dash, last = part.partition("-")
            if first.isdecimal() and (not dash or last.isdecimal()):
                found += range(int(first), int(last or first) + 1)
            elif Path(part).is_file():
                found += job_ids(Path(part).read_text(encoding="utf-8").split())
            else:
                raise Usage(f"{printable(part)!r} is no job id and no file with job ids")
    return list(dict.fromkeys(found))


def for_each(ids: Sequence[Any], do: Callable[[Any], None]) -> int:
    """Do it for each; errors come last, as DIRAC's commands print them, and make the exit code 2."""
    errors = []
    for each in ids:
        try:
            do(each)
        except SpinorError as error:
            errors.append((each, error.message))
    for each, message in errors:
        say(f"ERROR {each}: {printable(message)}")
    return 2 if errors else 0


def say(text: str) -> None:
    import click

    click.echo(text)


def show(value: Any) -> None:
    """A dictionary as DIRAC's commands print it."""
    say(pprint.pformat(value))


def attributes(job: "Job") -> dict[str, str]:
    """The attributes of a job that dirac-wms-job-attributes prints, of those that mean something here."""
    return {
        "ApplicationStatus": printable(job.application_status) or "Unknown",
        "EndExecTime": instant(job.ended_at),
        "HeartBeatTime": instant(job.updated_at),
        "JobGroup": printable(job.job_group) or "NoGroup",
        "JobID": str(job.job_id),
        "JobName": printable(job.name),
        "JobType": printable(job.job_type.capitalize()),
        "LastUpdateTime": instant(job.updated_at),
        "MinorStatus": minor(job.minor_status),
        "Owner": printable(job.owner),
        "OwnerGroup": printable(job.group),
        "RescheduleCounter": str(job.reschedules),
        "Site": site_of(job),
        "StartExecTime": instant(job.started_at),
        "Status": state(job.status),
        "SubmissionTime": instant(job.submitted_at),
        "UserPriority": str(job.priority),
        "VO": printable(job.vo),
    }


def jdl(job: "Job") -> dict[str, Any]:
    """The description as the attributes of a JDL: what a JDL can say, and no more."""
    import shlex

    spec = job.description
    found: dict[str, Any] = {
        "Arguments": shlex.join(map(str, spec.arguments)),
        "BannedSites": spec.banned_sites,
        "CPUTime": str(int(spec.cpu_work_hs23_s)) if spec.cpu_work_hs23_s else "",
        "Executable": spec.executable,
        "GridCE": spec.computing_elements,
        "InputData": [f"LFN:{lfn}" for lfn in spec.input_data],
        "InputSandbox": [f"SB:spinor|/{number}" for number in spec.input_sandboxes],
        "JobGroup": spec.job_group,
        "JobID": str(job.job_id),
        "JobName": spec.name,
        "JobType": spec.job_type.capitalize(),
        "MinNumberOfProcessors": str(spec.cores) if spec.max_cores not in (None, spec.cores) else "",
        "NumberOfProcessors": str(spec.cores),
        "OutputData": [output.lfn for output in spec.output_data],
        "OutputSE": sorted({output.se for output in spec.output_data if output.se}),
        "OutputSandbox": spec.output_sandbox,
        "Owner": job.owner,
        "OwnerGroup": job.group,
        "Platform": spec.platform,
        "Site": [*spec.sites, *([spec.site] if spec.site else [])],
        "StdError": spec.stderr,
        "StdOutput": spec.stdout,
        "Tags": spec.tags,
        "VirtualOrganization": job.vo,
    }
    return {name: _plain(value) for name, value in found.items() if value}


def _plain(value: Any) -> Any:
    return [printable(str(item)) for item in value] if isinstance(value, list) else printable(str(value))


def filled_table(headings: Sequence[str], rows: Iterable[Sequence[str]], gap: int = 2) -> list[str]:
    """Columns as wide as what is in them, to the left."""
    lines = [list(headings), *map(list, rows)]
    widths = [max(len(line[n]) for line in lines) + gap for n in range(len(headings))]
    return ["".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def where_of(conditions: Mapping[str, str | None], since: str = "") -> str:
    """A filter of Spinor's from DIRAC's conditions by field; a value may be a list with commas."""
    from spinor.jobs.client import quoted

    parts = [
        f"{field}={','.join(map(quoted, filter(None, text.split(','))))}" for field, text in conditions.items() if text
    ]
    return " ".join([*parts, *([f"submitted_at>={since}"] if since else [])])
