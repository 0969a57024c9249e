"""Commands over existing jobs: kill, delete, hold, release, reschedule, prioritise."""

from typing import TYPE_CHECKING, Any

import click

from spinor.jobs.cli.ids import choosing, chosen
from spinor.terminal import output_options, say

if TYPE_CHECKING:
    from spinor.client import Client
    from spinor.jobs.models import ChosenJobs, Outcome

_LISTED = 20


def _command(name: str, past: str, doc: str, *, is_confirmed: bool = False) -> click.Command:
    """A command that changes jobs, each on its own."""

    @click.command(name, help=doc)
    @choosing
    @click.option("--reason", default="", help="Why; kept in the history.")
    @click.option("-y", "--yes", is_flag=True, hidden=not is_confirmed, help="Do not ask.")
    @output_options
    def command(yes: bool, reason: str, as_json: bool, quiet: bool, **names: Any) -> int:
        from spinor.client import Client

        asked = chosen(**names)
        with Client.from_environment() as client:
            if is_confirmed and not yes:
                _confirm(client, name, asked)
            outcome = _send(client, name, asked, {"reason": reason})
        return _report(outcome, past, as_json, quiet)

    return command


kill = _command("kill", "Killed", "Kill jobs; what runs is stopped within seconds.", is_confirmed=True)
delete = _command(
    "delete",
    "Deleted",
    "Delete jobs: what has not ended is killed, and lists leave them out.",
    is_confirmed=True,
)
hold = _command("hold", "Held", "Hold jobs back: they do not start before `spinor job release`.")
release = _command("release", "Released", "Let jobs go that were held back.")
reschedule = _command(
    "reschedule",
    "Rescheduled",
    "Let jobs run again, as a new attempt under the same id: those that have ended, and those that run now.",
)


@click.command()
@click.argument("priority", type=click.IntRange(0, 9), metavar="PRIORITY")
@choosing
@click.option("--reason", default="", help="Why; kept in the history.")
@output_options
def priority(priority: int, reason: str, as_json: bool, quiet: bool, **names: Any) -> int:
    """Give jobs another PRIORITY, 0 to 9; 9 goes first among your own."""
    from spinor.client import Client

    with Client.from_environment() as client:
        outcome = _send(client, "prioritise", chosen(**names), {"reason": reason, "priority": priority})
    return _report(outcome, f"Gave priority {priority} to", as_json, quiet)


def _send(client: "Client", verb: str, asked: "ChosenJobs", more: dict[str, Any]) -> "Outcome":
    import msgspec

    from spinor.jobs.models import Outcome

    return client.post(f"/api/jobs/{verb}", {**msgspec.to_builtins(asked), **more}, Outcome)


def _confirm(client: "Client", verb: str, asked: "ChosenJobs") -> None:
    """A set or a query may name more than one thinks: it is counted and asked, where somebody can answer."""
    import sys

    from spinor.jobs.client import where_of
    from spinor.jobs.models import JobSummary, SummariseJobs

    if not (asked.where or asked.job_groups) or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    found = client.post("/api/jobs/summary", SummariseJobs(where=where_of(asked)), JobSummary)
    counts = ", ".join(f"{group['count']:,} {group['status']}" for group in found.groups)
    click.confirm(f"{verb.capitalize()} {found.total:,} jobs ({counts or 'there are none'})?", abort=True, err=True)


def _report(outcome: "Outcome", past: str, as_json: bool, quiet: bool) -> int:
    import msgspec

    from spinor.jobs.client import EXIT_CODES, refusals

    count = sum(each.last - each.first + 1 for each in outcome.done)
    if as_json:
        click.echo(msgspec.json.encode(outcome).decode())
    elif quiet:
        for job_id in outcome.done_ids:
            click.echo(job_id)
    elif count:
        click.echo(f"{past} job {outcome.done[0].first}." if count == 1 else f"{past} {count:,} jobs.")
    sentences = refusals(outcome)
    for sentence in sentences[:_LISTED]:
        say(f"spinor: {sentence}")
    if len(sentences) > _LISTED:
        say(f"spinor: … and {len(sentences) - _LISTED:,} more reasons why others were refused")
    return EXIT_CODES.get(outcome.refused[0].code, 1) if outcome.refused else 0
