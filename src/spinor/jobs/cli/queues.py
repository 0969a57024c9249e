"""`spinor job queues`: the task queues, and what their jobs want."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from spinor.terminal import output_options

if TYPE_CHECKING:
    from spinor.client import Client
    from spinor.jobs.models import Requirements, TaskQueue

_COLUMNS = (
    "task_queue_id",
    "owner",
    "group",
    "waiting",
    "running",
    "priority",
    "oldest",
    "shares",
    "core hours",
    "wants",
)
_WHOSE = frozenset({"vo_id", "owner_id", "group_id"})


@click.command()
@click.option("--owner", default="", help="Only those of this user.")
@click.option("--mine", is_flag=True, help="Only your own.")
@click.option("--group", default="", help="Only those of this group.")
@click.option("--site", default="", help="Only those whose jobs may run at this site.")
@click.option("--job", "job_id", type=click.IntRange(min=1), help="The one of this job, also when nothing waits in it.")
@output_options
def queues(owner: str, mine: bool, group: str, site: str, job_id: int | None, as_json: bool, quiet: bool) -> None:
    """List the task queues: jobs of equal requirements, which wait together.

    Of each its owner and group with their shares, how many jobs wait and run, the highest priority, the oldest job,
    what the owner has used of late, and what the jobs want.
    """
    from spinor.client import Client
    from spinor.identity.models import WhoAmI
    from spinor.terminal import cell, heading, show, table

    with Client.from_environment() as client:
        whose = client.get("/api/auth/whoami", WhoAmI).user if mine else owner
        asked = {"owner": whose, "group": group, "site": site, "job_id": job_id}
        rows = read_queues(client, {name: value for name, value in asked.items() if value})
        if as_json or quiet:
            show(rows, (), id_field="task_queue_id", as_json=as_json, quiet=quiet)
            return
        cells = [
            [
                cell(row.task_queue_id), cell(row.owner), cell(row.group), f"{row.waiting:,}", f"{row.running:,}",
                cell(row.priority), cell(row.oldest_at, "oldest_at"), f"{row.group_share:g} x {row.user_share:g}",
                f"{row.core_s / 3600:,.1f}", cell(wanted(row.wants)),
            ]
            for row in rows
        ]  # fmt: skip
    for line in table([heading(column) for column in _COLUMNS], cells):
        click.echo(line)


def read_queues(client: "Client", asked: dict[str, Any]) -> "Iterator[TaskQueue]":
    """All of them, page by page."""
    from spinor.jobs.models import TaskQueuePage

    after: int | None = 0
    while after is not None:
        page = client.get("/api/task-queues", TaskQueuePage, query={**asked, "after": after, "limit": 1000})
        yield from page.rows
        after = page.next


def wanted(wants: "Requirements") -> str:
    """What differs from the least, in the words of a description."""
    from msgspec.structs import fields

    from spinor.terminal import cell

    parts = []
    for field in fields(wants):
        value = getattr(wants, field.name)
        if field.name in _WHOSE or value in ("", [], 0, False, None) or value == field.default:
            continue
        if field.name == "max_cores" and value == wants.cores:
            continue
        text = ",".join(value) if isinstance(value, list) else cell(value, field.name)
        parts.append(f"{field.name}={text}")
    return " ".join(parts)
