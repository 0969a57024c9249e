"""Text on its way to the server while it grows: a payload's stdout and stderr, and the pilot's own log."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import Any, Callable, Optional

from spinor_pilot.faults import Lost
from spinor_pilot.server import GivenUp, Refused, Server, Unreachable, Untrusted

PERIOD_S = 0.4
CHUNK = 256 * 1024
KEPT_BYTES = 8 << 20  # The server keeps so much of a stream's beginning and of its end, and knows the gap.

_log = logging.getLogger("pilot")

Send = Callable[[int, bytes], int]  # Position and bytes -> the position that the server expects next.


class Stream:
    """One growing file, and how much of it the server has. `whole`: the server keeps all of it."""

    def __init__(self, path: Path, send: Send, whole: bool = False) -> None:
        self.path = path
        self.send = send
        self.whole = whole
        self.position = 0  # Of the stream: what the server has.
        self._shift = 0  # Between stream and file, since a payload may cut its own file.

    def advance(self) -> bool:
        """Send what is new, one chunk at most; whether there was any."""
        try:
            # It lies outside the payload's reach, and still no link is followed here.
            number = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return False
        with os.fdopen(number, "rb") as file:
            size = os.fstat(number).st_size
            if size < self.position - self._shift:
                self._shift = self.position
            if not self.whole and self.position >= KEPT_BYTES:
                self.position = max(self.position, size + self._shift - KEPT_BYTES)
            file.seek(self.position - self._shift)
            data = file.read(CHUNK)
        if not data:
            return False
        self.position = self.send(self.position, data)
        return True


class Follower:
    """Sends streams from `begin` on, in a thread, until it is told that they have ended; `finish` sends the rest first.

    Without `begin`, everything is sent by `finish`. `announce` is called once at the beginning.
    """

    def __init__(self, streams: list[Stream], name: str, announce: Optional[Callable[[], None]] = None) -> None:
        self._streams = streams
        self._announce = announce
        self._ended = threading.Event()
        self._name = name
        self._thread: Optional[threading.Thread] = None

    def begin(self) -> None:
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def finish(self, timeout_s: Optional[float] = None) -> None:
        self._ended.set()
        if self._thread is None:
            self._run()
        else:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            if self._announce is not None and not self._ended.is_set():
                self._announce()
            while True:
                last = self._ended.is_set()  # Read before the look: what was written before the end is then seen.
                advanced = [stream.advance() for stream in self._streams]  # Each of them gets its turn.
                if any(advanced):
                    continue
                if last:
                    return
                self._ended.wait(PERIOD_S)
        except (Refused, Untrusted, GivenUp, Lost, Unreachable, OSError) as error:
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
