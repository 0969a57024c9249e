"""Commands that move bytes or say where they are; they are verbs of `spinor file`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spinor.terminal import output_options

if TYPE_CHECKING:
    from spinor.storage.models import FileReplicas


@click.command()
@click.argument("locals_", nargs=-1, required=True, metavar="LOCAL...")
@click.argument("target", metavar="LFN")
@click.option("--se", help="The storage element; not needed when your VO has only one to write to.")
@click.option("--guid", help="A UUID for the file, of which there is one then; a new one if none is given.")
@output_options
def put(locals_: tuple[str, ...], target: str, se: str | None, guid: str | None, as_json: bool, quiet: bool) -> None:
    """Copy local files to a storage element, and register them as LFN, or into LFN/ if it ends with a slash.

    Each file is registered with the checksums of the bytes that went, or leaves nothing behind.
    """
    from spinor.client import Client
    from spinor.storage.putting import put_files
    from spinor.terminal import Progress, printable, read_words, say, show

    files = [Path(word) for word in read_words(locals_)]
    for file in files:
        if file.is_dir():
            raise click.UsageError(f"{file} is a directory; `spinor file register-directory` publishes trees.")
    into = target if target.endswith("/") else target + "/" if len(files) > 1 else ""
    lfns = [into + file.name if into else target for file in files]
    if guid is not None and len(files) != 1:
        raise click.UsageError("--guid is one file's; put one file.")
    total = sum(file.stat().st_size for file in files)
    with Client.from_environment() as client:
        with Progress("put", total, "B") as progress:
            done = put_files(client, list(zip(files, lfns, strict=True)), se, guid=guid, progress=progress.add)
    for registered in done:
        if registered.outcome == "already":
            say(f"{printable(registered.lfn)} is on that storage element already, with the same content")
    if as_json or quiet:
        show(done, [], id_field="lfn", as_json=as_json, quiet=quiet)


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="LFN... [TARGET]")
@output_options
def get(words: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Copy files to TARGET (a name, or a directory; the current one if only one LFN is given), and verify them.

    - reads LFNs from stdin.
    """
    from spinor.client import Client
    from spinor.storage.models import FileReplicas
    from spinor.storage.transfer import fetch_any
    from spinor.terminal import Progress, printable, read_words

    sources, target = (words[:-1], words[-1]) if len(words) > 1 else (words, ".")
    lfns = read_words(sources)
    into = Path(target)
    as_directory = len(lfns) > 1 or target.endswith("/") or into.is_dir()
    with Client.from_environment() as client:
        files = client.post("/api/files/replicas", {"lfns": lfns}, list[FileReplicas])
    locals_ = [into / file.lfn.rpartition("/")[2] if as_directory else into for file in files]
    _refuse_clashes(files, locals_)
    with Progress("get", sum(file.size_bytes for file in files), "B") as progress:
        for file, local in zip(files, locals_, strict=True):
            local.parent.mkdir(parents=True, exist_ok=True)
            fetch_any(file, local, progress.add)
            if as_json:
                _print_fetched(file, local)
            elif quiet:
                click.echo(printable(os.fspath(local)))


def _refuse_clashes(files: list[FileReplicas], locals_: list[Path]) -> None:
    seen: dict[Path, str] = {}
    for file, local in zip(files, locals_, strict=True):
        if seen.setdefault(local, file.lfn) != file.lfn:
            raise click.UsageError(f"{seen[local]} and {file.lfn} would both become {local}; get them apart.")


def _print_fetched(file: FileReplicas, local: Path) -> None:
    import msgspec

    click.echo(
        msgspec.json.encode({"lfn": file.lfn, "local": os.fspath(local), "size_bytes": file.size_bytes}).decode()
    )


@click.command()
@click.argument("lfns", nargs=-1, required=True)
@click.option("-a", "--all", "all_statuses", is_flag=True, help="Also replicas that cannot be read now.")
@output_options
def replicas(lfns: tuple[str, ...], all_statuses: bool, as_json: bool, quiet: bool) -> None:
    """Show the addresses of the bytes of LFNS (- reads them from stdin); -q prints the addresses alone."""
    from spinor.client import Client
    from spinor.storage.models import FileReplicas
    from spinor.terminal import cell, printable, read_words, say, show, table

    with Client.from_environment() as client:
        body = {"lfns": read_words(lfns), "all_statuses": all_statuses}
        found = client.post("/api/files/replicas", body, list[FileReplicas])
    if as_json:
        show(found, [], id_field="lfn", as_json=True)
    elif quiet:
        for file in found:
            for replica in file.replicas:
                click.echo(replica.url)
    else:
        rows = [
            [printable(file.lfn), cell(file.size_bytes, "size_bytes"), replica.se, replica.status, replica.url]
            for file in found
            for replica in file.replicas
        ]
        for line in table(["lfn", "size", "storage element", "status", "address"], rows):
            click.echo(line)
        for why in sorted({why for file in found for why in file.out_of_use}):
            say(f"Not everything can be read now: {printable(why)}.")
