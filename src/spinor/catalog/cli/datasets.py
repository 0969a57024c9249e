"""Commands on datasets: queries under a name, and snapshots of what they found."""

import sys
from typing import Any

import click

from spinor.terminal import output_options

_COLUMNS = ["name", "state", "version", "files", "size_bytes", "owner", "annotation"]
_VERSION_COLUMNS = ["name", "version", "frozen_at", "frozen_by", "files", "size_bytes", "annotation"]
_names = click.argument("names", nargs=-1, required=True)
_annotation = click.option("--annotation", default="", help="What is to be said of it.")


@click.group()
def dataset() -> None:
    """Datasets: a query under a name, frozen as versions when its files must not change any more."""


def _post(verb: str, body: Any, model: Any) -> Any:
    from spinor.client import Client

    with Client.from_environment() as client:
        return client.post(f"/api/datasets{verb}", body, model)


def _words(names: tuple[str, ...]) -> dict[str, Any]:
    from spinor.terminal import read_words

    return {"names": read_words(names)}


def _show(rows: Any, columns: list[str], as_json: bool, quiet: bool) -> None:
    from spinor.terminal import show

    show(rows, columns, id_field="name", as_json=as_json, quiet=quiet)


@dataset.command()
@click.argument("name")
@click.argument("path")
@click.argument("query", nargs=-1)
@_annotation
@output_options
def create(name: str, path: str, query: tuple[str, ...], annotation: str, as_json: bool, quiet: bool) -> None:
    """Let NAME be the files below PATH that QUERY names (see `spinor file find`), whenever one looks."""
    from spinor.catalog.datasets.models import Dataset

    body = {"name": name, "path": path, "query": " ".join(query), "annotation": annotation}
    _show(_post("", body, list[Dataset]), _COLUMNS, as_json, quiet)


@dataset.command("list")
@click.argument("beginning", default="")
@output_options
def list_datasets(beginning: str, as_json: bool, quiet: bool) -> None:
    """List the datasets whose names begin with BEGINNING."""
    from spinor.catalog.datasets.models import Dataset
    from spinor.client import Client

    with Client.from_environment() as client:
        _show(client.pages("/api/datasets/search", {"beginning": beginning}, Dataset), _COLUMNS, as_json, quiet)


@dataset.command()
@_names
@click.option("-l", "--long", is_flag=True, help="Show everything, a field a line.")
@output_options
def show(names: tuple[str, ...], long: bool, as_json: bool, quiet: bool) -> None:
    """Show what is noted of datasets."""
    from spinor.catalog.datasets.models import Dataset
    from spinor.terminal import show_one

    found = _post("/show", _words(names), list[Dataset])
    if not long or as_json or quiet:
        _show(found, _COLUMNS, as_json, quiet)
        return
    for number, row in enumerate(found):
        if number:
            click.echo()
        show_one(row)


@dataset.command()
@click.argument("name")
@click.option("--version", type=click.IntRange(min=1), help="Those of this version.")
@click.option("--json", "as_json", is_flag=True, help="Print files as JSON, one a line.")
def files(name: str, version: int | None, as_json: bool) -> None:
    """Print the LFNs of a dataset, or of one of its versions. A frozen dataset has those of its newest version."""
    import msgspec

    from spinor.catalog.cli.dumping import copy_bytes
    from spinor.catalog.datasets.models import DatasetFile
    from spinor.client import Client
    from spinor.terminal import printable, say

    body = {"name": name, "version": version}
    decode = msgspec.json.Decoder(DatasetFile).decode
    gone = 0
    with Client.from_environment() as client, client.stream("/api/datasets/files", body=body) as lines:
        if as_json:
            copy_bytes(lines, sys.stdout.buffer)
            sys.stdout.buffer.flush()
            return
        for line in lines:
            file = decode(line)
            gone += not file.is_there
            click.echo(printable(file.lfn))
    if gone:
        say(f"{gone:,} of these files are no longer there")


@dataset.command()
@_names
@output_options
def check(names: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Compare what the queries find now with what was noted. -q prints the names of datasets that changed."""
    from spinor.catalog.datasets.models import DatasetCheck

    found = _post("/check", _words(names), list[DatasetCheck])
    if quiet:
        found = [row for row in found if row.changed]
    columns = ["name", "state", "changed", "files", "files_now", "size_bytes", "size_bytes_now", "gone", "checked_at"]
    _show(found, columns, as_json, quiet)


@dataset.command()
@_names
@output_options
def update(names: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Note what the queries find now."""
    from spinor.catalog.datasets.models import Dataset

    _show(_post("/update", _words(names), list[Dataset]), _COLUMNS, as_json, quiet)


@dataset.command()
@_names
@_annotation
@output_options
def freeze(names: tuple[str, ...], annotation: str, as_json: bool, quiet: bool) -> None:
    """Keep what the queries find now, as new versions that never change."""
    from spinor.catalog.datasets.models import DatasetVersion

    body = {**_words(names), "annotation": annotation}
    _show(_post("/freeze", body, list[DatasetVersion]), _VERSION_COLUMNS, as_json, quiet)


@dataset.command()
@_names
@output_options
def versions(names: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """List the versions of datasets, the oldest first."""
    from spinor.catalog.datasets.models import DatasetVersion

    _show(_post("/versions", _words(names), list[DatasetVersion]), _VERSION_COLUMNS, as_json, quiet)


@dataset.command()
@_names
@output_options
def release(names: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Let frozen datasets be what their queries find again. Versions stay."""
    from spinor.catalog.datasets.models import Dataset

    _show(_post("/release", _words(names), list[Dataset]), _COLUMNS, as_json, quiet)


@dataset.command()
@click.argument("name")
@click.argument("text")
def annotate(name: str, text: str) -> None:
    """Say TEXT of a dataset; an empty one takes back what was said."""
    from spinor.catalog.datasets.models import Dataset

    _post("/annotate", {"names": [name], "annotation": text}, list[Dataset])


@dataset.command()
@click.argument("name")
@click.argument("to")
def rename(name: str, to: str) -> None:
    """Give the dataset NAME the name TO."""
    from spinor.catalog.datasets.models import Dataset

    _post("/rename", {"name": name, "to": to}, Dataset)


@dataset.command()
@_names
def rm(names: tuple[str, ...]) -> None:
    """Forget datasets with their versions: all of them, or none. Their files stay."""
    _post("/remove", _words(names), None)
