"""`spinor job wait`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from spinor.jobs.cli.ids import choosing, chosen
from spinor.jobs.cli.values import SECONDS
from spinor.terminal import output_options, say

if TYPE_CHECKING:
    from spinor.client import Client
    from spinor.jobs.models import JobIds, Waited

CONDITIONS = {
    "ended": "all have ended",
    "done": "all have ended well; it gives up as soon as one has not",
    "started": "none waits any more",
    "any-ended": "one has ended",
    "any-started": "one runs, or has ended",
    "any-failed": "one has not ended well",
}


@click.command(epilog="Conditions: " + "; ".join(f"{name}: {text}" for name, text in CONDITIONS.items()) + ".")
@choosing
@click.option(
    "--until",
    "conditions",
    type=click.Choice(list(CONDITIONS)),
    multiple=True,
    default=("ended",),
    show_default=True,
    help="What to wait for; of several, whatever comes first.",
)
@click.option(
    "--timeout", type=SECONDS, metavar="DURATION", help="Give up after that, such as 90 or 10m (exit code 75)."
)
@output_options
def wait(conditions: tuple[str, ...], timeout: float | None, as_json: bool, quiet: bool, **names: Any) -> int:
    """Wait until jobs have ended, or for another condition.

    The exit code is 0 when a condition holds, 1 when a job has failed or was killed, and 75 when the time is over.
    --where and --group stand for the jobs that they find now.
    """
    import msgspec

    from spinor.client import Client
    from spinor.jobs.client import NOT_WELL, find_ids
    from spinor.jobs.models import JobIds
    from spinor.terminal import Progress

    asked = chosen(**names)
    with Client.from_environment() as client, Progress("jobs", unit="ended") as progress:
        ids = JobIds(job_ids=asked.job_ids, array_ids=asked.array_ids)
        if asked.where or asked.job_groups:
            ids = JobIds(job_ids=find_ids(client, asked))
        waited, reached = _wait(client, ids, conditions, timeout, progress)
    if as_json:
        click.echo(msgspec.json.encode({**msgspec.to_builtins(waited), "reached": reached}).decode())
    elif not quiet:
        say(", ".join(f"{count:,} {status}" for status, count in waited.counts.items()) or "no jobs")
    if any(waited.counts.get(status) for status in NOT_WELL) and (reached or waited.all_ended or "done" in conditions):
        return 1
    return 0 if reached or waited.all_ended else 75


def _wait(
    client: "Client", ids: "JobIds", conditions: tuple[str, ...], timeout_s: float | None, progress: Any
) -> "tuple[Waited, str]":
    """The counts at the end, and which condition holds; none when the time is over."""
    from spinor.jobs.client import waiting
    from spinor.jobs.models import Waited

    waited = Waited(counts={}, total=0, ended=0, all_ended=True)
    if not ids.job_ids and not ids.array_ids:
        return waited, "ended"
    for waited in waiting(client, ids, timeout_s):
        progress.total = waited.total
        progress.set(waited.ended, ", ".join(f"{count:,} {status}" for status, count in waited.counts.items()))
        found = {condition: holds(condition, waited.counts) for condition in conditions}
        reached = [condition for condition, does in found.items() if does]
        if reached or all(does is None for does in found.values()):
            return waited, "".join(reached[:1])
    return waited, ""


def holds(condition: str, counts: Mapping[str, int]) -> bool | None:
    """Whether jobs with these counts by status satisfy a condition; None when they never will."""
    from spinor.jobs.client import BEFORE_RUNNING, ENDED, NOT_WELL

    total = sum(counts.values())
    ended = sum(counts.get(status, 0) for status in ENDED)
    bad = sum(counts.get(status, 0) for status in NOT_WELL)
    before = sum(counts.get(status, 0) for status in BEFORE_RUNNING)
    found: dict[str, bool | None] = {
        "ended": ended == total,
        "done": None if bad else ended == total,
        "started": before == 0,
        "any-ended": ended > 0,
        "any-started": before < total,
        "any-failed": bad > 0 or (None if ended == total else False),
    }
    return found[condition]
