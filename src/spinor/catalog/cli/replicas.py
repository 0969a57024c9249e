"""Commands on single replicas, and on what single files are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from spinor.terminal import output_options

_STATUSES = ("available", "suspect", "unavailable")
_REFUSED_EXIT = {"unknown-replica": 3, "replica-read-only": 4, "last-replica": 5}


@click.command()
@click.argument("paths", nargs=-1, required=True)
@output_options
def exists(paths: tuple[str, ...], as_json: bool, quiet: bool) -> int:
    """Tell what PATHS are: file, directory or nothing (- reads them from stdin); -q prints those that are there.

    The exit code is 3 when any is not there.
    """
    from spinor.catalog.replicas.models import Existing
    from spinor.client import Client
    from spinor.terminal import read_words, show

    with Client.from_environment() as client:
        found = client.post("/api/files/exists", {"paths": read_words(paths)}, list[Existing])
    rows = [row for row in found if row.kind is not None] if quiet else found
    show(rows, ["kind", "path"], id_field="path", as_json=as_json, quiet=quiet)
    return 0 if all(row.kind is not None for row in found) else 3


@click.command()
@click.argument("guids", nargs=-1, required=True)
@output_options
def guid(guids: tuple[str, ...], as_json: bool, quiet: bool) -> int:
    """Find the files that have GUIDS (- reads them from stdin); -q prints LFNs alone.

    The exit code is 3 when any belongs to no file that you may read.
    """
    from spinor.catalog.replicas.models import GuidOwner
    from spinor.client import Client
    from spinor.terminal import read_words, show

    with Client.from_environment() as client:
        found = client.post("/api/files/guids", {"guids": read_words(guids)}, list[GuidOwner])
    rows = [row for row in found if row.lfn is not None] if quiet else found
    show(rows, ["guid", "lfn"], id_field="lfn", as_json=as_json, quiet=quiet)
    return 0 if all(row.lfn is not None for row in found) else 3


@click.command("set-status")
@click.argument("status", type=click.Choice(_STATUSES))
@click.argument("lfns", nargs=-1, required=True)
def set_status(status: str, lfns: tuple[str, ...]) -> None:
    """Say that LFNS (- reads them from stdin) may be used, are suspect, or may not be used: all of them, or none."""
    from spinor.terminal import read_words

    _change("/api/files/status", {"paths": read_words(lfns), "status": status}, "files")


@click.group()
def replica() -> None:
    """Single replicas: the bytes of a file on one storage element.

    \b
    spinor file replica add /vo/data/f1.raw --se tape
    spinor file replica rm /vo/data/f1.raw --se disk
    """


@replica.command()
@click.argument("lfns", nargs=-1, required=True)
@click.option("--se", required=True, help="The storage element that has the bytes too.")
@click.option("--pfn", help="Where the bytes are, relative to its root, if not at the directory's place; for one LFN.")
@output_options
def add(lfns: tuple[str, ...], se: str, pfn: str | None, as_json: bool, quiet: bool) -> None:
    """Tell that LFNS (- reads them from stdin) have bytes on one more storage element: all of it, or nothing."""
    from spinor.catalog.models import Registered
    from spinor.client import Client
    from spinor.terminal import read_words, say, show

    words = read_words(lfns)
    if pfn is not None and len(words) != 1:
        raise click.UsageError("--pfn is the place of one file; give one LFN.")
    body = [{"lfn": lfn, "se": se} | ({"pfn": pfn} if pfn is not None else {}) for lfn in words]
    with Client.from_environment() as client:
        done = client.post("/api/files/replicas/add", body, list[Registered])
    if as_json or quiet:
        show(done, [], id_field="lfn", as_json=as_json, quiet=quiet)
    else:
        say(f"{sum(row.outcome != 'already' for row in done):,} replicas added, {len(done):,} in all")


@replica.command()
@click.argument("lfns", nargs=-1, required=True)
@click.option("--se", required=True, help="The storage element whose replicas go.")
@click.option("--catalog-only", is_flag=True, help="Keep the bytes on the storage.")
@click.option("--last", is_flag=True, help="Also where it is the last replica of the file.")
def rm(lfns: tuple[str, ...], se: str, catalog_only: bool, last: bool) -> int:
    """Remove the replicas of LFNS (- reads them from stdin) on a storage element; their bytes go in the background."""
    from spinor.catalog.models import Outcome
    from spinor.client import Client
    from spinor.terminal import printable, say

    body = {"replicas": _names(lfns, se), "bytes": "keep" if catalog_only else "delete", "last": last}
    with Client.from_environment() as client:
        outcome = client.post("/api/files/replicas/remove", body, Outcome)
    say(f"{len(outcome.done):,} replicas removed")
    for refusal in outcome.refused:
        say(f"spinor: {printable(refusal.reason)}")
    return _REFUSED_EXIT.get(outcome.refused[0].code, 1) if outcome.refused else 0


@replica.command()
@click.argument("status", type=click.Choice(_STATUSES))
@click.argument("lfns", nargs=-1, required=True)
@click.option("--se", required=True, help="The storage element whose replicas are meant.")
def status(status: str, lfns: tuple[str, ...], se: str) -> None:
    """Say that the replicas of LFNS (- reads them from stdin) can be read, are suspect, or cannot be read now."""
    _change("/api/files/replicas/status", {"replicas": _names(lfns, se), "status": status}, "replicas")


@replica.command()
@click.argument("lfns", nargs=-1, required=True)
@click.option("--se", required=True, help="The storage element where the catalog believes the bytes to be.")
@click.option("--to", required=True, help="The storage element where they are now, under the same PFN.")
def host(lfns: tuple[str, ...], se: str, to: str) -> None:
    """Say that bytes of LFNS (- reads them from stdin) have moved to another storage element: all of it, or nothing."""
    _change("/api/files/replicas/host", {"replicas": _names(lfns, se), "to": to}, "replicas")


def _names(lfns: Sequence[str], se: str) -> list[dict[str, str]]:
    from spinor.terminal import read_words

    return [{"lfn": lfn, "se": se} for lfn in read_words(lfns)]


def _change(address: str, body: dict[str, Any], noun: str) -> None:
    from spinor.catalog.replicas.models import Changed
    from spinor.client import Client
    from spinor.terminal import say

    with Client.from_environment() as client:
        say(f"{client.post(address, body, Changed).changed:,} {noun} changed")
