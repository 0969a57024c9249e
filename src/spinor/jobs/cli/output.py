"""What jobs write: their logs, live, and their output sandboxes."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from spinor.terminal import output_options, say

if TYPE_CHECKING:
    from spinor.client import Client

_WAIT_S = 20


@click.command()
@click.argument("job_id", type=int, metavar="ID")
@click.option("-f", "--follow", "wait_s", flag_value=_WAIT_S, default=0, type=int, help="Go on until it has ended.")
@click.option("--stream", type=click.Choice(["stdout", "stderr"]), default="stdout", show_default=True)
@click.option("--attempt", type=click.IntRange(min=1), help="Of this attempt; the newest unless told.")
def log(job_id: int, wait_s: int, stream: str, attempt: int | None) -> None:
    """Print what a job has written so far; -f follows it live."""
    from spinor.client import Client

    with Client.from_environment() as client:
        reader = _Reader(client, job_id, stream)
        if attempt is None:
            reader.copy_newest(wait_s)
        else:
            reader.copy(attempt, wait_s)


class _Part(NamedTuple):
    data: bytes
    position: int
    attempt: int
    ended: bool


class _Reader:
    """Copies one stream of a job to stdout."""

    def __init__(self, client: "Client", job_id: int, stream: str) -> None:
        self._client = client
        self._path = f"/api/jobs/{job_id}/log"
        self._stream = stream

    def copy(self, attempt: int, wait_s: int) -> None:
        """One attempt, to its end when it is followed, and otherwise what there is."""
        position = 0
        while True:
            part = self._read(attempt, position, wait_s)
            _write(part.data)
            position = part.position
            if not part.data and (part.ended or not wait_s):
                return

    def copy_newest(self, wait_s: int) -> None:
        """The newest attempt and, when it is followed, those that come after it."""
        shown = 0
        while True:
            newest = self._read(None, 0, 0 if shown else wait_s)
            if newest.attempt > shown:
                if shown:
                    say(f"--- attempt {newest.attempt}")
                shown = newest.attempt
                self.copy(shown, wait_s)
            elif newest.ended:
                return
            elif shown:
                time.sleep(1)
            if not wait_s:
                return

    def _read(self, attempt: int | None, position: int, wait_s: int) -> _Part:
        query: dict[str, Any] = {"stream": self._stream, "position": position, "wait_s": wait_s}
        if attempt is not None:
            query["attempt"] = attempt
        headers, data = self._client.request("GET", self._path, query=query)
        return _Part(
            data=data,
            position=int(headers["x-spinor-position"]),
            attempt=int(headers["x-spinor-attempt"]),
            ended=headers["x-spinor-ended"] == "true",
        )


def _write(data: bytes) -> None:
    """Bytes as they are into a pipe; on a terminal without control characters, which could do anything there."""
    if not sys.stdout.isatty():
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    text = data.decode(errors="replace")
    click.echo("".join(c for c in text if c.isprintable() or c in "\n\t\r"), nl=False)


@click.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("-o", "--output", "target", type=click.Path(path_type=Path), help="The directory to unpack into.")
@output_options
def output(ids: tuple[str, ...], target: Path | None, as_json: bool, quiet: bool) -> None:
    """Fetch and unpack the output sandboxes of jobs.

    One job's goes into the directory itself (job-ID unless told), those of several into ID below it.
    """
    import msgspec

    from spinor.client import Client
    from spinor.jobs.cli.packing import unpack
    from spinor.terminal import printable, read_ids

    numbers = read_ids(ids)
    with Client.from_environment() as client:
        for job_id in numbers:
            folder = target or Path(f"job-{job_id}")
            if target and len(numbers) > 1:
                folder = target / str(job_id)
            names = unpack(client.get(f"/api/jobs/{job_id}/output"), folder)
            if as_json:
                click.echo(msgspec.json.encode({"job_id": job_id, "directory": str(folder), "files": names}).decode())
            elif quiet:
                click.echo(job_id)
            else:
                for name in names:
                    click.echo(printable(str(folder / name)))
