"""One job as an object."""

import shlex
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from spinor.api import watching
from spinor.api.commands import Commanded
from spinor.api.events import job_events
from spinor.api.files import Files, FileSet
from spinor.api.logs import Log
from spinor.api.rendering import Shown, badge, bold, card, code, esc, facts, text_facts
from spinor.api.rows import Tabular
from spinor.api.streams import Stream
from spinor.client import Client
from spinor.errors import SpinorError
from spinor.jobs.client import ENDED
from spinor.jobs.models import Attempt, ChosenJobs, Explanation, HistoryEntry, JobEvent, JobIds, JobRow, Peek, Usage
from spinor.jobs.models import Job as JobModel
from spinor.terminal import printable

_LOG_LINES = 12


class JobFailed(SpinorError):
    """The job has not ended well."""

    status, code = 500, "job-failed"


class Result(NamedTuple):
    """What a job has left behind that ended well."""

    exit_code: int
    stdout: str
    stderr: str


class Job(Commanded, Shown, Tabular):
    """One job. Its state is asked for whenever it is looked at; `await job` or `job.wait()` wait for its end."""

    def __init__(self, client: Client, job_id: int) -> None:
        self._client, self.job_id = client, job_id
        self._known: JobModel | None = None
        self._log = Log(client, job_id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and (self.job_id, self._client.url) == (other.job_id, other._client.url)

    def __hash__(self) -> int:
        return hash(self.job_id)

    def _chosen(self) -> ChosenJobs:
        return ChosenJobs(job_ids=[self.job_id])

    @property
    def model(self) -> JobModel:
        """All that the service knows of it, asked for now."""
        self._known = self._client.get(f"/api/jobs/{self.job_id}", JobModel)
        return self._known

    @property
    def status(self) -> str:
        return self.model.status.value

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def exit_code(self) -> int | None:
        return self.model.exit_code

    def wait(self, timeout_s: float | None = None) -> "Job":
        """Wait for its end, and show how it goes on. Ctrl-C, or the stop button, ends the waiting and not the job.

        Raises StillRunning when that takes longer than `timeout_s`.
        """
        watching.wait(self._client, JobIds(job_ids=[self.job_id]), self, timeout_s)
        return self

    def __await__(self) -> Generator[Any, None, "Job"]:
        yield from watching.ended(self._client, JobIds(job_ids=[self.job_id]), self).__await__()
        return self

    def result(self, timeout_s: float | None = None) -> Result:
        """Wait for its end, and give what it wrote. Raises JobFailed, which says why, unless it is done."""
        self.wait(timeout_s)
        job = self.model
        if job.status.value != "done":
            raise JobFailed(self.explain().splitlines()[0], job_id=self.job_id, job_status=job.status.value)
        return Result(job.exit_code or 0, self.log(), self.log("stderr"))

    def log(self, stream: str = "stdout", attempt: int | None = None) -> str:
        """What it has written so far."""
        return self._log.read(stream, attempt)

    def follow(self, stream: str = "stdout") -> None:
        """Print what it writes, to its end."""
        self._log.follow(stream)

    def lines(self, stream: str = "stdout") -> Stream[str]:
        """The lines that it writes, as they come, to its end: `for line in job.lines()`, or `async for`."""
        return Stream(lambda: self._log.lines(stream))

    def history(self) -> list[HistoryEntry]:
        """Every change of its state, the oldest first."""
        return self._client.get(f"/api/jobs/{self.job_id}/history", list[HistoryEntry])

    def events(self) -> Stream[JobEvent]:
        """The changes of its state from the first on, as they come, to its end: `for event in …`, or `async for`."""
        return Stream(lambda: job_events(self._client, [self.job_id]))

    def attempts(self) -> list[Attempt]:
        """Every time that it ran: where, when, how it ended, and what it used."""
        return self._client.get(f"/api/jobs/{self.job_id}/attempts", list[Attempt])

    def usage(self, attempt: int | None = None) -> Usage:
        """What an attempt (the newest, unless told) used over time: `usage().points`."""
        return self._client.get(f"/api/jobs/{self.job_id}/usage", Usage, {"attempt": attempt} if attempt else None)

    def peek(self, path: str = "", *, position: int | None = None, size_bytes: int = 65_536) -> Peek:
        """Part of a file in its directory while it runs (the end, unless told), or the entries of a directory."""
        query = {"path": path, "size_bytes": size_bytes, **({} if position is None else {"position": position})}
        return self._client.get(f"/api/jobs/{self.job_id}/peek", Peek, query)

    def output(self, folder: str | Path = "") -> list[Path]:
        """Fetch and unpack its output sandbox (into job-ID unless told); the files."""
        from spinor.jobs.cli.packing import unpack
        from spinor.jobs.sandboxes.client import download

        target = Path(folder or f"job-{self.job_id}")
        return [target / name for name in unpack(download(self._client, f"/api/jobs/{self.job_id}/output"), target)]

    @property
    def files(self) -> FileSet:
        """The files that it has left in the catalog."""
        return Files(self._client).stat(self.model.output_files)

    def explain(self) -> str:
        """Why it waits, failed, or runs where it does, and what to change."""
        told = self._client.get(f"/api/jobs/{self.job_id}/explain", Explanation)
        lines = [
            *told.sentences,
            *(f"{e.computing_element}: {', '.join(e.excluded_by)}" for e in told.elements if e.excluded_by),
        ]
        return "\n".join(printable(line) for line in lines)

    def records(self) -> Sequence[Mapping[str, Any]]:
        model = self.model
        return [{name: getattr(model, name) for name in JobRow.__struct_fields__}]

    def freshen(self) -> None:
        with suppress(SpinorError):
            if self.model.status in ("running", "done", "failed"):
                self._log.peek()

    def _facts(self) -> Mapping[str, Any]:
        job = self._known
        if job is None:
            return {}
        spec = job.description
        return {
            "minor_status": job.minor_status,
            "command": shlex.join([spec.executable, *map(str, spec.arguments)]),
            "site": job.site,
            "exit code": job.exit_code,
            "submitted_at": job.submitted_at,
            "started_at": job.started_at,
            "ended_at": job.ended_at,
            "cpu_s": job.cpu_s,
            "wall_s": job.wall_s,
            "output files": job.output_files,
        }

    def text(self) -> str:
        if self._known is None:
            return f"job {self.job_id}"
        name = f" {printable(self._known.name)}" if self._known.name else ""
        return text_facts(f"job {self.job_id}{name}: {self._known.status}", self._facts())

    def html(self) -> str:
        if self._known is None:
            return card(bold(f"Job {self.job_id}"), [])
        title = f"{bold(f'Job {self.job_id}')} {esc(self._known.name)} {badge(self._known.status)}"
        parts = [facts(self._facts())]
        if self._log.last:
            parts.append(code(self._log.last, lines=_LOG_LINES))
        return card(title, parts)
