"""Several jobs as one object: what a search has found, or the jobs of an array."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, overload

from spinor.api import watching
from spinor.api.commands import Commanded
from spinor.api.events import job_events
from spinor.api.job import Job
from spinor.api.rendering import Shown, badge, bar, bold, card, html_table, muted, text_counts, text_table
from spinor.api.rows import Tabular, record
from spinor.api.streams import Stream
from spinor.client import Client
from spinor.errors import SpinorError
from spinor.jobs.client import find_rows
from spinor.jobs.models import ChosenJobs, JobEvent, JobIds, JobRow, SubmittedArray, Waited

_COLUMNS = ("job_id", "name", "status", "minor_status", "site", "submitted_at", "wall_s")
_SHOWN_ROWS = 20


class JobSet(Commanded, Shown, Tabular):
    """Some jobs together: how many are in which state, and their rows."""

    def __init__(
        self, client: Client, ids: JobIds, rows: Sequence[JobRow] | None = None, *, is_cut: bool = False
    ) -> None:
        """`is_cut` says that a search has found more than these."""
        self._client, self.ids, self._is_cut = client, ids, is_cut
        self._rows = None if rows is None else list(rows)
        self._counts: dict[str, int] = _counted(rows or ())

    def _chosen(self) -> ChosenJobs:
        return ChosenJobs(job_ids=self.ids.job_ids, array_ids=self.ids.array_ids)

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
        found = {row.job_id: row for row in find_rows(self._client, self._chosen())}
        # A search keeps its order, and an array that of its jobs.
        self._rows = [found.pop(job_id) for job_id in self.ids.job_ids if job_id in found] + list(found.values())
        self._counts = _counted(self._rows)
        return self

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Job]:
        return (Job(self._client, row.job_id) for row in self.rows)

    @overload
    def __getitem__(self, place: int) -> Job: ...
    @overload
    def __getitem__(self, place: slice) -> "JobSet": ...
    def __getitem__(self, place: int | slice) -> "Job | JobSet":
        if isinstance(place, slice):
            rows = self.rows[place]
            return JobSet(self._client, JobIds(job_ids=[row.job_id for row in rows]), rows)
        return Job(self._client, self.rows[place].job_id)

    def wait(self, timeout_s: float | None = None) -> "JobSet":
        """Wait until all have ended, and show how they go on. Ctrl-C, or the stop button, ends the waiting only."""
        if self.ids.job_ids or self.ids.array_ids:
            watching.wait(self._client, self.ids, self, timeout_s)
        return self

    def __await__(self) -> Generator[Any, None, "JobSet"]:
        if self.ids.job_ids or self.ids.array_ids:
            yield from watching.ended(self._client, self.ids, self).__await__()
        return self

    def events(self) -> Stream[JobEvent]:
        """The changes of their states as they come, until all have ended: `for event in …`, or `async for`."""
        return Stream(lambda: job_events(self._client, self.ids.job_ids, self.ids.array_ids))

    def records(self) -> Sequence[Mapping[str, Any]]:
        return [{**record(row), "status": row.status.value} for row in self.rows]

    def freshen(self) -> None:
        with suppress(SpinorError):
            self.refresh()

    def _title(self) -> str:
        total = sum(self._counts.values()) or len(self.ids.job_ids)
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


class JobArray(JobSet):
    """The jobs of one submission: `array[3]` is the one with index 3, and none of them has to be looked up for that."""

    def __init__(self, client: Client, submitted: SubmittedArray) -> None:
        super().__init__(client, JobIds(array_ids=[submitted.array_id]))
        self.array_id, self.name = submitted.array_id, submitted.name
        self._size, self._ranges = submitted.size, submitted.job_ids
        self._counts = {}

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Job]:
        return (Job(self._client, job_id) for each in self._ranges for job_id in range(each.first, each.last + 1))

    @overload
    def __getitem__(self, place: int) -> Job: ...
    @overload
    def __getitem__(self, place: slice) -> JobSet: ...
    def __getitem__(self, place: int | slice) -> Job | JobSet:
        places = range(self._size)[place]
        if isinstance(places, range):
            return JobSet(self._client, JobIds(job_ids=[self._id(each) for each in places]))
        return Job(self._client, self._id(places))

    def _id(self, index: int) -> int:
        for each in self._ranges:
            if index <= each.last - each.first:
                return each.first + index
            index -= each.last - each.first + 1
        raise IndexError(index)

    def _title(self) -> str:
        return super()._title() if self._counts else f"{self._size:,} jobs, array {self.array_id}"


def _counted(rows: Sequence[JobRow]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.status.value] = counts.get(row.status.value, 0) + 1
    return counts
