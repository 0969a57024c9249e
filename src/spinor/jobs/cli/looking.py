"""Looking at jobs: lists, one in full, counts, and why a job is where it is."""

import re
from typing import TYPE_CHECKING, Any

import click

from spinor.jobs.cli.ids import choosing, chosen, for_each
from spinor.terminal import output_options, say, show_one, table
from spinor.terminal import show as show_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spinor.jobs.models import Explanation, Job

_COLUMNS = ("job_id", "name", "status", "minor_status", "site", "owner", "submitted_at", "ended_at")
_TABLE_LIMIT = 100


@click.command("list")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--where", default="", help="A filter, such as 'status=failed submitted>-1d' (docs: search).")
@click.option("--array", "array_ids", type=int, multiple=True, metavar="ID", help="Only jobs of this array.")
@click.option("--group", "job_groups", multiple=True, metavar="NAME", help="Only jobs of this set.")
@click.option("--status", "statuses", multiple=True, help="Only jobs in this state.")
@click.option("--mine", is_flag=True, help="Only your own.")
@click.option("-a", "--all", "with_deleted", is_flag=True, help="Deleted ones too.")
@click.option("--sort", "sort", multiple=True, metavar="FIELD", help="Sort by a field; -FIELD is descending.")
@click.option("--columns", default="", metavar="FIELD,...", help="What the table shows.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many; a table shows 100 unless told, a pipe all.")
@output_options
def list_jobs(
    sort: tuple[str, ...], columns: str, limit: int | None, as_json: bool, quiet: bool, **filters: Any
) -> None:
    """List the jobs of your VO, the newest first."""
    from spinor.client import Client
    from spinor.errors import BadInput
    from spinor.jobs.models import JobRow

    shown = tuple(name.strip() for name in columns.split(",") if name.strip()) or _COLUMNS
    if unknown := [name for name in shown if name not in JobRow.__struct_fields__]:
        raise BadInput(f"--columns: there is no {unknown[0]!r}; there are {', '.join(JobRow.__struct_fields__)}.")
    cut = limit is None and not (as_json or quiet)
    with Client.from_environment() as client:
        body: dict[str, Any] = {"where": _filter(client, **filters), "sort": list(sort)}
        rows = client.pages("/api/jobs/search", body, JobRow, _TABLE_LIMIT if cut else limit)
        count = show_table(rows, shown, id_field="job_id", as_json=as_json, quiet=quiet)
    if cut and count == _TABLE_LIMIT:
        say(f"These are the first {_TABLE_LIMIT}; --limit shows more, and --where chooses.")


def _filter(
    client: Any, *, ids: "Sequence[str]", mine: bool, statuses: "Sequence[str]", with_deleted: bool, **names: Any
) -> str:
    """All of what was said must hold."""
    from spinor.identity.models import WhoAmI
    from spinor.jobs.client import quoted, where_of

    where = names["where"].strip()
    parts = [f"({where})" if re.search(r"\bor\b", where, re.IGNORECASE) else where] if where else []
    if ids or names["array_ids"] or names["job_groups"]:
        parts.append(f"({where_of(chosen(ids, names['array_ids'], names['job_groups'], ''))})")
    if statuses:
        parts.append(f"status={','.join(map(quoted, statuses))}")
    elif not (with_deleted or ids or "status" in where):
        parts.append("status!=deleted")
    if mine:
        parts.append(f"owner={quoted(client.get('/api/auth/whoami', WhoAmI).user)}")
    # What was typed comes first, so that an error points to the right character.
    return " ".join(parts)


@click.command("show")
@choosing
@click.option("-d", "--description", is_flag=True, help="Print the description as YAML: it can be submitted again.")
@output_options
def show(description: bool, as_json: bool, quiet: bool, **names: Any) -> int:
    """Show jobs in full, each with its history."""
    from spinor.client import Client
    from spinor.jobs.models import HistoryEntry, Job

    shown = 0

    def one(job_id: int) -> None:
        nonlocal shown
        job = client.get(f"/api/jobs/{job_id}", Job)
        if quiet or as_json:
            click.echo(job.job_id) if quiet else show_one(job, as_json=True)
            return
        if shown and not description:
            click.echo()
        shown += 1
        if description:
            _show_description(job)
            return
        _show_job(job)
        click.echo()
        _show_rows(client.get(f"/api/jobs/{job_id}/history", list[HistoryEntry]), _HISTORY)

    with Client.from_environment() as client:
        return for_each(client, chosen(**names), one)


_HISTORY = ("at", "attempt", "status", "minor_status", "source", "reason")


def _show_job(job: "Job") -> None:
    import shlex

    from spinor.terminal import cell

    show_one(job, skip=("description", "output_sandbox"))
    click.echo(f"command  {cell(shlex.join([job.description.executable, *map(str, job.description.arguments)]))}")
    if job.output_sandbox and job.output_sandbox.missing:
        click.echo(f"missing from the output sandbox  {cell(job.output_sandbox.missing)}")


def _show_description(job: "Job") -> None:
    import msgspec
    import yaml

    click.echo("---")
    click.echo(yaml.safe_dump(msgspec.to_builtins(job.description), sort_keys=False, allow_unicode=True), nl=False)


def _show_rows(rows: "Sequence[Any]", columns: "Sequence[str]") -> None:
    from spinor.terminal import cell, heading

    cells = [[cell(getattr(row, column), column) for column in columns] for row in rows]
    for line in table([heading(column) for column in columns], cells):
        click.echo(line)


@click.command()
@choosing
@click.option("--json", "as_json", is_flag=True, help="Print models as JSON, one a line.")
def history(as_json: bool, **names: Any) -> int:
    """Show every change of a job's state: when, by whom, and why."""
    import msgspec

    from spinor.client import Client
    from spinor.jobs.models import HistoryEntry

    shown = 0

    def one(job_id: int) -> None:
        nonlocal shown
        entries = client.get(f"/api/jobs/{job_id}/history", list[HistoryEntry])
        if as_json:
            for entry in entries:
                click.echo(msgspec.json.encode({"job_id": job_id, **msgspec.to_builtins(entry)}).decode())
            return
        if shown:
            click.echo()
        shown = job_id
        click.echo(f"job {job_id}")
        _show_rows(entries, _HISTORY)

    with Client.from_environment() as client:
        return for_each(client, chosen(**names), one)


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
@choosing
@click.option("-v", "--verbose", is_flag=True, help="Also each computing element, and what excludes it.")
@click.option("--json", "as_json", is_flag=True, help="Print models as JSON, one a line.")
def explain(verbose: bool, as_json: bool, **names: Any) -> int:
    """Say why a job waits, failed or runs where it does, and what to change."""
    from spinor.client import Client
    from spinor.jobs.models import Explanation

    shown = 0

    def one(job_id: int) -> None:
        nonlocal shown
        explanation = client.get(f"/api/jobs/{job_id}/explain", Explanation)
        if as_json:
            show_one(explanation, as_json=True)
            return
        if shown:
            click.echo()
        shown += 1
        _tell(explanation, verbose)

    with Client.from_environment() as client:
        return for_each(client, chosen(**names), one)


def _tell(explanation: "Explanation", verbose: bool) -> None:
    from spinor.terminal import cell, printable

    for sentence in explanation.sentences:
        click.echo(printable(sentence))
    if verbose and explanation.elements:
        click.echo()
        cells = [
            [
                cell(each.computing_element),
                cell(each.site),
                cell(each.excluded_by) if each.excluded_by else "could run it",
            ]
            for each in explanation.elements
        ]
        for line in table(["computing element", "site", "excluded by"], cells):
            click.echo(line)
