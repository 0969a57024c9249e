"""`spinor job submit`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from spinor.terminal import output_options, say

if TYPE_CHECKING:
    from spinor.client import Client
    from spinor.jobs.models import JobSpec, Submitted, SubmittedArray

F = TypeVar("F", bound=Callable[..., Any])
_SINGLE = {"name", "cores", "priority"}
_SIZES = {"memory": "memory_bytes", "disk": "disk_bytes", "wall": "wall_s"}
_LISTS = {"sites", "tags", "input_sandbox", "output_sandbox"}


_DESCRIPTION_OPTIONS = (
    click.option("--name", help="What lists call it."),
    click.option("--cores", type=int, help="Cores of one job."),
    click.option("--memory", metavar="SIZE", help="Memory of one job, such as 2GB."),
    click.option("--disk", metavar="SIZE", help="Disk of one job."),
    click.option("--wall", metavar="DURATION", help="The longest it may run, such as 90m."),
    click.option("--site", "sites", multiple=True, help="Only at this site; may be given many times."),
    click.option("--tag", "tags", multiple=True, help="Only where this tag is offered."),
    click.option("--priority", type=int, help="0 to 9; 9 goes first."),
    click.option("--env", "environment", multiple=True, metavar="NAME=VALUE", help="A variable of its environment."),
    click.option("--input-sandbox", multiple=True, metavar="PATH", help="A local file or directory that goes with it."),
    click.option("--input-data", multiple=True, metavar="LFN", help="A file that it reads; - reads LFNs from stdin."),
    click.option("--output-sandbox", multiple=True, metavar="PATTERN", help="Files that come back with `job output`."),
    click.option(
        "--output-data", multiple=True, metavar="PATH=LFN@SE", help="A file that it leaves on a storage element."
    ),
)


def description_options(command: F) -> F:
    """The options that stand for fields of a job description; `changes` reads them."""
    for option in reversed(_DESCRIPTION_OPTIONS):
        command = option(command)
    return command


class WithCommand(click.Command):
    """Whatever follows `--` is the payload's command line, and none of ours."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            place = args.index("--")
            ctx.meta["spinor.payload"] = args[place + 1 :]
            args = args[:place]
        return super().parse_args(ctx, args)


@click.command(cls=WithCommand)
@click.argument("files", nargs=-1, metavar="[FILE]... | -- COMMAND [ARGUMENT]...")
@description_options
@click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE", help="Any field: --set retries.site=5.")
@click.option("--table", metavar="FILE", help="Parameters: CSV, TSV, JSON lines or Parquet, a row for each job.")
@click.option("--inputs", metavar="FILE", help="Inputs of a CWL tool; each document in it makes one job.")
@click.option("--dry-run", is_flag=True, help="Check everything, show what would be submitted, and store nothing.")
@output_options
@click.pass_context
def submit(ctx: click.Context, /, files: tuple[str, ...], as_json: bool, quiet: bool, **options: Any) -> None:
    """Submit jobs: descriptions in YAML, JSON, JDL or CWL (- is stdin), or a command line after `--`.

    Options replace what the descriptions say. All jobs are accepted, or none.

    \b
    spinor job submit spectra.yaml --table runs.csv --dry-run
    spinor job submit --cores 2 -- python3 fit.py --run 101
    """
    import tempfile

    from spinor.client import Client

    dry_run = options.pop("dry_run")
    with tempfile.TemporaryDirectory(prefix="spinor-submit-") as scratch:
        described, warnings = _described(ctx, files, options, Path(scratch))
        for warning in warnings:
            say(f"warning: {warning}")
        with Client.from_environment() as client:
            if dry_run:
                from spinor.jobs.cli.checking import check

                check(client, described, as_json=as_json)
                return
            answer = send(client, described)
    _report(answer.arrays, as_json, quiet)
    for warning in answer.warnings:
        say(f"warning: {warning}")


def _described(
    ctx: click.Context, files: tuple[str, ...], options: dict[str, Any], scratch: Path
) -> "tuple[Sequence[tuple[JobSpec, Path]], list[str]]":
    """What is to be submitted, and what was noticed while it was read."""
    from spinor.jobs.cli.descriptions import Reading, documents, read_descriptions

    payload: list[str] | None = ctx.meta.get("spinor.payload")
    if payload is not None and (files or not payload):
        raise click.UsageError("Give description files, or one command line after `--`.")
    if payload is None and not files:
        raise click.UsageError("Give a description file, - for stdin, or a command line after `--`.")
    settings = [_pair(word, "=", "--set", "FIELD=VALUE") for word in options.pop("settings")]
    reading = Reading(
        home=_home, inputs=options.pop("inputs"), scratch=scratch, settings=settings,
        table=options.pop("table"),
    )  # fmt: skip
    wanted = changes(options)
    if payload is not None:
        given = [({"executable": payload[0], "arguments": payload[1:]}, "", Path())]
        return read_descriptions(given, wanted, reading), reading.warnings
    return read_descriptions(documents(files, reading), wanted, reading), reading.warnings


def _home() -> str:
    """Where DIRAC puts output files that have no LFN of their own."""
    from spinor.client import Client

    with Client.from_environment() as client:
        who = client.get("/api/auth/whoami", dict)
    return f"/{who['vo']}/user/{who['user'][:1]}/{who['user']}"


def send(client: "Client", described: "Sequence[tuple[JobSpec, Path]]") -> "Submitted":
    """Submit descriptions, with the local files that they name."""
    import uuid

    from spinor.jobs.cli.packing import with_sandboxes
    from spinor.jobs.models import SubmitJobs, Submitted

    specs: list[JobSpec] = with_sandboxes(client, described)
    # The client repeats a call that got no answer; the key makes the repeat harmless.
    key = {"Idempotency-Key": uuid.uuid4().hex}
    return client.post("/api/jobs", SubmitJobs(specs=specs), Submitted, key)


def changes(options: dict[str, Any]) -> dict[str, Any]:
    """The fields that the options set."""
    from spinor.terminal import read_words

    found: dict[str, Any] = {name: options[name] for name in _SINGLE if options[name] is not None}
    found |= {field: options[name] for name, field in _SIZES.items() if options[name] is not None}
    found |= {name: list(options[name]) for name in _LISTS if options[name]}
    if options["input_data"]:
        found["input_data"] = read_words(options["input_data"])
    if options["environment"]:
        found["environment"] = dict(_pair(word, "=", "--env", "NAME=VALUE") for word in options["environment"])
    if options["output_data"]:
        found["output_data"] = [_output(word) for word in options["output_data"]]
    return found


def _output(word: str) -> dict[str, str]:
    path, rest = _pair(word, "=", "--output-data", "PATH=LFN@SE")
    lfn, at, se = rest.rpartition("@")
    if not at or not lfn or not se:
        raise click.UsageError(f"--output-data {word!r} is not of the form PATH=LFN@SE.")
    return {"path": path, "lfn": lfn, "se": se}


def _pair(word: str, sign: str, option: str, form: str) -> tuple[str, str]:
    left, found, right = word.partition(sign)
    if not found or not left:
        raise click.UsageError(f"{option} {word!r} is not of the form {form}.")
    return left, right


def _report(arrays: "Sequence[SubmittedArray]", as_json: bool, quiet: bool) -> None:
    import msgspec

    for array in arrays:
        if as_json:
            click.echo(msgspec.json.encode(array).decode())
        elif quiet:
            click.echo("\n".join(map(str, array.ids)))
        elif array.size == 1:
            click.echo(f"Submitted job {array.ids[0]}.")
        else:
            ranges = ", ".join(f"{ids.first}-{ids.last}" for ids in array.job_ids)
            click.echo(f"Submitted array {array.array_id}: {array.size:,} jobs, {ranges}.")
