"""What jobs write: their logs, live, files while they run, and their output sandboxes."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from spinor.jobs.cli.ids import choosing, chosen, for_each
from spinor.terminal import output_options, say

if TYPE_CHECKING:
    from spinor.client import Client
    from spinor.jobs.client import LogPiece


@click.command()
@choosing
@click.option("-f", "--follow", is_flag=True, help="Go on until it has ended; one job.")
@click.option("--stream", type=click.Choice(["stdout", "stderr"]), default="stdout", show_default=True)
@click.option("--attempt", type=click.IntRange(min=1), help="Of this attempt; the newest unless told.")
@click.option("-n", "--tail", "lines", type=click.IntRange(min=0), help="Only the last lines of what there is.")
@click.option("--raw", is_flag=True, help="Bytes as they are, escape sequences among them, also on a terminal.")
def log(follow: bool, stream: str, attempt: int | None, lines: int | None, raw: bool, **names: Any) -> int:
    """Print what jobs have written so far; -f follows one live, also into its next attempt."""
    from spinor.client import Client
    from spinor.jobs.client import find_ids

    with Client.from_environment() as client:
        asked = chosen(**names)
        if follow:
            ids = find_ids(client, asked)
            if len(ids) != 1:
                raise click.UsageError(f"-f follows one job, and these are {len(ids):,}.")
            _follow(client, ids[0], stream, attempt, Writer(raw=raw))
            return 0
        several = len(asked.job_ids) != 1 or bool(asked.array_ids or asked.job_groups or asked.where)
        wanted = _Wanted(stream, attempt, lines, raw)
        return for_each(client, asked, lambda job_id: _print(client, job_id, wanted, several=several))


class _Wanted(NamedTuple):
    stream: str
    attempt: int | None
    lines: int | None
    raw: bool


def _print(client: "Client", job_id: int, wanted: _Wanted, *, several: bool) -> None:
    from spinor.jobs.client import whole_log

    stream, attempt, lines, raw = wanted
    write = Writer(raw=raw)

    if several:
        click.echo(f"==> job {job_id} <==")
    ended = True
    if lines is None:
        for piece in whole_log(client, job_id, stream, attempt):
            write(piece.data)
            ended = piece.data.endswith(b"\n")
    else:
        data = b"".join(piece.data for piece in whole_log(client, job_id, stream, attempt))
        data = b"".join(data.splitlines(keepends=True)[-lines:] if lines else [])
        write(data)
        ended = not data or data.endswith(b"\n")
    if several and not ended:
        click.echo()


def _follow(client: "Client", job_id: int, stream: str, attempt: int | None, write: "Writer") -> None:
    from spinor.jobs.client import follow_log

    shown = 0
    for piece in follow_log(client, job_id, stream, attempt):
        shown = note_attempt(shown, piece)
        write(piece.data)


def note_attempt(shown: int, piece: "LogPiece") -> int:
    """Say that what follows is of another attempt."""
    if shown and piece.attempt != shown:
        say(f"--- attempt {piece.attempt}")
    return piece.attempt


class Writer:
    """Bytes as they are into a pipe; on a terminal without escape sequences, which could do anything there."""

    def __init__(self, *, to_stderr: bool = False, raw: bool = False) -> None:
        from spinor.jobs.cli.plain import PlainText

        self._to_stderr = to_stderr
        self._stream = sys.stderr if to_stderr else sys.stdout
        self._plain = None if raw or not self._stream.isatty() else PlainText()

    def __call__(self, data: bytes) -> None:
        if self._plain is None:
            self._stream.buffer.write(data)
            self._stream.buffer.flush()
        else:
            click.echo(self._plain.feed(data), nl=False, err=self._to_stderr)


def write(data: bytes) -> None:
    """The same for a piece of which nothing is cut."""
    Writer()(data)


@click.command()
@choosing
@click.option("-o", "--output", "target", type=click.Path(path_type=Path), help="The directory to unpack into.")
@output_options
def output(target: Path | None, as_json: bool, quiet: bool, **names: Any) -> int:
    """Fetch and unpack the output sandboxes of jobs.

    One job's goes into the directory itself (job-ID unless told), those of several into ID below it.
    """
    import msgspec

    from spinor.client import Client
    from spinor.jobs.cli.packing import unpack
    from spinor.jobs.client import find_ids
    from spinor.jobs.models import ChosenJobs
    from spinor.jobs.sandboxes.client import download
    from spinor.terminal import printable

    with Client.from_environment() as client:
        ids = find_ids(client, chosen(**names))

        def one(job_id: int) -> None:
            folder = target or Path(f"job-{job_id}")
            if target and len(ids) > 1:
                folder = target / str(job_id)
            found = unpack(download(client, f"/api/jobs/{job_id}/output"), folder)
            if as_json:
                click.echo(msgspec.json.encode({"job_id": job_id, "directory": str(folder), "files": found}).decode())
            elif quiet:
                click.echo(job_id)
            else:
                for name in found:
                    click.echo(printable(str(folder / name)))

        return for_each(client, ChosenJobs(job_ids=ids), one)
