"""`spinor job run`: a command runs on some machine as if it ran here."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spinor.jobs.cli.submission import WithCommand
from spinor.terminal import say

if TYPE_CHECKING:
    from spinor.client import Client

_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
# option -> the field of the description.
_FIELDS = {
    "name": "name",
    "job_group": "job_group",
    "cores": "cores",
    "memory": "memory_bytes",
    "disk": "disk_bytes",
    "wall": "wall_s",
    "priority": "priority",
    "gpus": "gpus",
    "gpu_model": "gpu_model",
    "gpu_memory": "gpu_memory_bytes",
    "image": "container_image",
    "platform": "platform",
    "sites": "sites",
    "elements": "computing_elements",
    "tags": "tags",
    "outputs": "output_sandbox",
}


@click.command(cls=WithCommand)
@click.option("--name", help="What lists call it.")
@click.option("--group", "job_group", help="The set that it belongs to.")
@click.option("--cores", type=int, help="Cores.")
@click.option("--memory", metavar="SIZE", help="Memory, such as 2GB.")
@click.option("--disk", metavar="SIZE", help="Disk in its directory.")
@click.option("--wall", metavar="DURATION", help="The longest it may run, such as 90m.")
@click.option("--gpus", type=int, help="GPUs.")
@click.option("--gpu-model", help="Part of the GPU's name.")
@click.option("--gpu-memory", metavar="SIZE", help="Memory of each GPU.")
@click.option("--image", help="A container image that it runs in.")
@click.option("--platform", help="The machine as `uname -m` says.")
@click.option("--site", "sites", multiple=True, help="Only at this site; may be given many times.")
@click.option("--ce", "elements", multiple=True, help="Only on this computing element.")
@click.option("--tag", "tags", multiple=True, help="Only where this tag is offered.")
@click.option("--priority", type=int, help="0 to 9; 9 goes first.")
@click.option("--env", "environment", multiple=True, metavar="NAME=VALUE", help="A variable of its environment.")
@click.option(
    "--input", "inputs", multiple=True, metavar="PATH", help="A local file or directory; LFN:/… of the catalog."
)
@click.option(
    "--output", "outputs", multiple=True, metavar="PATTERN", help="Files that come back, such as 'out/*.dat'."
)
@click.option("--into", type=click.Path(path_type=Path), default=Path(), help="Where to; here unless told.")
@click.option("--only-named", is_flag=True, help="Send the files of --input only, not those that the command names.")
@click.pass_context
def run(ctx: click.Context, /, inputs: tuple[str, ...], into: Path, only_named: bool, **options: Any) -> int:
    """Run a command on some machine as if it ran here: spinor job run -- ./script.sh a b c

    Files here that the command names by a relative path go along. What it writes is shown while it runs, --output
    brings files back, and the exit code is its own. Ctrl-C asks whether to kill it or to leave it running.
    """
    from spinor.client import Client
    from spinor.jobs.cli.descriptions import read_descriptions
    from spinor.jobs.cli.following import follow
    from spinor.jobs.cli.submission import send

    payload: list[str] = ctx.meta.get("spinor.payload") or []
    if not payload:
        raise click.UsageError("Give a command line after `--`, such as: spinor job run -- ./script.sh a b c")
    words, sent = (payload, []) if only_named else localized(payload)
    document, sandbox = _document(words, options), [*sent, *(each for each in inputs if not each.startswith("LFN:"))]
    data = [each.removeprefix("LFN:") for each in inputs if each.startswith("LFN:")]
    document |= ({"input_sandbox": list(dict.fromkeys(sandbox))} if sandbox else {}) | (
        {"input_data": data} if data else {}
    )
    with Client.from_environment() as client:
        answer = send(client, read_descriptions([(document, "", Path())], {}))
        for warning in answer.warnings:
            say(f"warning: {warning}")
        job_id = answer.arrays[0].ids[0]
        say(f"job {job_id}" + (f", with {', '.join(sandbox)}" if sandbox else ""))
        code = follow(client, job_id)
        if code is not None and options["outputs"]:
            _fetch(client, job_id, into)
    return 0 if code is None else code


def _document(words: Sequence[str], options: dict[str, Any]) -> dict[str, Any]:
    # What is typed here is meant as it stands: one job has no parameters to put in.
    plain = [_PLACEHOLDER.sub(r"{{\1}}", word) for word in words]
    found: dict[str, Any] = {"executable": plain[0], "arguments": plain[1:], "name": Path(words[0]).name}
    for option, field in _FIELDS.items():
        value = options[option]
        if value not in (None, ()):
            found[field] = list(value) if isinstance(value, tuple) else value
    environment = {}
    for word in options["environment"]:
        name, sign, value = word.partition("=")
        if not sign or not name:
            raise click.UsageError(f"--env {word!r} is not of the form NAME=VALUE.")
        environment[name] = _PLACEHOLDER.sub(r"{{\1}}", value)
    return found | ({"environment": environment} if environment else {})


def localized(payload: Sequence[str]) -> tuple[list[str], list[str]]:
    """The command line as it is in the job's directory, and the local files that go there with it.

    A sandbox holds each file by its own name: `data/in.txt` here is `in.txt` there.
    """
    words: list[str] = []
    sent: list[str] = []
    for n, word in enumerate(payload):
        name, sign, path = word.rpartition("=")
        if not _goes_along(path, is_program=n == 0):
            words.append(word)
            continue
        sent.append(path)
        there = f"./{Path(path).name}" if n == 0 else Path(path).name
        words.append(f"{name}{sign}{there}")
    return words, list(dict.fromkeys(sent))


def _goes_along(path: str, *, is_program: bool) -> bool:
    """Whether a word is a file here. An absolute path is one of the worker node; so is a program without a slash."""
    if not path or Path(path).is_absolute() or path.startswith("-") or (is_program and "/" not in path):
        return False
    try:
        return Path(path).is_file()
    except OSError:  # A program that is given as text may be longer than any name.
        return False


def _fetch(client: "Client", job_id: int, into: Path) -> None:
    from spinor.errors import NotFound
    from spinor.jobs.cli.packing import unpack
    from spinor.jobs.sandboxes.client import download
    from spinor.terminal import printable

    try:
        archive = download(client, f"/api/jobs/{job_id}/output")
    except NotFound as error:
        say(f"spinor: {error.message}")
        return
    names = unpack(archive, into)
    for name in names:
        say(f"-> {printable(str(into / name))}")
