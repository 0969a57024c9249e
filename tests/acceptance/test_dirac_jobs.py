"""DIRAC's commands for jobs, pilots and sites, as their documentation writes them."""

import ast
import json
import re
import subprocess
from pathlib import Path

import pytest

from .conftest import SPINOR, Done, Service

pytest.importorskip("classad2")
pytestmark = pytest.mark.acceptance

SIMPLE = """[
    JobName = "Simple_Job";
    JobGroup = "simple";
    Executable = "/bin/echo";
    Arguments = "hello grid";
    StdOutput = "std.out";
    StdError = "std.err";
    OutputSandbox = {"std.out","std.err"};
]
"""
PARAMETRIC = """Executable = "testJob.sh";
JobName = "Parametric";
Arguments = "%s";
Parameters = {"first","second"};
StdOutput = "StdOut_%s";
InputSandbox = {"testJob.sh"};
OutputSandbox = {"StdOut_%s"};
"""


def run(service: Service, name: str, *words: str, stdin: str = "") -> Done:
    done = subprocess.run(
        [str(Path(SPINOR).with_name(name)), *words],
        env=service.environ, cwd=service.work, input=stdin, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


def ok(service: Service, name: str, *words: str, stdin: str = "") -> Done:
    done = run(service, name, *words, stdin=stdin)
    assert done.code == 0, f"{name} {words}: {done.code}\n{done.out}\n{done.err}"
    return done


@pytest.fixture(scope="module")
def job(service: Service) -> str:
    """A job of DIRAC's tutorial that has ended."""
    (service.work / "Simple.jdl").write_text(SIMPLE)
    submitted = ok(service, "dirac-wms-job-submit", "Simple.jdl", "-f", "simple.ids")
    job_id = re.fullmatch(r"JobID = (\d+)\n", submitted.out)
    assert job_id is not None
    assert (service.work / "simple.ids").read_text() == f"{job_id[1]}\n"
    service.ok("job", "wait", job_id[1])
    return job_id[1]


def test_what_is_known_of_a_job_is_told_as_there(service: Service, job: str) -> None:
    status = f"JobID={job} Status=Done; MinorStatus=Execution Complete; Site=LOCAL;\n"
    for words in ([job], ["-f", "simple.ids"], ["--JobGroup=simple"], ["simple.ids"]):
        assert ok(service, "dirac-wms-job-status", *words).out == status
    attributes = ast.literal_eval(ok(service, "dirac-wms-job-attributes", job).out)
    assert (attributes["JobID"], attributes["JobName"], attributes["Status"]) == (job, "Simple_Job", "Done")
    assert "PayloadExitCode" in ast.literal_eval(ok(service, "dirac-wms-job-parameters", job).out)
    jdl = ast.literal_eval(ok(service, "dirac-wms-job-get-jdl", job).out)
    assert (jdl["Executable"], jdl["Arguments"]) == ("/bin/echo", "hello grid")
    history = ok(service, "dirac-wms-job-logging-info", job).lines
    assert history[0].split() == ["Status", "MinorStatus", "ApplicationStatus", "DateTime"]
    assert history[-1].startswith("Done ")
    missing = run(service, "dirac-wms-job-attributes", "999999")
    assert missing.code == 2
    assert missing.out.startswith("ERROR 999999: ")


def test_output_comes_back_into_directories_of_that_name(service: Service, job: str) -> None:
    fetched = ok(service, "dirac-wms-job-get-output", "-D", "got", job)
    assert fetched.out == f"Job output sandbox retrieved in got/{job}/\n"
    assert (service.work / "got" / job / "std.out").read_text() == "hello grid\n"
    again = ok(service, "dirac-wms-job-get-output", "-D", "got", job)
    assert again.out == f"Output for job {job} already retrieved, remove the output directory to redownload\n"
    ok(service, "doutput", "-n", "-D", "flat", job)
    assert (service.work / "flat" / "std.out").read_text() == "hello grid\n"
    assert ok(service, "dirac-wms-job-peek", job).out == "hello grid\n"
    found = ok(service, "dirac-wms-jobs-select-output-search", "--JobGroup=simple", "hello").out
    assert ast.literal_eval(found) == (job, "hello grid\n")
    assert run(service, "dirac-wms-job-get-output-data", job).code == 2


def test_parametric_jobs_are_one_array(service: Service) -> None:
    (service.work / "Parametric.jdl").write_text(PARAMETRIC)
    (service.work / "testJob.sh").write_text("#!/bin/sh\necho got $1\n")
    ids = ast.literal_eval(ok(service, "dirac-wms-job-submit", "Parametric.jdl").out.removeprefix("JobID = "))
    assert len(ids) == 2
    words = [str(job_id) for job_id in ids]
    service.ok("job", "wait", *words)
    ok(service, "dirac-wms-job-get-output", ",".join(words))
    assert (service.work / words[1] / "StdOut_second").read_text() == "got second\n"
    ok(service, "dirac-wms-job-get-input", words[0])
    assert (service.work / f"InputSandbox{words[0]}" / "testJob.sh").exists()
    assert ok(service, "dirac-wms-job-reschedule", *words).out == f"Rescheduled job {words[0]},{words[1]}\n"
    service.ok("job", "wait", *words)
    refused = run(service, "dirac-wms-job-kill", *words)
    assert refused.code == 2
    assert refused.out.startswith(f"ERROR jobs {words[0]}-{words[1]}: ")
    assert ok(service, "dirac-admin-reset-job", words[0]).out == f"Reset Job {words[0]}\n"
    service.ok("job", "wait", words[0])
    assert ok(service, "dirac-wms-job-delete", *words).out == f"Deleted jobs {words[0]},{words[1]}\n"


def test_jobs_are_selected(service: Service, job: str) -> None:
    done = ok(service, "dirac-wms-select-jobs", "--Status=Done", "--JobGroup=simple")
    assert done.out == f"==> Selected 1 jobs with conditions: Status = Done, JobGroup = simple, Date = Today\n{job}\n"
    none = ok(service, "dirac-wms-select-jobs", "--Status=Failed", "--JobGroup=simple", "--Date=2026-01-01")
    assert none.out.startswith("No jobs were selected with conditions:")
    assert run(service, "dirac-wms-select-jobs", "--Date=soon").code == 1
    assert "(pilot-" in ok(service, "dirac-wms-get-wn", "--Status=all", "--Full").out
    matched = ok(service, "dirac-wms-match", "Simple.jdl").lines
    assert matched[0].split() == ["Site", "CE", "Status", "Match", "Reason"]
    assert matched[1].split()[:4] == ["LOCAL", "local", "Active", "Yes"]


def test_the_short_commands(service: Service) -> None:
    (service.work / "own.sh").write_text('#!/bin/sh\n#JDL JobGroup = "short"\necho own "$@"\n')
    one = ok(service, "dsub", "-N", "named", "own.sh", "a", "b").out.strip()
    two = ok(service, "dsub", stdin='#JDL JobGroup = "short"\necho typed\n').out.strip()
    many = ok(service, "dsub", "--JobGroup=short", "--Parametric=x,1:4", "/bin/echo", "%s").out.strip().split(",")
    assert len(many) == 4
    everyone = [one, two, *many]
    service.ok("job", "wait", *everyone)
    rows = json.loads(ok(service, "dstat", "-a", "-g", "short", "-f", "json", "-F", "JobName,Status").out)
    assert [row["JobID"] for row in rows] == everyone
    assert {row["Status"] for row in rows} == {"Done"}
    assert (rows[0]["JobName"], rows[1]["JobName"]) == ("named", "STDIN")
    assert ok(service, "dstat", "-g", "short", "-f", "csv").lines[1:] == []  # All have ended.
    shown = ok(service, "dstat", one).lines
    assert shown[1] == "=" * len(shown[1])
    assert shown[2].startswith(one)
    assert ok(service, "dlogging", "-f", "csv", one).lines[0] == "Status,MinorStatus,ApplicationStatus,Time,Source"
    assert service.ok("job", "log", one).out == "own a b\n"
    assert service.ok("job", "log", many[3]).out == "3\n"
    assert run(service, "dkill", one).code == 2
    assert ok(service, "dkill", "-D", "-v", one).out == f"deleted job {one}\n"
    assert run(service, "dkill").code == 1


def test_pilots_and_sites(service: Service, job: str) -> None:
    (pilot,) = ast.literal_eval(ok(service, "dirac-admin-get-job-pilots", job).out).values()
    assert int(job) in pilot["Jobs"]
    number = str(pilot["PilotID"])
    assert number in ok(service, "dirac-admin-get-pilot-info", number).out
    assert f"Job ID: {job}" in ok(service, "dirac-admin-get-pilot-info", "-e", pilot["PilotJobReference"]).out
    assert int(job) in ast.literal_eval(ok(service, "dirac-wms-pilot-job-info", number).out)[number]
    assert f"job {job}.1" in ok(service, "dirac-admin-get-job-pilot-output", job).out
    assert ok(service, "dirac-admin-get-site-mask").lines == ["LOCAL"]
    assert ok(service, "dirac-admin-get-banned-sites").lines == []
    assert "'CE': 'local'" in ok(service, "dirac-admin-site-info", "LOCAL").out
    assert run(service, "dirac-admin-site-mask-logging", "NOWHERE").code == 2
    assert ok(service, "dirac-admin-site-mask-logging", "LOCAL").out.startswith("Site Mask Logging Info for LOCAL\n")
    assert run(service, "dirac-admin-debug-ce", "othervo").code == 1


def test_storage_elements(service: Service) -> None:
    service.ok("login", "--group", "demo_admins")
    listed = ok(service, "dirac-rss-list-status", "--element=Resource", "--elementType=StorageElement").lines
    assert listed[0].split() == ["Name", "StatusType", "Status", "ElementType", "TokenOwner"]
    name = listed[1].split()[0]
    assert {line.split()[1] for line in listed[1:]} >= {"ReadAccess", "WriteAccess", "CheckAccess", "RemoveAccess"}
    done = ok(service, "dirac-admin-ban-se", "--BanWrite", name)
    assert done.lines == [f"WriteAccess of {name} is Banned"]
    (service.work / "any.txt").write_text("x")
    assert "Writing to" in service.run("file", "put", "any.txt", "/demo/any.txt", "--se", name).err
    assert ok(service, "dirac-admin-allow-se", name).lines[-1] == f"WriteAccess of {name} is Active"
    words = ("--element=Resource", f"--name={name}", "--statusType=ReadAccess", "--status=Degraded", "--reason=slow")
    assert ok(service, "dirac-rss-set-status", *words).lines == [f"{name} (ReadAccess): Active -> Degraded"]
    assert "slow" in service.ok("se", "history", name).out
    service.ok("se", "resume", name)
    assert run(service, "dirac-admin-ban-se", "nowhere").code == 2
    assert run(service, "dirac-rss-list-status").code == 1
    service.ok("login", "--group", "demo_users")


def test_task_queues_are_shown(service: Service) -> None:
    held = service.ok("job", "submit", "-q", "--", "sleep", "1").lines[0]
    assert "Owner" in ok(service, "dirac-admin-show-task-queues").lines[0]
    assert ok(service, "dirac-admin-show-task-queues", "-v").code == 0
    (queue,) = service.ok("job", "queues", "--job", held, "-q").lines
    assert ok(service, "dirac-admin-show-task-queues", "-t", "999999").lines[1:] == []
    assert queue.isdecimal()
    service.ok("job", "wait", held)


def test_every_name_has_help_and_refuses_what_it_does_not_know(service: Service) -> None:
    from spinor.compat.jobs.programs import PROGRAMS

    for name in PROGRAMS:
        told = ok(service, name, "--help").out
        assert f"  {name} [options]" in told
        assert run(service, name, "--no-such-option").code == 1
