"""Commands on provenance: from which files a file was made."""

from typing import Any

import click

from spinor.terminal import output_options

_depth = click.option("--depth", type=click.IntRange(min=1), help="Look so many steps far; all if not given.")


@click.command()
@click.argument("lfns", nargs=-1, required=True)
@_depth
@output_options
def ancestors(lfns: tuple[str, ...], depth: int | None, as_json: bool, quiet: bool) -> None:
    """Show from which files LFNS (- reads them from stdin) were made, the nearest first."""
    from spinor.catalog.provenance.models import FileAncestors

    _show("ancestors", FileAncestors, lfns, depth, as_json, quiet)


@click.command()
@click.argument("lfns", nargs=-1, required=True)
@_depth
@output_options
def descendants(lfns: tuple[str, ...], depth: int | None, as_json: bool, quiet: bool) -> None:
    """Show which files were made from LFNS (- reads them from stdin), the nearest first."""
    from spinor.catalog.provenance.models import FileDescendants

    _show("descendants", FileDescendants, lfns, depth, as_json, quiet)


def _show(noun: str, model: Any, lfns: tuple[str, ...], depth: int | None, as_json: bool, quiet: bool) -> None:
    from spinor.client import Client
    from spinor.terminal import read_words

    body = {"lfns": read_words(lfns), "depth": depth}
    with Client.from_environment() as client:
        found = client.post(f"/api/files/{noun}", body, list[model])
    _print(found, noun, as_json, quiet)


def _print(found: list[Any], noun: str, as_json: bool, quiet: bool) -> None:
    from spinor import terminal

    if as_json:
        terminal.show(found, [], id_field="lfn", as_json=True)
    elif quiet:
        for lfn in dict.fromkeys(relative.lfn for row in found for relative in getattr(row, noun)):
            click.echo(terminal.printable(lfn))
    else:
        rows = [
            [terminal.cell(row.lfn), str(relative.depth), terminal.cell(relative.lfn)]
            for row in found
            for relative in getattr(row, noun)
        ]
        for line in terminal.table(["file", "depth", noun.removesuffix("s")], rows):
            click.echo(line)


@click.command("set-ancestors")
@click.argument("lfn")
@click.argument("lfns", nargs=-1, metavar="ANCESTOR...")
@click.option("--replace", is_flag=True, help="Let them be all direct ancestors that LFN has; with none, it has none.")
@output_options
def set_ancestors(lfn: str, lfns: tuple[str, ...], replace: bool, as_json: bool, quiet: bool) -> None:
    """Say that LFN was made from ANCESTORs (- reads them from stdin), besides those that it has."""
    from spinor.catalog.provenance.models import FileAncestors
    from spinor.client import Client
    from spinor.terminal import read_words

    wanted = read_words(lfns)
    if not wanted and not replace:
        raise click.UsageError("Give at least one ancestor, or --replace to take all away.")
    body = {"lfn": lfn, "ancestors": wanted, "replace": replace}
    with Client.from_environment() as client:
        found = client.post("/api/files/ancestors/set", body, list[FileAncestors])
    if as_json or quiet:
        _print(found, "ancestors", as_json, quiet)
