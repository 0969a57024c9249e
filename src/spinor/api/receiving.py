"""Results of calls on their way back."""

import builtins
import functools
import io
import tarfile
import threading
from collections.abc import Mapping, Sequence
from concurrent import futures
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from spinor.api import values
from spinor.api.job import Job, JobFailed
from spinor.api.sending import Task
from spinor.api.sets import JobArray
from spinor.client import Client
from spinor.errors import NotFound, SpinorError
from spinor.jobs.client import ENDED, wait_for
from spinor.jobs.models import JobIds, JobRow
from spinor.jobs.sandboxes.client import download

_POLL_S = 1.0  # Arrays that are added meanwhile are looked at after that.
_OVERLAP = timedelta(minutes=1)  # A change may be seen later than one that was made after it.
_THREADS = 4


class FunctionFailed(SpinorError):
    """The function raised an exception that is not one of Python's own."""

    code = "function-failed"


class RemoteTraceback(Exception):
    """Where an exception came from, on the worker node."""

    def __init__(self, text: str) -> None:
        super().__init__(text)

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class Receiver:
    """Watches arrays in a thread of its own, and completes the futures of what has ended."""

    def __init__(self, client: Client) -> None:
        self._client = client.beside()
        self._pending: dict[int, Task] = {}
        self._arrays: dict[int, set[int]] = {}
        self._changed = threading.Condition()
        self._is_closed = False
        self._fetching = futures.ThreadPoolExecutor(_THREADS, thread_name_prefix="spinor-results")
        self._thread = threading.Thread(target=self._watch, name="spinor-receiver", daemon=True)
        self._thread.start()

    def add(self, sent: JobArray | Job, tasks: Sequence[Task]) -> None:
        jobs = list(sent) if isinstance(sent, JobArray) else [sent]
        array_id = sent.array_id if isinstance(sent, JobArray) else sent.model.array_id
        with self._changed:
            self._arrays[array_id] = {job.job_id for job in jobs}
            self._pending.update((job.job_id, task) for job, task in zip(jobs, tasks, strict=True))
            self._changed.notify()
        for job, task in zip(jobs, tasks, strict=True):
            for future in task.futures:
                future.goes_with(job, functools.partial(self._cancelled, job, task))

    def close(self) -> None:
        """Nothing more is added."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def join(self) -> None:
        self._thread.join()

    def cancel_all(self) -> None:
        with self._changed:
            tasks = list(self._pending.values())
        for task in tasks:
            for future in task.futures:
                future.cancel()

    def _cancelled(self, job: Job, task: Task) -> None:
        if all(future.cancelled() for future in task.futures):
            with self._changed:
                self._pending.pop(job.job_id, None)
                self._changed.notify()
            with self._client.beside() as beside, suppress(SpinorError):  # It may have ended meanwhile.
                Job(beside, job.job_id).kill("its call was cancelled")

    def _watch(self) -> None:
        seen: dict[str, int] = {}
        since: datetime | None = None
        while True:
            with self._changed:
                self._arrays = {n: ids for n, ids in self._arrays.items() if not ids.isdisjoint(self._pending)}
                while not self._arrays and not self._is_closed:
                    self._changed.wait()
                asked = JobIds(array_ids=list(self._arrays))
            if not asked.array_ids:
                self._fetching.shutdown()
                self._client.close()
                return
            try:
                waited = wait_for(self._client, asked, _POLL_S, seen)
                if waited.counts != seen or waited.all_ended:
                    since = self._complete(asked, None if waited.all_ended else since)
                    seen = waited.counts
            except Exception as error:  # noqa: BLE001 (those who wait for results are told)
                self._give_up(error)

    def _complete(self, asked: JobIds, since: datetime | None) -> datetime | None:
        """Fetch what has ended since then; the time of the newest change that was seen."""
        where = f"array_id={','.join(map(str, asked.array_ids))} status={','.join(sorted(ENDED))}"
        if since is not None:
            where += f" updated_at>={(since - _OVERLAP).isoformat()}"
        rows = list(self._client.pages("/api/jobs/search", {"where": where, "sort": ["job_id"]}, JobRow))
        fetched = []
        for row in rows:
            with self._changed:
                task = self._pending.get(row.job_id)
            if task is not None:
                fetched.append(self._fetching.submit(self._fetch, row.job_id, task))
        futures.wait(fetched)
        return max((row.updated_at for row in rows), default=since)

    def _fetch(self, job_id: int, task: Task) -> None:
        with self._client.beside() as beside:
            try:
                answers = _answers(beside, job_id)
                if answers is None:
                    self._fail(task, JobFailed(Job(beside, job_id).explain(), job_id=job_id))
                else:
                    for future, answer in zip(task.futures, answers, strict=True):
                        if "error" in answer:
                            future.fail(_error(answer["error"]))
                        else:
                            future.succeed(answer["value"])
            except Exception as error:  # noqa: BLE001 (whoever waits for the result is told)
                self._fail(task, error)
        with self._changed:
            self._pending.pop(job_id, None)

    def _fail(self, task: Task, error: BaseException) -> None:
        for future in task.futures:
            future.fail(error)

    def _give_up(self, error: BaseException) -> None:
        with self._changed:
            tasks, self._pending = list(self._pending.values()), {}
        for task in tasks:
            self._fail(task, error)


def _answers(client: Client, job_id: int) -> list[Mapping[str, Any]] | None:
    """What the calls gave; None when the job did not come so far."""
    try:
        archive = download(client, f"/api/jobs/{job_id}/output")
    except NotFound:
        return None
    except SpinorError as error:
        if getattr(error, "status", 0) == 404:
            return None
        raise
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
        try:
            file = tar.extractfile("result.json")
        except KeyError:
            return None
        if file is None:
            return None
        answers: list[Mapping[str, Any]] = values.loads(file.read().decode())
        return answers


def _error(told: Mapping[str, Any]) -> BaseException:
    """The exception of the function: one of Python's own as itself, any other by its name and message."""
    kind = getattr(builtins, told["name"], None) if told["module"] == "builtins" else None
    error: BaseException | None = None
    if isinstance(kind, type) and issubclass(kind, Exception) and told["args"] is not None:
        with suppress(TypeError):
            error = kind(*told["args"])
    if error is None:
        error = FunctionFailed(f"{told['module']}.{told['name']}: {told['message']}")
    error.__cause__ = RemoteTraceback(told["traceback"])
    return error
