"""`spinor pilot`: look at pilots, read their logs, cancel them."""

import sys

import click
from msgspec.structs import replace

from spinor.client import Client
from spinor.pilots.models import Cancelled, CancelPilots, ElementPilots, Pilot
from spinor.terminal import cell, output_options, read_ids, say, show, show_one

_COLUMNS = ("pilot_id", "status", "computing_element", "hostname", "jobs_taken", "created_at", "last_seen_at", "reason")


@click.group()
def pilot() -> None:
    """Look at pilots and their logs.

    Pilots are submitted by the pilot factory when jobs wait; nobody has to start one.
    """


@pilot.command("list")
@click.option("--where", default="", help="A filter, for example: status=running and jobs_taken=0")
@click.option("--sort", multiple=True, default=["-pilot_id"], show_default=True, help="A field; -field descending.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="How many at most.")
@output_options
def list_(where: str, sort: tuple[str, ...], limit: int, as_json: bool, quiet: bool) -> None:
    """List pilots, newest first."""
    body = {"where": where, "sort": list(sort), "fields": list(_FIELDS)}
    with Client.from_environment() as client:
        rows = client.pages("/api/pilots/search", body, Pilot, limit)
        show(rows, _COLUMNS, id_field="pilot_id", as_json=as_json, quiet=quiet)


@pilot.command("show")
@click.argument("pilots", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print models as JSON, one a line.")
def show_(pilots: tuple[str, ...], as_json: bool) -> None:
    """Show PILOTS (ids, ranges like 10-19, or - for stdin)."""
    with Client.from_environment() as client:
        for pilot_id in read_ids(pilots, "pilot"):
            show_one(client.get(f"/api/pilots/{pilot_id}", Pilot), as_json=as_json)


@pilot.command("log")
@click.argument("pilot_id", type=int)
@click.option("-f", "--follow", is_flag=True, help="Go on until the pilot has ended.")
def log(pilot_id: int, follow: bool) -> None:
    """Print the log of the pilot PILOT_ID, as it sent it while it ran."""
    import time

    position = 0
    with Client.from_environment() as client:
        while True:
            # The state first: what was written before the end is then in the log that is read after.
            ended = client.get(f"/api/pilots/{pilot_id}", Pilot).ended_at is not None
            while data := client.get(f"/api/pilots/{pilot_id}/log", query={"position": position}):
                position += len(data)
                sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            if ended or not follow:
                return
            time.sleep(1)


@pilot.command("stats")
@click.argument("computing_element", default="")
@click.option("--last", default="1d", show_default=True, help="Of pilots that have ended: those of so long.")
@output_options
def stats(computing_element: str, last: str, as_json: bool, quiet: bool) -> None:
    """Count pilots by computing element: those alive, how the others ended, and why the factory pauses.

    The efficiency is the part of the pilots that ended which had done work.
    """
    from spinor import quantities
    from spinor.errors import BadInput

    try:
        last_s = int(quantities.duration_s(last))
    except ValueError as error:
        raise BadInput(f"--last: {last!r} is not {error}.") from None
    query = {"last_s": last_s} | ({"computing_element": computing_element} if computing_element else {})
    with Client.from_environment() as client:
        rows = client.get("/api/pilots/stats", list[ElementPilots], query=query)
    if as_json or quiet:
        show(rows, _COUNTS, id_field="computing_element", as_json=as_json, quiet=quiet)
        return
    rounded = [
        replace(row, efficiency=_rounded(row.efficiency), jobs_per_pilot=_rounded(row.jobs_per_pilot)) for row in rows
    ]
    show(rounded, _COUNTS, id_field="computing_element")
    for row in rows:
        if row.trouble:
            when = cell(row.next_try_at)
            say(f"{row.computing_element}: {row.failures} failures in a row, next try at {when}: {row.trouble}")


def _rounded(ratio: float | None) -> float | None:
    return None if ratio is None else round(ratio, 2)


@pilot.command("cancel")
@click.argument("pilots", nargs=-1, required=True)
@click.option("--reason", default="", help="Why; it is kept with the pilot.")
@output_options
def cancel(pilots: tuple[str, ...], reason: str, as_json: bool, quiet: bool) -> int:
    """Cancel PILOTS (ids, ranges like 10-19, or - for stdin); the jobs they run wait again."""
    import msgspec

    with Client.from_environment() as client:
        body = CancelPilots(pilot_ids=read_ids(pilots, "pilot"), reason=reason)
        answer = client.post("/api/pilots/cancel", body, Cancelled)
    if as_json:
        click.echo(msgspec.json.encode(answer).decode())
    elif quiet:
        for pilot_id in answer.done:
            click.echo(pilot_id)
    else:
        say(f"{len(answer.done)} cancelled" + (f", {len(answer.refused)} refused" if answer.refused else ""))
    for refused in answer.refused:
        say(refused.detail)
    if not answer.refused:
        return 0
    return 3 if all(refused.code == "unknown-pilot" for refused in answer.refused) else 5


_FIELDS = (
    "pilot_id", "status", "computing_element", "site", "external_id", "hostname", "created_at", "submitted_at",
    "enrolled_at", "last_seen_at", "ended_at", "jobs_taken", "reason", "purpose", "hs23_per_core", "drain_reason",
)  # fmt: skip
_COUNTS = (
    "computing_element", "submitted", "waiting", "running", "done", "empty", "failed", "aborted", "cancelled", "jobs",
    "efficiency", "jobs_per_pilot",
)  # fmt: skip
