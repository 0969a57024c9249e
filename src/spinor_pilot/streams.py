"""Text on its way to the server while it grows: a payload's stdout and stderr, and the pilot's own log."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any, Callable

from spinor_pilot.faults import Lost
from spinor_pilot.server import GivenUp, Refused, Server, Untrusted

PERIOD_S = 0.4
CHUNK = 256 * 1024
LIMIT_BYTES = 64 * 1024 * 1024  # Of one stream. Who writes more than this wants a file, not a log.
NOTICE = b"\n[spinor: the log is cut here, at 64 MiB; write larger outputs to a file]\n"

_log = logging.getLogger("pilot")

Send = Callable[[int, bytes], int]  # Position and bytes -> the position that the server expects next.


class Stream:
    """One growing file, and how much of it the server has."""

    def __init__(self, path: Path, send: Send) -> None:
        self.path = path
        self.send = send
        self.position = 0
        self.closed = False

    def advance(self) -> bool:
        """Send what is new, one chunk at most; whether there was any."""
        if self.closed:
            return False
        try:
            with open(self.path, "rb") as file:
                file.seek(self.position)
                data = file.read(min(CHUNK, LIMIT_BYTES - self.position))
        except FileNotFoundError:
            return False
        if self.position + len(data) >= LIMIT_BYTES:
            data, self.closed = data + NOTICE, True
        if not data:
            return False
        self.position = self.send(self.position, data)
        return True


class Follower:
    """A thread that sends streams until it is told that they have ended; `finish` sends the rest of them first."""

    def __init__(self, streams: list[Stream], name: str) -> None:
        self._streams = streams
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def finish(self, timeout_s: float | None = None) -> None:
        self._ended.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            while True:
                last = self._ended.is_set()  # Read before the look: what was written before the end is then seen.
                advanced = [stream.advance() for stream in self._streams]  # Each of them gets its turn.
                if any(advanced):
                    continue
                if last:
                    return
                self._ended.wait(PERIOD_S)
        except (Refused, Untrusted, GivenUp, Lost, OSError) as error:
            _log.debug("a log is no longer sent: %s", error)


def to_job(server: Server, job_id: int, attempt: int, stream: str, given_up: Callable[[], bool]) -> Send:
    def send(position: int, data: bytes) -> int:
        path = f"/api/pilot/jobs/{job_id}/log?attempt={attempt}&stream={stream}&position={position}"
        try:
            return _next(server.send("POST", path, data, given_up=given_up))
        except Refused as refused:
            if refused.code == "log-gap":  # The server has less than we thought: it says from where on to send again.
                return _next(refused.facts)
            raise

    return send


def to_pilot_log(server: Server, given_up: Callable[[], bool]) -> Send:
    def send(position: int, data: bytes) -> int:
        return _next(server.send("POST", f"/api/pilot/log?position={position}", data, given_up=given_up))

    return send


def _next(answer: dict[str, Any]) -> int:
    return int(answer["position"])
