"""`spinor job peek`: look into the directory of a running job."""

import sys
from typing import TYPE_CHECKING, Any

import click

from spinor.terminal import say, show_one

if TYPE_CHECKING:
    from spinor.jobs.models import Peek


@click.command()
@click.argument("job_id", type=int, metavar="ID")
@click.argument("path", default="")
@click.option("--from", "position", type=click.IntRange(min=0), metavar="BYTE", help="From this byte on, not the end.")
@click.option("--bytes", "size_bytes", type=click.IntRange(1, 1_048_576), default=65_536, help="At most so many.")
@click.option("--raw", is_flag=True, help="Bytes as they are, also on a terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print the model as JSON; the file's bytes are in base64.")
def peek(job_id: int, path: str, position: int | None, size_bytes: int, raw: bool, as_json: bool) -> None:
    """Show the end of a file of a running job, or list a directory of it.

    PATH is relative to the job's directory, which is listed without one.
    """
    from spinor.client import Client
    from spinor.jobs.models import Peek, PeekKind

    query: dict[str, Any] = {"path": path, "size_bytes": size_bytes}
    if position is not None:
        query["position"] = position
    with Client.from_environment() as client:
        found = client.get(f"/api/jobs/{job_id}/peek", Peek, query)
    if as_json:
        show_one(found, as_json=True)
    elif found.kind is PeekKind.DIRECTORY:
        _list(found)
    else:
        _show(found, raw=raw)


def _list(found: "Peek") -> None:
    from datetime import UTC, datetime

    from spinor.terminal import cell, printable, size, table

    rows = [
        [
            each.kind.value,
            size(each.size_bytes),
            cell(datetime.fromtimestamp(each.modified_at, UTC), "modified_at"),
            printable(each.name) + ("/" if each.kind == "directory" else ""),
        ]
        for each in found.entries
    ]
    for line in table(["kind", "size", "modified", "name"], rows):
        click.echo(line)
    if not rows:
        say("The directory is empty.")
    if found.truncated:
        say(f"There are more; these are the first {len(rows):,}.")


def _show(found: "Peek", *, raw: bool) -> None:
    from spinor.jobs.cli.plain import plain

    if raw or not sys.stdout.isatty():
        sys.stdout.buffer.write(found.data)
        sys.stdout.buffer.flush()
    else:
        click.echo(plain(found.data), nl=not found.data.endswith(b"\n"))
    end = found.position + len(found.data)
    if found.position or end < found.size_bytes:
        say(f"Bytes {found.position:,} to {end:,} of {found.size_bytes:,}.")
