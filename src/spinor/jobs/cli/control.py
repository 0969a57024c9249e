"""Commands over existing jobs: wait, kill, reschedule."""

from typing import TYPE_CHECKING

import click

from spinor.jobs.cli.ids import chosen, job_ids
from spinor.jobs.models import CommandJobs, JobIds, Outcome, Waited, WaitForJobs
from spinor.terminal import output_options, say

if TYPE_CHECKING:
    from spinor.client import Client
    from spinor.terminal import Progress

_POLL_S = 20.0
_BAD = ("failed", "killed", "deleted")
_EXIT_CODES = {"unknown-job": 3, "denied": 4, "transition-refused": 5}


@click.command()
@job_ids
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Give up after that (exit code 75).")
@output_options
def wait(ids: tuple[str, ...], array_ids: tuple[int, ...], timeout: float | None, as_json: bool, quiet: bool) -> int:
    """Wait until jobs have ended. The exit code is 1 if any of them did not end well."""
    import msgspec

    from spinor.client import Client
    from spinor.terminal import Progress

    asked = chosen(ids, array_ids)
    with Client.from_environment() as client, Progress("jobs", unit="ended") as progress:
        waited = _wait(client, asked, progress, timeout)
    counts = ", ".join(f"{count:,} {status}" for status, count in waited.counts.items())
    if as_json:
        click.echo(msgspec.json.encode(waited).decode())
    elif not quiet:
        say(counts)
    if not waited.all_ended:
        return 75
    return 1 if any(waited.counts.get(status) for status in _BAD) else 0


def _wait(client: "Client", asked: JobIds, progress: "Progress", timeout: float | None) -> Waited:
    import time

    deadline = None if timeout is None else time.monotonic() + timeout
    # The first answer comes at once, each further one when a count has changed.
    seen: dict[str, int] = {}
    while True:
        left = _POLL_S if deadline is None else min(_POLL_S, max(0.0, deadline - time.monotonic()))
        body = WaitForJobs(job_ids=asked.job_ids, array_ids=asked.array_ids, wait_s=left, seen=seen)
        waited = client.post("/api/jobs/wait", body, Waited)
        progress.total = waited.total
        progress.set(waited.ended, ", ".join(f"{count:,} {status}" for status, count in waited.counts.items()))
        if waited.all_ended or (deadline is not None and time.monotonic() >= deadline):
            return waited
        seen = waited.counts


@click.command()
@job_ids
@click.option("--reason", default="", help="Why; kept in the history.")
@output_options
def kill(ids: tuple[str, ...], array_ids: tuple[int, ...], reason: str, as_json: bool, quiet: bool) -> int:
    """Kill jobs; what runs is stopped within seconds."""
    return _command("kill", "Killed", chosen(ids, array_ids), reason, as_json, quiet)


@click.command()
@job_ids
@click.option("--reason", default="", help="Why; kept in the history.")
@output_options
def reschedule(ids: tuple[str, ...], array_ids: tuple[int, ...], reason: str, as_json: bool, quiet: bool) -> int:
    """Let jobs run again, as a new attempt: failed and killed ones, and those that run now."""
    return _command("reschedule", "Rescheduled", chosen(ids, array_ids), reason, as_json, quiet)


def _command(verb: str, past: str, asked: JobIds, reason: str, as_json: bool, quiet: bool) -> int:
    import msgspec

    from spinor.client import Client

    body = CommandJobs(job_ids=asked.job_ids, array_ids=asked.array_ids, reason=reason)
    with Client.from_environment() as client:
        outcome = client.post(f"/api/jobs/{verb}", body, Outcome)
    if as_json:
        click.echo(msgspec.json.encode(outcome).decode())
    elif quiet:
        for job_id in outcome.done:
            click.echo(job_id)
    elif outcome.done:
        count = len(outcome.done)
        click.echo(f"{past} job {outcome.done[0]}." if count == 1 else f"{past} {count:,} jobs.")
    for refused in outcome.refused[:20]:
        say(f"spinor: {refused.detail}")
    if len(outcome.refused) > 20:
        say(f"spinor: … and {len(outcome.refused) - 20:,} more were refused")
    return _EXIT_CODES.get(outcome.refused[0].code, 1) if outcome.refused else 0
