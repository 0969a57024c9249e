"""`spinor job peek`: files of a running job."""

import time
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from spinor.client import Client
    from spinor.jobs.models import Peek

_FOLLOW_S = 1.0


@click.command()
@click.argument("job_id", type=int, metavar="ID")
@click.argument("path", default="", metavar="[PATH]")
@click.option(
    "--from", "position", type=click.IntRange(min=0), help="From this byte on; the end of the file unless told."
)
@click.option("--bytes", "size_bytes", type=click.IntRange(1, 1024 * 1024), default=65_536, show_default=True)
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def peek(job_id: int, path: str, position: int | None, size_bytes: int, follow: bool, as_json: bool) -> None:
    """Look at a file in the directory of a running job, or list a directory; `spinor job log` has what it prints.

    PATH is relative to the job's directory, which is listed without one.
    """
    import msgspec

    from spinor.client import Client

    with Client.from_environment() as client:
        found = look(client, job_id, path, position, size_bytes)
        if as_json:
            click.echo(msgspec.json.encode(found).decode())
            return
        _show(found)
        if follow and found.kind == "file":
            _follow(client, found)


def look(client: "Client", job_id: int, path: str, position: int | None, size_bytes: int) -> "Peek":
    from spinor.jobs.models import Peek

    query = {"path": path, "size_bytes": size_bytes, **({} if position is None else {"position": position})}
    return client.get(f"/api/jobs/{job_id}/peek", Peek, query)


def _show(found: "Peek") -> None:
    from datetime import UTC, datetime

    from spinor.jobs.cli.output import write
    from spinor.terminal import cell, printable, say, table

    if found.kind == "file":
        write(found.data)
        return
    rows = [
        [
            cell(datetime.fromtimestamp(each.modified_at, UTC)),
            cell(each.size_bytes, "x_bytes"),
            printable(each.name) + ("/" if each.kind == "directory" else ""),
        ]
        for each in found.entries
    ]
    for line in table(["modified", "size", "name"], rows):
        click.echo(line)
    if found.truncated:
        say("There are more; name a directory below.")


def _follow(client: "Client", found: "Peek") -> None:
    from spinor.client import RemoteError
    from spinor.jobs.cli.output import write

    position = found.position + len(found.data)
    while True:
        time.sleep(_FOLLOW_S)
        try:
            found = look(client, found.job_id, found.path, position, 1024 * 1024)
        except RemoteError as error:
            if error.code == "not-running":
                return
            raise
        write(found.data)
        position = found.position + len(found.data)
