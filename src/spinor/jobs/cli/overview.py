"""`spinor job stats` without jobs: what waits and runs, and how the last days went."""

from typing import TYPE_CHECKING

import click

from spinor.terminal import cell, duration, heading, printable, table

if TYPE_CHECKING:
    from spinor.jobs.models import JobStatistics, StatisticsRow

_COLUMNS = (
    "waiting", "running", "done", "failed", "killed", "retried", "success", "CPU efficiency", "core hours",
    "median wait", "median run", "most memory",
)  # fmt: skip


def show_overview(by: str, last_s: float, *, everybody: bool, as_json: bool) -> None:
    import msgspec

    from spinor.client import Client
    from spinor.identity.models import WhoAmI
    from spinor.jobs.models import JobStatistics

    with Client.from_environment() as client:
        who = client.get("/api/auth/whoami", WhoAmI)
        query = {"by": by, "last_s": round(last_s)} | ({} if everybody else {"owner": who.user})
        found = client.get("/api/jobs/statistics", JobStatistics, query=query)
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
        return
    click.echo(f"{f'VO {who.vo}' if everybody else f'{who.user} in VO {who.vo}'}: {sentence(found.total, last_s)}")
    _show_rows(by, found)
    for failure in found.failures:
        how = f"exit code {failure.exit_code}" if failure.exit_code is not None else "no exit code"
        times = "once" if failure.attempts == 1 else f"{failure.attempts:,} times"
        click.echo(
            f"attempts failed {times}: {failure.error_class or 'unknown'}, {how}, last job {failure.last_job_id}"
        )


def sentence(total: "StatisticsRow", last_s: float) -> str:
    """What waits and runs, and what ended."""
    now = f"{total.waiting:,} waiting, {total.running:,} running"
    ended = f"{total.done:,} done, {total.failed:,} failed, {total.killed:,} killed"
    return f"{now}; in the last {duration(last_s)}: {ended}"


def _show_rows(by: str, found: "JobStatistics") -> None:
    rows = [*found.rows, *([found.total] if len(found.rows) > 1 else [])]
    names = [printable(row.value or "-") for row in found.rows] + ["all"]
    cells = [[name, *_cells(row)] for name, row in zip(names, rows, strict=False)]
    for line in table([heading(by), *_COLUMNS], cells) if rows else []:
        click.echo(line)


def _cells(row: "StatisticsRow") -> list[str]:
    counts = [f"{count:,}" for count in (row.waiting, row.running, row.done, row.failed, row.killed, row.retried)]
    return [
        *counts,
        "-" if row.success is None else f"{row.success:.0%}",
        "-" if row.efficiency is None else f"{row.efficiency:.0%}",
        f"{row.core_s / 3600:,.1f}",
        cell(row.waited_s, "waited_s"),
        cell(row.wall_s, "wall_s"),
        cell(row.max_rss_bytes, "max_rss_bytes"),
    ]
