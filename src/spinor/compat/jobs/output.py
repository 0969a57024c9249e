"""dirac-wms-job-get-input, -get-output, -get-output-data, -peek, and doutput."""

from pathlib import Path
from typing import TYPE_CHECKING

from spinor.compat.jobs.looking import named_jobs
from spinor.compat.jobs.program import Given, Program, Switch
from spinor.compat.jobs.words import client, for_each, job_ids, say
from spinor.errors import NotFound
from spinor.terminal import printable

if TYPE_CHECKING:
    from spinor.client import Client
    from spinor.jobs.models import Job

_PEEK_LINES = 20
_ENDED = "done,failed"


def _get_input(given: Given) -> int:
    from spinor.jobs.cli.packing import unpack
    from spinor.jobs.models import Job

    into = Path(given.value("Dir") or ".")
    with client() as connected:

        def one(job_id: int) -> None:
            sandboxes = connected.get(f"/api/jobs/{job_id}", Job).description.input_sandboxes
            if not sandboxes:
                raise NotFound("The job has no input sandbox.")
            folder = into / f"InputSandbox{job_id}"
            for sandbox_id in sandboxes:
                unpack(connected.get(f"/api/sandboxes/{sandbox_id}"), folder)
            say(f"Job input sandbox retrieved in {printable(str(folder))}/")

        return for_each(job_ids(given.words), one)


def _get_output(given: Given) -> int:
    group = given.value("JobGroup")
    folder = Path(given.value("Dir") or ".", *([group] if group else []))
    with client() as connected:
        ids = named_jobs(given, connected, _ENDED)
        if not ids:
            say("No jobs selected")
            return 0
        return for_each(_wanted(ids, folder), lambda job_id: _fetch(connected, job_id, folder))


def _wanted(ids: list[int], folder: Path) -> list[int]:
    """Those that were not fetched before."""
    for job_id in ids:
        if (folder / str(job_id)).is_dir():
            say(f"Output for job {job_id} already retrieved, remove the output directory to redownload")
    return [job_id for job_id in ids if not (folder / str(job_id)).is_dir()]


def _fetch(connected: "Client", job_id: int, folder: Path) -> None:
    """The output sandbox, and the streams as std.out and std.err, which every job of DIRAC has."""
    target = folder / str(job_id)
    _unpack(connected, job_id, target)
    say(f"Job output sandbox retrieved in {printable(str(target))}/")


def _unpack(connected: "Client", job_id: int, target: Path) -> None:
    from spinor.jobs.cli.packing import unpack
    from spinor.jobs.models import Job
    from spinor.jobs.sandboxes.client import download

    job = connected.get(f"/api/jobs/{job_id}", Job)
    target.mkdir(parents=True, exist_ok=True)
    if job.output_sandbox is not None:
        unpack(download(connected, f"/api/jobs/{job_id}/output"), target)
    for stream, name in _streams(job).items():
        place = target / Path(name).name
        if not place.exists() and (data := _stream(connected, job_id, stream)):
            place.write_bytes(data)


def _streams(job: "Job") -> dict[str, str]:
    return {"stdout": job.description.stdout or "std.out", "stderr": job.description.stderr or "std.err"}


def _stream(connected: "Client", job_id: int, stream: str) -> bytes:
    from spinor.jobs.client import whole_log

    return b"".join(piece.data for piece in whole_log(connected, job_id, stream))


def streams_or_file(connected: "Client", job_id: int, name: str) -> bytes:
    """A file of the output sandbox; std.out and std.err are the streams, whether they were asked back or not."""
    import tempfile

    from spinor.jobs.models import Job

    for stream, known in _streams(connected.get(f"/api/jobs/{job_id}", Job)).items():
        if name in (known, f"std.{stream.removeprefix('std')}"):
            return _stream(connected, job_id, stream)
    with tempfile.TemporaryDirectory(prefix="spinor-output-") as folder:
        _unpack(connected, job_id, Path(folder))
        place = Path(folder, name)
        if not place.is_file() or not place.resolve().is_relative_to(Path(folder).resolve()):
            raise NotFound(f"There is no file {printable(name)} in its output sandbox.")
        return place.read_bytes()


def _get_output_data(given: Given) -> int:
    into = Path(given.value("Dir") or ".")
    with client() as connected:
        return for_each(job_ids(given.words), lambda job_id: _fetch_data(connected, job_id, into))


def _fetch_data(connected: "Client", job_id: int, into: Path) -> None:
    from spinor.jobs.models import Job
    from spinor.storage.models import FileReplicas
    from spinor.storage.transfer import fetch_any

    lfns = connected.get(f"/api/jobs/{job_id}", Job).output_files
    if not lfns:
        raise NotFound("The job has no output data.")
    into.mkdir(parents=True, exist_ok=True)
    for file in connected.post("/api/files/replicas", {"lfns": lfns}, list[FileReplicas]):
        fetch_any(file, into / file.lfn.rpartition("/")[2])
    say(f"Job {job_id} output data retrieved")


def _peek(given: Given) -> int:
    from spinor.jobs.cli.output import write

    with client() as connected:

        def one(job_id: int) -> None:
            data = _stream(connected, job_id, "stdout")
            write(b"".join(data.splitlines(keepends=True)[-_PEEK_LINES:]))

        return for_each(job_ids(given.words), one)


def _doutput(given: Given) -> int:
    folder = Path(given.value("OutputDir") or ".")
    flat = given.has("NoJobDir")
    with client() as connected:
        ids = named_jobs(given, connected, _ENDED)

        def one(job_id: int) -> None:
            target = folder if flat else folder / str(job_id)
            if given.has("Sandbox") or not given.has("Data"):
                _unpack(connected, job_id, target)
                if given.has("verbose"):
                    say(f"{job_id}: OutputSandbox {printable(str(target))}")
            if given.has("Data"):
                _fetch_data(connected, job_id, target)

        return for_each(ids if flat else _wanted(ids, folder), one)


_JOBS = "JobID ..."
_DIR = Switch("D", "Dir=", "Store the output in this directory")

GET_INPUT = Program("Retrieve the input sandbox of a job", _get_input, _JOBS, (_DIR,), least=1)
GET_OUTPUT = Program(
    "Retrieve the output sandbox of a job",
    _get_output,
    _JOBS,
    (
        _DIR,
        Switch("f", "File=", "Get output for jobs with IDs from the file"),
        Switch("g", "JobGroup=", "Get output for jobs in the given group"),
    ),
    example="$ dirac-wms-job-get-output 1\nJob output sandbox retrieved in 1/",
)
GET_OUTPUT_DATA = Program("Retrieve the output data of a job", _get_output_data, _JOBS, (_DIR,), least=1)
PEEK = Program(f"Show the last {_PEEK_LINES} lines of a job's standard output", _peek, _JOBS, least=1)
DOUTPUT = Program(
    "Retrieve the output sandbox or the output data of jobs",
    _doutput,
    _JOBS,
    (
        Switch("D", "OutputDir=", "destination directory"),
        Switch("", "Data", "download output data instead of output sandbox"),
        Switch("", "Sandbox", "download output sandbox, even if data was required"),
        Switch("v", "verbose", "verbose output"),
        Switch("n", "NoJobDir", "do not create job directory"),
        Switch("g", "JobGroup=", "Get output for jobs in the given group"),
        Switch("i", "input-file=", "read JobIDs from file"),
    ),
)
