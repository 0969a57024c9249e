"""The jobs of a service: made, found and taken up again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from spinor.api.events import job_events
from spinor.api.job import Job
from spinor.api.sets import JobArray, JobSet
from spinor.api.streams import Stream
from spinor.client import Client
from spinor.errors import BadInput
from spinor.jobs.cli.descriptions import Document, documents, read_descriptions
from spinor.jobs.cli.submission import send
from spinor.jobs.models import JobEvent, JobIds, JobRow, JobSpec, SubmittedArray

Description = Mapping[str, Any] | JobSpec | str | Path


class Jobs:
    """The jobs of the VO: `submit` makes some, `jobs[17]` is one, `jobs.where("status=failed")` finds some."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __getitem__(self, job_id: int) -> Job:
        return Job(self._client, job_id)

    def where(self, query: str = "", *, sort: Sequence[str] = (), limit: int | None = 100) -> JobSet:
        """The jobs that a query names (docs: search), the newest first; None as limit: all of them."""
        body: dict[str, Any] = {"where": query, "sort": list(sort)}
        rows = list(self._client.pages("/api/jobs/search", body, JobRow, limit))
        return JobSet(self._client, JobIds(job_ids=[row.job_id for row in rows]), rows, is_cut=len(rows) == limit)

    def array(self, *array_ids: int) -> JobSet:
        """All jobs of arrays: how a set is found again in another session."""
        return JobSet(self._client, JobIds(array_ids=list(array_ids)))

    def events(self) -> Stream[JobEvent]:
        """The changes of all jobs of the VO from now on, without end."""
        return Stream(lambda: job_events(self._client))

    def submit(self, *descriptions: Description, **fields: Any) -> Job | JobSet:
        """Submit descriptions (docs: job description), or one that is given by its fields; all are accepted, or none.

        A description is a mapping, a JobSpec, or the path of a YAML or JSON file. One job is given as a Job, one array
        as a JobArray, several together as a JobSet.

            grid.jobs.submit(executable="python3", arguments=["mine.py"], input_sandbox=["mine.py"], cores=2)
        """
        if bool(descriptions) == bool(fields):
            raise BadInput('Give descriptions, or the fields of one: submit(executable="echo", arguments=["hello"]).')
        found: list[Document] = []
        for each in descriptions or [fields]:
            if isinstance(each, str | Path):
                found += documents([str(each)])
            else:
                found.append((msgspec.to_builtins(each) if isinstance(each, JobSpec) else dict(each), "", Path()))
        return self.sent(send(self._client, read_descriptions(found, {})).arrays)

    def sent(self, arrays: Sequence[SubmittedArray]) -> Job | JobSet:
        if len(arrays) == 1:
            return Job(self._client, arrays[0].ids[0]) if arrays[0].size == 1 else JobArray(self._client, arrays[0])
        return JobSet(self._client, JobIds(array_ids=[array.array_id for array in arrays]))
