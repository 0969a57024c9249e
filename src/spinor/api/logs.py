"""What a job writes, while it writes."""

from collections.abc import Iterator

from spinor.client import Client
from spinor.jobs.client import follow_log, whole_log


class Log:
    """The streams of one job."""

    def __init__(self, client: Client, job_id: int) -> None:
        self._client, self._job_id = client, job_id
        self.last = ""  # Of standard output, as it was looked at last.

    def peek(self) -> None:
        """Look at standard output."""
        self.last = self.read("stdout", None)

    def read(self, stream: str, attempt: int | None) -> str:
        pieces = whole_log(self._client, self._job_id, stream, attempt)
        return plain(b"".join(piece.data for piece in pieces))

    def follow(self, stream: str) -> None:
        """Print the newest attempt to its end, and the attempts that come after it."""
        shown = 0
        for piece in follow_log(self._client, self._job_id, stream):
            if shown and piece.attempt != shown:
                print(f"--- attempt {piece.attempt}", flush=True)  # noqa: T201  A notebook's output.
            shown = piece.attempt
            print(plain(piece.data), end="", flush=True)  # noqa: T201

    def lines(self, stream: str) -> Iterator[str]:
        """Whole lines, as they come, without their ends."""
        with self._client.beside() as beside:
            rest, shown = b"", 0
            for piece in follow_log(beside, self._job_id, stream):
                if rest and piece.attempt != shown:
                    yield plain(rest)
                    rest = b""
                shown = piece.attempt
                *whole, rest = (rest + piece.data).split(b"\n")
                yield from map(plain, whole)
            if rest:
                yield plain(rest)


def plain(data: bytes) -> str:
    """Text without control characters, which could do anything on a terminal."""
    return "".join(c for c in data.decode(errors="replace") if c.isprintable() or c in "\n\t\r")
