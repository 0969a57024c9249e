"""Jobs and sets of jobs as objects: their state, logs and output, and waiting for them with a live display."""

import shlex
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from spinor.client import Client
from spinor.errors import BadInput, SpinorError
from spinor.jobs.cli.descriptions import read_descriptions
from spinor.jobs.cli.submission import send
from spinor.jobs.models import CommandJobs, Explanation, JobIds, JobRow, Outcome, SubmittedArray, Waited
from spinor.jobs.models import Job as JobModel
from spinor.notebook import watching
from spinor.notebook.files import Files, FileSet
from spinor.notebook.logs import Log
from spinor.notebook.rendering import (
    Shown,
    badge,
    bar,
    bold,
    card,
    code,
    esc,
    facts,
    html_table,
    muted,
    text_counts,
    text_facts,
    text_table,
)
from spinor.notebook.rows import Tabular, record
from spinor.terminal import printable

_COLUMNS = ("job_id", "name", "status", "minor_status", "site", "submitted_at", "wall_s")
_SHOWN_ROWS = 20
_LOG_LINES = 12
_IDS_A_QUERY = 500
_ENDED = frozenset({"done", "failed", "killed", "deleted"})


class Jobs:
    """The jobs of the VO: `submit` makes some, `jobs[17]` is one, `jobs("status=failed")` finds some."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __getitem__(self, job_id: int) -> "Job":
        return Job(self._client, job_id)

    def __call__(self, where: str = "", *, sort: Sequence[str] = (), limit: int | None = 100) -> "JobSet":
        return self.search(where, sort=sort, limit=limit)

    def search(self, where: str = "", *, sort: Sequence[str] = (), limit: int | None = 100) -> "JobSet":
        """The jobs that a query names, the newest first; None as limit: all of them."""
        body: dict[str, Any] = {"where": where, "sort": list(sort)}
        rows = list(self._client.pages("/api/jobs/search", body, JobRow, limit))
        return JobSet(self._client, JobIds(job_ids=[row.job_id for row in rows]), rows, is_cut=len(rows) == limit)

    def array(self, *array_ids: int) -> "JobSet":
        """All jobs of arrays: how a set is found again after the kernel was started again."""
        return JobSet(self._client, JobIds(array_ids=list(array_ids)))

    def submit(self, *descriptions: Mapping[str, Any], **fields: Any) -> "Job | JobSet":
        """Submit descriptions (docs: job description), or one that is given by its fields; all are accepted, or none.

        grid.jobs.submit(executable="python3", arguments=["mine.py"], input_sandbox=["mine.py"], cores=2)
        """
        if bool(descriptions) == bool(fields):
            raise BadInput('Give descriptions, or the fields of one: submit(executable="echo", arguments=["hello"]).')
        documents = [(dict(each), "", Path()) for each in descriptions or [fields]]
        return self.sent(send(self._client, read_descriptions(documents, {})).arrays)

    def sent(self, arrays: Sequence[SubmittedArray]) -> "Job | JobSet":
        if len(arrays) == 1 and arrays[0].size == 1:
            return Job(self._client, arrays[0].ids[0])
        return JobSet(self._client, JobIds(array_ids=[array.array_id for array in arrays]))


class Job(Shown, Tabular):
    """One job. Its state is asked for whenever it is looked at; `await job` or `job.wait()` wait for its end."""

    def __init__(self, client: Client, job_id: int) -> None:
        self._client, self.job_id = client, job_id
        self._known: JobModel | None = None
        self._log = Log(client, job_id)

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
        return self.status in _ENDED

    @property
    def exit_code(self) -> int | None:
        return self.model.exit_code

    def wait(self, timeout_s: float | None = None) -> "Job":
        """Wait for its end, and show how it goes on. Ctrl-C, or the stop button, ends the waiting and not the job."""
        watching.wait(self._client, JobIds(job_ids=[self.job_id]), self, timeout_s)
        return self

    def __await__(self) -> Generator[Any, None, "Job"]:
        yield from watching.ended(self._client, JobIds(job_ids=[self.job_id]), self).__await__()
        return self

    def log(self, stream: str = "stdout", attempt: int | None = None) -> str:
        """What it has written so far."""
        return self._log.read(stream, attempt)

    def follow(self, stream: str = "stdout") -> None:
        """Print what it writes, to its end."""
        self._log.follow(stream)

    def output(self, folder: str | Path = "") -> list[Path]:
        """Fetch and unpack its output sandbox (into job-ID unless told); the files."""
        from spinor.jobs.cli.packing import unpack

        target = Path(folder or f"job-{self.job_id}")
        return [target / name for name in unpack(self._client.get(f"/api/jobs/{self.job_id}/output"), target)]

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

    def kill(self, reason: str = "") -> "Job":
        _command(self._client, "kill", JobIds(job_ids=[self.job_id]), reason)
        return self

    def reschedule(self, reason: str = "") -> "Job":
        """Let it run again, as a new attempt."""
        _command(self._client, "reschedule", JobIds(job_ids=[self.job_id]), reason)
        return self

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


class JobSet(Shown, Tabular):
    """Some jobs together: how many are in which state, and their rows."""

    def __init__(
        self, client: Client, ids: JobIds, rows: Sequence[JobRow] | None = None, *, is_cut: bool = False
    ) -> None:
        """`is_cut` says that a search has found more than these."""
        self._client, self.ids, self._is_cut = client, ids, is_cut
        self._rows = None if rows is None else list(rows)
        self._counts: dict[str, int] = _counted(rows or ())

    @property
    def counts(self) -> dict[str, int]:
        """How many are in which state, now."""
        if not self.ids.job_ids and not self.ids.array_ids:
            return {}
        body = {"job_ids": self.ids.job_ids, "array_ids": self.ids.array_ids, "wait_s": 0}
        self._counts = self._client.post("/api/jobs/wait", body, Waited).counts
        return self._counts

    @property
    def rows(self) -> list[JobRow]:
        """The jobs as they were when they were asked for last; `refresh` asks again."""
        if self._rows is None:
            self.refresh()
        assert self._rows is not None
        return self._rows

    def refresh(self) -> "JobSet":
        ids = self.ids.job_ids
        wheres = [f"job_id={_listed(ids[n : n + _IDS_A_QUERY])}" for n in range(0, len(ids), _IDS_A_QUERY)]
        wheres += [f"array_id={_listed(self.ids.array_ids)}"] if self.ids.array_ids else []
        found = {
            row.job_id: row
            for where in wheres
            for row in self._client.pages("/api/jobs/search", {"where": where, "sort": ["job_id"]}, JobRow)
        }
        # A search keeps its order, and an array that of its jobs.
        self._rows = [found.pop(job_id) for job_id in ids if job_id in found] + list(found.values())
        self._counts = _counted(self._rows)
        return self

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Job]:
        return (Job(self._client, row.job_id) for row in self.rows)

    def __getitem__(self, place: int) -> Job:
        return Job(self._client, self.rows[place].job_id)

    def wait(self, timeout_s: float | None = None) -> "JobSet":
        """Wait until all have ended, and show how they go on. Ctrl-C, or the stop button, ends the waiting only."""
        watching.wait(self._client, self.ids, self, timeout_s)
        return self

    def __await__(self) -> Generator[Any, None, "JobSet"]:
        yield from watching.ended(self._client, self.ids, self).__await__()
        return self

    def kill(self, reason: str = "") -> "JobSet":
        _command(self._client, "kill", self.ids, reason)
        return self

    def reschedule(self, reason: str = "") -> "JobSet":
        """Let them run again, each as a new attempt."""
        _command(self._client, "reschedule", self.ids, reason)
        return self

    def records(self) -> Sequence[Mapping[str, Any]]:
        return [{**record(row), "status": row.status.value} for row in self.rows]

    def freshen(self) -> None:
        with suppress(SpinorError):
            self.refresh()

    def _title(self) -> str:
        total = sum(self._counts.values())
        arrays = f", array {', '.join(map(str, self.ids.array_ids))}" if self.ids.array_ids else ""
        return f"{'the first ' if self._is_cut else ''}{total:,} {'job' if total == 1 else 'jobs'}{arrays}"

    def text(self) -> str:
        rows = (self._rows or [])[:_SHOWN_ROWS]
        lines = [f"{self._title()}: {text_counts(self._counts)}" if self._counts else self._title()]
        lines.append(text_table(_COLUMNS, [[getattr(row, name) for name in _COLUMNS] for row in rows]))
        return "\n".join([*lines, *self._rest()]).strip()

    def html(self) -> str:
        rows = [
            [badge(row.status) if name == "status" else getattr(row, name) for name in _COLUMNS]
            for row in (self._rows or [])[:_SHOWN_ROWS]
        ]
        parts = [bar(self._counts)]
        if rows:
            parts.append(html_table(_COLUMNS, rows, raw=frozenset({_COLUMNS.index("status")})))
        return card(bold(self._title()), [*parts, *(muted(line) for line in self._rest())])

    def _rest(self) -> list[str]:
        left = len(self._rows or []) - _SHOWN_ROWS
        return [f"… and {left:,} more; .to_pandas() has them all"] if left > 0 else []


def _counted(rows: Sequence[JobRow]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.status.value] = counts.get(row.status.value, 0) + 1
    return counts


def _listed(ids: Sequence[int]) -> str:
    return ",".join(map(str, ids))


def _command(client: Client, verb: str, ids: JobIds, reason: str) -> None:
    """Do it to each; the first that was refused becomes the error."""
    body = CommandJobs(job_ids=ids.job_ids, array_ids=ids.array_ids, reason=reason)
    outcome = client.post(f"/api/jobs/{verb}", body, Outcome)
    if outcome.refused:
        more = f" ({len(outcome.refused) - 1} more were refused.)" if len(outcome.refused) > 1 else ""
        raise NotAllDone(outcome.refused[0].detail + more, done=outcome.done, code=outcome.refused[0].code)


class NotAllDone(SpinorError):
    """Some of the jobs refused the command."""

    status, code = 409, "not-all-done"
