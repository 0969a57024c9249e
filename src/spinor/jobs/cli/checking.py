"""`spinor job submit --dry-run`, and the schema of descriptions."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spinor.terminal import printable, say

if TYPE_CHECKING:
    from spinor.client import Client
    from spinor.jobs.models import CheckedArray, JobSpec


def check(client: "Client", described: "Sequence[tuple[JobSpec, Path]]", *, as_json: bool) -> None:
    """Show what submitting these would store. Local files are packed, to see that they are there, and not sent."""
    import msgspec

    from spinor.jobs.cli.packing import packed_sizes
    from spinor.jobs.models import Checked, SubmitJobs

    sizes = packed_sizes(described)
    specs = [msgspec.structs.replace(spec, input_sandbox=[]) for spec, _ in described]
    checked = client.post("/api/jobs/check", SubmitJobs(specs=specs), Checked)
    say("Nothing was submitted.")
    for array, size in zip(checked.arrays, sizes, strict=True):
        if as_json:
            click.echo(msgspec.json.encode(array).decode())
        else:
            _show(array, size)
    for warning in checked.warnings:
        say(f"warning: {warning}")


def _show(array: "CheckedArray", sandbox_bytes: int) -> None:
    import msgspec
    import yaml

    def told(struct: Any) -> str:
        text = yaml.safe_dump(msgspec.to_builtins(struct), sort_keys=False, allow_unicode=True, width=100)
        return "".join(f"  {printable(line)}\n" for line in text.splitlines())

    jobs = "1 job" if array.size == 1 else f"{array.size:,} jobs"
    click.echo(f"{printable(array.name)}: {jobs}")
    click.echo("description" + (f", with parameters {', '.join(array.parameters)}:" if array.parameters else ":"))
    click.echo(told(array.description), nl=False)
    if array.parameters:
        click.echo("its first job:")
        click.echo(told(array.first), nl=False)
    if sandbox_bytes:
        click.echo(f"input sandbox: {sandbox_bytes:,} bytes")
    click.echo("task queue:")
    click.echo(told(array.requirements), nl=False)
    click.echo("computing elements:")
    for element in array.elements:
        why = "; ".join(element.excluded_by) or "could run it"
        click.echo(f"  {printable(element.computing_element)} ({printable(element.site)}): {printable(why)}")
    if not array.elements:
        click.echo("  none: your VO has no computing element")


@click.command()
def schema() -> None:
    """Print the JSON Schema of job descriptions, for editors and other tools."""
    import msgspec

    from spinor.jobs.description.schema import schema as published

    click.echo(msgspec.json.format(msgspec.json.encode(published()), indent=2).decode())
