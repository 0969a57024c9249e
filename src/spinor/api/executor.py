"""`concurrent.futures` over Spinor: functions of yours run as jobs.

    with spinor.connect().executor(cores=2, wall_s="20m") as pool:
        areas = list(pool.map(area, radii))  # One array, an element for each radius.

Functions travel as source and values as JSON (spinor.api.functions, spinor.api.values): nothing is pickled, the worker
node may have another Python, and what comes back is data that cannot run code here. `docs/reference/python.md`.
"""

import itertools
import queue
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent import futures
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from spinor.api.functions import Bundle, bundle
from spinor.api.receiving import Receiver
from spinor.api.sending import Call, CallFuture, Task, send_tasks
from spinor.errors import BadInput

if TYPE_CHECKING:
    from spinor.api.grid import Grid

P = ParamSpec("P")
T = TypeVar("T")
_GATHER_S = 0.05  # Calls of one loop go together, as one array.
_OWN = frozenset({"executable", "arguments", "parameters", "input_sandboxes", "output_sandbox"})


class Executor(futures.Executor):
    """Calls of functions as jobs. After a `with` block all of them have ended."""

    def __init__(self, grid: "Grid", *, python: str = "python3", **description: Any) -> None:
        """`python` is the interpreter on the worker node; `description` are fields of the job description."""
        if taken := _OWN & set(description):
            raise BadInput(f"{min(taken)}: the executor sets this field by itself.", field=min(taken))
        self._grid, self._python, self._description = grid, python, description
        self._tasks: queue.SimpleQueue[list[Task] | None] = queue.SimpleQueue()
        self._receiver = Receiver(grid.client)
        self._lock = threading.Lock()
        self._is_closed = False
        self._sender = threading.Thread(target=self._send_all, name="spinor-sender", daemon=True)
        self._sender.start()

    @overload  # A coroutine function gives its result, and not its coroutine.
    def submit(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> "CallFuture[T]": ...
    @overload
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "CallFuture[T]": ...
    def submit(self, fn: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> "CallFuture[Any]":
        """Run fn(*args, **kwargs) as a job. Raises CannotGo or CannotTravel at once when it cannot."""
        task = Task(bundle(fn), [(args, kwargs)])
        self._put([task])
        return task.futures[0]

    def map(
        self, fn: Callable[..., T], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:  # fmt: skip
        """The results of fn for each item, in order: one array, with `chunksize` calls in each job.

        `buffersize` is taken for the standard library's sake: all calls go at once, since that is what an array is.
        """
        if chunksize < 1:
            raise BadInput("chunksize is at least 1.", field="chunksize")
        deadline = None if timeout is None else time.monotonic() + timeout
        shipped = bundle(fn)
        calls: list[Call] = [(args, {}) for args in zip(*iterables, strict=False)]
        tasks = [Task(shipped, calls[n : n + chunksize]) for n in range(0, len(calls), chunksize)]
        if tasks:
            self._put(tasks)
        return _results([future for task in tasks for future in task.futures], deadline)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. With `wait` all have ended afterwards; with `cancel_futures` their jobs are killed."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._tasks.put(None)
        if cancel_futures:
            self._sender.join()
            self._receiver.cancel_all()
        if wait:
            self._sender.join()
            self._receiver.join()

    def _put(self, tasks: list[Task]) -> None:
        with self._lock:
            if self._is_closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._tasks.put(tasks)

    def _send_all(self) -> None:
        """Send what has been gathered, function by function, until the executor is closed."""
        is_open = True
        while is_open:
            first = self._tasks.get()
            gathered, is_open = list(first or ()), first is not None
            until = time.monotonic() + _GATHER_S
            while is_open:
                with suppress(queue.Empty):
                    more = self._tasks.get(timeout=max(0.0, until - time.monotonic()))
                    gathered += more or ()
                    is_open = more is not None
                    continue
                break
            for group in _by_function(gathered):
                self._send(group)
        self._receiver.close()

    def _send(self, tasks: Sequence[Task]) -> None:
        left = [task for task in tasks if not all(future.cancelled() for future in task.futures)]
        if not left:
            return
        try:
            array = send_tasks(self._grid, left, self._python, self._description)
        except Exception as error:  # noqa: BLE001 (whatever it is, those who wait for results are told)
            for future in itertools.chain.from_iterable(task.futures for task in left):
                future.fail(error)
            return
        self._receiver.add(array, left)


def _by_function(tasks: Sequence[Task]) -> Iterator[list[Task]]:
    """Equal functions with equal files are one array."""
    groups: list[tuple[Bundle, list[Task]]] = []
    for task in tasks:
        for known, group in groups:
            if known is task.bundle or known == task.bundle:
                group.append(task)
                break
        else:
            groups.append((task.bundle, [task]))
    for _, group in groups:
        yield group


def _results(calls: "list[CallFuture[T]]", deadline: float | None) -> Iterator[T]:
    calls.reverse()
    try:
        while calls:
            yield calls.pop().result(None if deadline is None else deadline - time.monotonic())
    finally:
        for future in calls:
            future.cancel()
