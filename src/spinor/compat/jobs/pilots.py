"""DIRAC's commands for pilots. A pilot is named by its number here, or by its id in the batch system."""

import sys
from typing import TYPE_CHECKING, Any

from spinor.compat.jobs.program import Given, Program, Switch
from spinor.compat.jobs.words import attributes, client, for_each, instant, job_ids, say, seconds, show
from spinor.errors import NotFound
from spinor.jobs.client import quoted
from spinor.terminal import printable

if TYPE_CHECKING:
    from spinor.client import Client
    from spinor.jobs.models import Job
    from spinor.pilots.models import Pilot


def _pilot(connected: "Client", reference: str) -> "Pilot":
    from spinor.pilots.models import Pilot

    if reference.isdecimal():
        return connected.get(f"/api/pilots/{reference}", Pilot)
    body = {"where": f"external_id={quoted(reference)}", "fields": ["pilot_id"]}
    for row in connected.pages("/api/pilots/search", body, dict, 1):
        return connected.get(f"/api/pilots/{row['pilot_id']}", Pilot)
    raise NotFound(f"There is no pilot {printable(reference)}; `spinor pilot list` shows them.")


def _jobs_of(connected: "Client", pilot_id: int) -> list[int]:
    from spinor.jobs.models import JobRow

    body = {"where": f"pilot_id={pilot_id}", "sort": ["job_id"]}
    return [row.job_id for row in connected.pages("/api/jobs/search", body, JobRow)]


def _facts(connected: "Client", pilot: "Pilot") -> dict[str, Any]:
    return {
        "DestinationSite": printable(pilot.computing_element),
        "GridSite": printable(pilot.site),
        "HostName": printable(pilot.hostname),
        "Jobs": _jobs_of(connected, pilot.pilot_id),
        "LastUpdateTime": instant(pilot.last_seen_at),
        "PilotID": pilot.pilot_id,
        "PilotJobReference": printable(pilot.external_id or ""),
        "Status": pilot.status.capitalize(),
        "StatusReason": printable(pilot.reason),
        "SubmissionTime": instant(pilot.submitted_at),
    }


def _job(connected: "Client", job_id: int) -> "Job":
    from spinor.jobs.models import Job

    return connected.get(f"/api/jobs/{job_id}", Job)


def _pilot_of(connected: "Client", job_id: int) -> int:
    found = _job(connected, job_id).pilot_id
    if found is None:
        raise NotFound("No pilot has taken this job yet.")
    return found


def _job_pilots(given: Given) -> int:
    with client() as connected:

        def one(job_id: int) -> None:
            pilot = _pilot(connected, str(_pilot_of(connected, job_id)))
            show({printable(pilot.external_id or str(pilot.pilot_id)): _facts(connected, pilot)})

        return for_each(job_ids(given.words), one)


def _pilot_info(given: Given) -> int:
    with client() as connected:

        def one(reference: str) -> None:
            pilot = _pilot(connected, reference)
            facts = _facts(connected, pilot)
            if not given.has("extended"):
                show({reference: facts})
                return
            for n, name in enumerate(("PilotJobReference", "Status", "SubmissionTime", "DestinationSite", "GridSite")):
                say(f"{'  ' if n else ''}{name}: {facts[name]}")
            for job_id in facts["Jobs"]:
                job = attributes(_job(connected, job_id))
                say(f"  Job ID: {job_id}")
                for name in ("OwnerGroup", "JobName", "Status", "StartExecTime", "LastUpdateTime", "EndExecTime"):
                    say(f"    {name}: {job[name]}")

        return for_each(given.words, one)


def _pilot_job_info(given: Given) -> int:
    wanted = ["Owner", "StartExecTime", "EndExecTime", *(given.value("Parameters") or "").split(",")]
    with client() as connected:

        def one(reference: str) -> None:
            pilot = _pilot(connected, reference)
            found = {}
            for job_id in _jobs_of(connected, pilot.pilot_id):
                job = _job(connected, job_id)
                times = {"TotalCPUTime(s)": seconds(job.cpu_s), "WallClockTime(s)": seconds(job.wall_s)}
                known = attributes(job) | {name: value for name, value in times.items() if value}
                if job.cpu_s and job.wall_s:
                    known["CPUEfficiency"] = f"{100 * job.cpu_s / job.wall_s:.1f} %"
                words = [word.lower() for word in wanted if word]
                found[job_id] = {n: v for n, v in known.items() if any(word in n.lower() for word in words)}
            show({reference: found})

        return for_each(given.words, one)


def _log(connected: "Client", pilot_id: int) -> None:
    position = 0
    while data := connected.get(f"/api/pilots/{pilot_id}/log", query={"position": position}):
        position += len(data)
        sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _pilot_output(given: Given) -> int:
    with client() as connected:
        return for_each(given.words, lambda reference: _log(connected, _pilot(connected, reference).pilot_id))


def _job_pilot_output(given: Given) -> int:
    with client() as connected:
        return for_each(job_ids(given.words), lambda job_id: _log(connected, _pilot_of(connected, job_id)))


def _kill_pilot(given: Given) -> int:
    from spinor.pilots.models import Cancelled, CancelPilots

    with client() as connected:
        ids = [_pilot(connected, reference).pilot_id for reference in given.words]
        body = CancelPilots(pilot_ids=ids, reason="dirac-admin-kill-pilot")
        answer = connected.post("/api/pilots/cancel", body, Cancelled)
    for refused in answer.refused:
        sys.stderr.write(f"Failed to kill pilot {refused.pilot_id}: {printable(refused.detail)}\n")
    return 1 if answer.refused else 0


_PILOTS = "PilotID ..."

JOB_PILOTS = Program("Retrieve the pilot that has taken a job", _job_pilots, "JobID ...", least=1)
JOB_PILOT_OUTPUT = Program("Retrieve the log of the pilot of a job", _job_pilot_output, "JobID ...", least=1)
PILOT_INFO = Program(
    "Retrieve what is known of a pilot",
    _pilot_info,
    _PILOTS,
    (Switch("e", "extended", "Get extended printout"),),
    least=1,
)
PILOT_JOB_INFO = Program(
    "Retrieve info about the jobs of a pilot",
    _pilot_job_info,
    _PILOTS,
    (Switch("", "Parameters=", "List of strings to be matched by job parameters or attributes"),),
    least=1,
)
PILOT_OUTPUT = Program("Retrieve the log of a pilot", _pilot_output, _PILOTS, least=1)
KILL_PILOT = Program("Kill pilots; the jobs that they run wait again", _kill_pilot, _PILOTS, least=1)
