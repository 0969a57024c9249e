"""Calls of functions on their way out: tasks, and the array that runs them."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from spinor.api import calling, values
from spinor.api.functions import Bundle
from spinor.api.job import Job
from spinor.api.sets import JobArray

if TYPE_CHECKING:
    from spinor.api.grid import Grid

T = TypeVar("T")
Call = tuple[Sequence[Any], Mapping[str, Any]]


def _nothing() -> None:
    """There is no job yet that could be killed."""


class CallFuture(futures.Future[T]):
    """The result of a call to come. `job` is its job; `cancel` kills that unless it has ended."""

    def __init__(self) -> None:
        super().__init__()
        self._sent: futures.Future[Job] = futures.Future()
        self._kill: Callable[[], None] = _nothing

    def job(self, timeout: float | None = None) -> Job:
        """The job that makes the call, as soon as it is submitted."""
        return self._sent.result(timeout)

    def cancel(self) -> bool:
        """True unless it has ended. Its job is killed when all calls of that job are cancelled."""
        if not super().cancel():
            return False
        self._kill()
        return True

    def goes_with(self, job: Job, kill: Callable[[], None]) -> None:
        self._sent.set_result(job)
        self._kill = kill
        if self.cancelled():
            kill()

    def succeed(self, value: T) -> None:
        with suppress(futures.InvalidStateError):
            if self.set_running_or_notify_cancel():
                self.set_result(value)

    def fail(self, error: BaseException) -> None:
        if not self._sent.done():
            self._sent.set_exception(error)
        with suppress(futures.InvalidStateError):
            if self.set_running_or_notify_cancel():
                self.set_exception(error)


class Task:
    """The calls that one job makes, and their futures."""

    def __init__(self, function: Bundle, calls: Sequence[Call]) -> None:
        self.bundle = function
        made = [[tuple(args), dict(kwargs)] for args, kwargs in calls]
        self.line = values.dumps({"module": function.module, "name": function.name, "calls": made})
        self.futures: list[CallFuture[Any]] = [CallFuture() for _ in calls]


def send_tasks(grid: "Grid", tasks: Sequence[Task], python: str, description: Mapping[str, Any]) -> JobArray | Job:
    """Submit tasks of one function as one array: element n makes the calls of line n."""
    first = tasks[0].bundle
    own = {"spinor_call.py": calling.__file__, "spinor_values.py": values.__file__}
    with tempfile.TemporaryDirectory(prefix="spinor-calls-") as name:
        folder = Path(name)
        for file, source in own.items():
            (folder / file).write_bytes(Path(source).read_bytes())
        for file, content in first.files.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(content)
        (folder / "calls.jsonl").write_text("\n".join(task.line for task in tasks) + "\n", encoding="utf-8")
        sent = grid.jobs.submit(
            {
                "name": first.name,
                **description,
                "executable": python,
                "arguments": ["spinor_call.py"],
                "parameters": {"call": list(range(len(tasks)))},
                "input_sandbox": [
                    *map(str, description.get("input_sandbox", ())),
                    *sorted(str(each) for each in folder.iterdir()),
                ],
                "output_sandbox": ["result.json"],
            }
        )
    assert isinstance(sent, JobArray | Job)
    return sent
