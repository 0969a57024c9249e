"""Several requests in flight, each on its own connection; their answers come back in the order of the batches."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from spinor.client import Client

B = TypeVar("B")
R = TypeVar("R")
CONNECTIONS = 2  # Two database sessions are half as fast again as one; more wait for each other.


def in_order(
    batches: Iterable[B], exchange: Callable[[Client, B], R], *, connections: int, stop: threading.Event
) -> Iterator[R]:
    """What `exchange` gives for each batch. Whatever goes wrong in one of them stops all and is raised here; answers
    that came before it are given first. The batches are made by the threads that send them, one at a time."""
    numbered = enumerate(batches)
    turn = threading.Lock()
    results: queue.Queue[tuple[int, R] | BaseException | None] = queue.Queue()

    def work() -> None:
        try:
            with Client.from_environment() as client:
                while True:
                    with turn:
                        number, batch = next(numbered, (None, None))
                    if number is None or stop.is_set():
                        break
                    results.put((number, exchange(client, batch)))  # type: ignore[arg-type]
            results.put(None)
        except BaseException as error:  # noqa: BLE001 (raised again in the thread that iterates)
            stop.set()
            results.put(error)

    for number in range(connections):
        threading.Thread(target=work, name=f"send-{number}", daemon=True).start()
    try:
        yield from _sorted(results, connections)
    finally:
        stop.set()


def _sorted(results: queue.Queue[tuple[int, R] | BaseException | None], senders: int) -> Iterator[R]:
    waiting: dict[int, R] = {}
    following = 0
    problem: BaseException | None = None
    while senders:
        result = results.get()
        if result is None or isinstance(result, BaseException):
            senders -= 1
            problem = problem or result
        else:
            waiting[result[0]] = result[1]
        while following in waiting:
            yield waiting.pop(following)
            following += 1
    if problem:
        raise problem
