"""dirac-wms-job-status, -attributes, -parameters, -logging-info, -get-jdl."""

from typing import TYPE_CHECKING

from spinor.compat.jobs.program import Given, Program, Switch, Usage
from spinor.compat.jobs.words import (
    attributes,
    client,
    filled_table,
    for_each,
    host_of,
    instant,
    jdl,
    job_ids,
    minor,
    say,
    seconds,
    show,
    site_of,
    state,
)  # fmt: skip
from spinor.terminal import printable

if TYPE_CHECKING:
    from spinor.client import Client
    from spinor.jobs.models import Job

FILE = Switch("f", "File=", "Get status for jobs with IDs from the file")
GROUP = Switch("g", "JobGroup=", "Get status for jobs in the given group")


def named_jobs(given: Given, connected: "Client", statuses: str = "") -> list[int]:
    """The ids that were typed, those in files, and those of groups."""
    from spinor.jobs.client import quoted
    from spinor.jobs.models import JobRow

    found = job_ids([*given.values("File"), *given.values("input-file"), *given.words])
    for group in given.values("JobGroup"):
        where = f"job_group={quoted(group)}" + (f" status={statuses}" if statuses else "")
        rows = connected.pages("/api/jobs/search", {"where": where, "sort": ["job_id"]}, JobRow)
        found += [row.job_id for row in rows]
    return list(dict.fromkeys(found))


def _needed(ids: list[int]) -> list[int]:
    if not ids:
        raise Usage("name jobs by their ids")
    return ids


def _job(connected: "Client", job_id: int) -> "Job":
    from spinor.jobs.models import Job

    return connected.get(f"/api/jobs/{job_id}", Job)


def _status(given: Given) -> int:
    from spinor.jobs.client import find_rows
    from spinor.jobs.models import ChosenJobs

    with client() as connected:
        ids = _needed(named_jobs(given, connected))
        rows = {row.job_id: row for row in find_rows(connected, ChosenJobs(job_ids=ids))}
    for job_id in ids:
        if row := rows.get(job_id):
            application = f"ApplicationStatus={printable(row.application_status)}; " if row.application_status else ""
            say(
                f"JobID={job_id} Status={state(row.status)}; MinorStatus={minor(row.minor_status)}; "
                f"{application}Site={site_of(row)};"
            )
    missing = [str(job_id) for job_id in ids if job_id not in rows]
    if missing:
        say(f"ERROR: There is no job {', '.join(missing)} in your VO.")
    return 2 if missing else 0


def _attributes(given: Given) -> int:
    with client() as connected:
        return for_each(job_ids(given.words), lambda job_id: show(attributes(_job(connected, job_id))))


def _parameters(given: Given) -> int:
    from spinor.jobs.models import Job

    with client() as connected:

        def one(job_id: int) -> None:
            show(_parameters_of(connected.get(f"/api/jobs/{job_id}", Job), connected))

        return for_each(job_ids(given.words), one)


def _parameters_of(job: "Job", connected: "Client") -> dict[str, str]:
    found = {
        "CEName": job.computing_element,
        "HostName": host_of(job, connected),
        "MaxRSS(kB)": job.max_rss_bytes // 1024 if job.max_rss_bytes else None,
        "OutputSandboxMissingFiles": ",".join(job.output_sandbox.missing) if job.output_sandbox else "",
        "PayloadExitCode": job.exit_code,
        "Pilot_Reference": job.pilot_id,
        "TotalCPUTime(s)": seconds(job.cpu_s),
        "UploadedOutputData": ",".join(job.output_files),
        "WallClockTime(s)": seconds(job.wall_s),
    }
    return {name: printable(str(value)) for name, value in found.items() if value not in (None, "")}


def _logging_info(given: Given) -> int:
    from spinor.jobs.models import HistoryEntry

    with client() as connected:

        def one(job_id: int) -> None:
            entries = connected.get(f"/api/jobs/{job_id}/history", list[HistoryEntry])
            rows = [(state(e.status), minor(e.minor_status), "Unknown", instant(e.at)) for e in entries]
            for line in filled_table(("Status", "MinorStatus", "ApplicationStatus", "DateTime"), rows):
                say(line)

        return for_each(job_ids(given.words), one)


def _get_jdl(given: Given) -> int:
    with client() as connected:
        return for_each(job_ids(given.words), lambda job_id: show(jdl(_job(connected, job_id))))


_JOBS = "JobID ..."

STATUS = Program(
    "Retrieve status of the given job",
    _status,
    _JOBS,
    (FILE, GROUP),
    example="$ dirac-wms-job-status 2\nJobID=2 Status=Done; MinorStatus=Execution Complete; Site=EELA.UTFSM.cl;",
)
ATTRIBUTES = Program("Retrieve attributes associated with the given job", _attributes, _JOBS, least=1)
PARAMETERS = Program("Retrieve what is known of the execution of the given job", _parameters, _JOBS, least=1)
LOGGING_INFO = Program("Retrieve the history of transitions of the given job", _logging_info, _JOBS, least=1)
GET_JDL = Program(
    "Retrieve the description of a job as attributes of a JDL",
    _get_jdl,
    _JOBS,
    (Switch("O", "Original", "Taken for DIRAC's sake: a job has one description"),),
    least=1,
)
