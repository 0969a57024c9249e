"""`spinor site`, `spinor ce` and `spinor se`: what there is to compute and to store on."""

from collections.abc import Sequence
from typing import Any

import click

from spinor.resources.status.cli import add_commands
from spinor.terminal import output_options


@click.group()
def site() -> None:
    """Sites: places with machines, storage, or both."""


@click.group()
def ce() -> None:
    """Computing elements: the ways to machines."""


@click.group()
def se() -> None:
    """Storage elements: the places for files."""


@site.command("list")
@output_options
def list_sites(as_json: bool, quiet: bool) -> None:
    """List the sites, each with the elements that your VO may use."""
    from spinor.resources.models import Site

    _list("/api/sites", Site, ("name", "computing_elements", "storage_elements"), as_json, quiet)


@ce.command("list")
@output_options
def list_computing_elements(as_json: bool, quiet: bool) -> None:
    """List the computing elements that your VO may use."""
    from spinor.resources.models import PublicComputingElement

    columns = ("name", "site", "plugin", "cores", "memory_bytes", "wall_s", "max_pilots")
    _list("/api/computing-elements", PublicComputingElement, columns, as_json, quiet)


@se.command("list")
@output_options
def list_storage_elements(as_json: bool, quiet: bool) -> None:
    """List the storage elements that your VO may use."""
    from spinor.resources.models import PublicStorageElement

    columns = ("name", "site", "plugin", "root", "read_only", "out_of_use")
    _list("/api/storage-elements", PublicStorageElement, columns, as_json, quiet)


add_commands(site, "site", "site")
add_commands(ce, "ce", "computing element")
add_commands(se, "se", "storage element")


def _list(path: str, model: Any, columns: Sequence[str], as_json: bool, quiet: bool) -> None:
    from spinor.client import Client
    from spinor.terminal import show

    with Client.from_environment() as client:
        rows: list[Any] = client.get(path, list[model])
    show(rows, columns, id_field="name", as_json=as_json, quiet=quiet)
