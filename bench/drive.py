"""Drive a server from several threads: each has a connection of its own and one request at a time."""

import threading
import time
from collections.abc import Callable, Sequence

import msgspec

from bench.figures import percentile
from bench.wire import Wire


class Driven(msgspec.Struct, frozen=True):
    """What a drive did."""

    requests: int
    seconds: float
    latencies_s: list[float]

    @property
    def per_s(self) -> float:
        return self.requests / self.seconds

    def ms(self, percent: float) -> float:
        return percentile(self.latencies_s, percent) * 1000


def drive(
    connect: Callable[[], Wire], path: str, bodies: Sequence[bytes], *, clients: int, seconds: float, at_least: int = 1
) -> Driven:
    """POST the bodies in turns for so long, and at least so often per client. The first error ends the drive."""
    latencies: list[list[float]] = [[] for _ in range(clients)]
    errors: list[BaseException] = []
    ready = threading.Barrier(clients + 1)

    def send(n: int) -> None:
        try:
            with connect() as wire:
                requests = [wire.request(path, body) for body in bodies]
                wire.send(requests[0])  # Connection, token and statements are warm from here on.
                ready.wait()
                end = time.perf_counter() + seconds
                while not errors and (time.perf_counter() < end or len(latencies[n]) < at_least):
                    started = time.perf_counter()
                    wire.send(requests[(n + len(latencies[n])) % len(requests)])
                    latencies[n].append(time.perf_counter() - started)
        except Exception as error:  # noqa: BLE001  Raised again by the thread that waits for this one.
            errors.append(error)
            ready.abort()

    threads = [threading.Thread(target=send, args=(n,), daemon=True) for n in range(clients)]
    for thread in threads:
        thread.start()
    started = time.perf_counter()
    try:
        ready.wait()
        started = time.perf_counter()
    except threading.BrokenBarrierError:
        pass
    for thread in threads:
        thread.join()
    took = time.perf_counter() - started
    for error in errors:
        if not isinstance(error, threading.BrokenBarrierError):
            raise error
    every = [latency for each in latencies for latency in each]
    return Driven(len(every), took, every)
