"""What a job writes, while it writes."""

import time
from typing import Any, NamedTuple

from spinor.client import Client

_WAIT_S = 20


class Part(NamedTuple):
    data: bytes
    position: int
    attempt: int
    ended: bool


class Log:
    """The streams of one job."""

    def __init__(self, client: Client, job_id: int) -> None:
        self._client, self._path = client, f"/api/jobs/{job_id}/log"
        self.last = ""  # Of standard output, as it was looked at last.

    def peek(self) -> None:
        """Look at standard output."""
        self.last = self.read("stdout", None)

    def read(self, stream: str, attempt: int | None) -> str:
        pieces: list[bytes] = []
        position = 0
        while True:
            part = self._part(stream, attempt, position, 0)
            if not part.data:
                return _plain(b"".join(pieces))
            pieces.append(part.data)
            position, attempt = part.position, part.attempt

    def follow(self, stream: str) -> None:
        """Print the newest attempt to its end, and the attempts that come after it."""
        attempt, position = None, 0
        while True:
            part = self._part(stream, attempt, position, _WAIT_S)
            print(_plain(part.data), end="", flush=True)  # noqa: T201  A notebook's output.
            position, attempt = part.position, part.attempt
            if part.data or not part.ended:
                continue
            newest = self._part(stream, None, 0, 0)
            if newest.attempt == attempt:
                return
            print(f"--- attempt {newest.attempt}", flush=True)  # noqa: T201
            attempt, position = newest.attempt, 0
            time.sleep(0.2)

    def _part(self, stream: str, attempt: int | None, position: int, wait_s: int) -> Part:
        query: dict[str, Any] = {"stream": stream, "position": position, "wait_s": wait_s}
        if attempt:
            query["attempt"] = attempt
        headers, data = self._client.request("GET", self._path, query=query)
        return Part(
            data=data,
            position=int(headers["x-spinor-position"]),
            attempt=int(headers["x-spinor-attempt"]),
            ended=headers["x-spinor-ended"] == "true",
        )


def _plain(data: bytes) -> str:
    """Text without control characters, which could do anything on a terminal."""
    return "".join(c for c in data.decode(errors="replace") if c.isprintable() or c in "\n\t\r")
