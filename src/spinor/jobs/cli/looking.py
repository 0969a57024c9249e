"""Looking at jobs."""

from typing import Any

import click

from spinor.terminal import output_options, say, show_one, table
from spinor.terminal import show as show_table

_COLUMNS = ("job_id", "name", "status", "minor_status", "site", "owner", "submitted_at", "ended_at")
_TABLE_LIMIT = 100


@click.command("list")
@click.option("--where", default="", help="A filter, such as 'status=failed submitted>-1d' (docs: search).")
@click.option("--sort", "sort", multiple=True, metavar="FIELD", help="Sort by a field; -FIELD is descending.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many; a table shows 100 unless told, a pipe all.")
@output_options
def list_jobs(where: str, sort: tuple[str, ...], limit: int | None, as_json: bool, quiet: bool) -> None:
    """List the jobs of your VO, the newest first."""
    from spinor.client import Client
    from spinor.jobs.models import JobRow

    cut = limit is None and not (as_json or quiet)
    body: dict[str, Any] = {"where": where, "sort": list(sort)}
    with Client.from_environment() as client:
        rows = client.pages("/api/jobs/search", body, JobRow, _TABLE_LIMIT if cut else limit)
        count = show_table(rows, _COLUMNS, id_field="job_id", as_json=as_json, quiet=quiet)
    if cut and count == _TABLE_LIMIT:
        say(f"These are the first {_TABLE_LIMIT}; --limit shows more, and --where chooses.")


@click.command("show")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@output_options
def show(ids: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Show jobs in full, each with its history."""
    from spinor.client import Client
    from spinor.jobs.models import HistoryEntry, Job
    from spinor.terminal import cell, read_ids

    with Client.from_environment() as client:
        for n, job_id in enumerate(read_ids(ids)):
            job = client.get(f"/api/jobs/{job_id}", Job)
            if quiet:
                click.echo(job.job_id)
                continue
            if as_json:
                show_one(job, as_json=True)
                continue
            if n:
                click.echo()
            show_one(job, skip=("description", "output_sandbox"))
            click.echo(f"command  {cell(_command(job))}")
            if job.output_sandbox and job.output_sandbox.missing:
                click.echo(f"missing from the output sandbox  {cell(job.output_sandbox.missing)}")
            history = client.get(f"/api/jobs/{job_id}/history", list[HistoryEntry])
            click.echo()
            columns = ("at", "attempt", "status", "minor_status", "source", "reason")
            _show_rows(history, columns)


def _show_rows(rows: list[Any], columns: tuple[str, ...]) -> None:
    from spinor.terminal import cell, heading

    cells = [[cell(getattr(row, column), column) for column in columns] for row in rows]
    for line in table([heading(column) for column in columns], cells):
        click.echo(line)


def _command(job: Any) -> str:
    import shlex

    return shlex.join([job.description.executable, *map(str, job.description.arguments)])


@click.command()
@click.option("--where", default="", help="Count only jobs that match this filter.")
@click.option("--by", default="status", help="The fields to count by, with commas between them.", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print models as JSON, one a line.")
def summary(where: str, by: str, as_json: bool) -> None:
    """Count the jobs of your VO by some fields."""
    import msgspec

    from spinor.client import Client
    from spinor.jobs.models import JobSummary, SummariseJobs
    from spinor.terminal import cell, heading

    fields = [field.strip() for field in by.split(",") if field.strip()]
    with Client.from_environment() as client:
        answer = client.post("/api/jobs/summary", SummariseJobs(where=where, by=fields), JobSummary)
    if as_json:
        for group in answer.groups:
            click.echo(msgspec.json.encode(group).decode())
        return
    columns = [*fields, "count"]
    cells = [[cell(group[column], column) for column in columns] for group in answer.groups]
    for line in table([heading(column) for column in columns], cells):
        click.echo(line)


@click.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--json", "as_json", is_flag=True, help="Print models as JSON, one a line.")
def explain(ids: tuple[str, ...], as_json: bool) -> None:
    """Say why a job waits, failed or runs where it does, and what to change."""
    from spinor.client import Client
    from spinor.jobs.models import Explanation
    from spinor.terminal import printable, read_ids

    with Client.from_environment() as client:
        for n, job_id in enumerate(read_ids(ids)):
            explanation = client.get(f"/api/jobs/{job_id}/explain", Explanation)
            if as_json:
                show_one(explanation, as_json=True)
                continue
            if n:
                click.echo()
            for sentence in explanation.sentences:
                click.echo(printable(sentence))
