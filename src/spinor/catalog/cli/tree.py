"""`spinor file register-directory`: publish what a directory tree holds."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from spinor.catalog.cli.scanning import Batch, Scan
    from spinor.catalog.cli.summing import Tally
    from spinor.client import Client
    from spinor.resources.models import PublicStorageElement


@click.command("register-directory")
@click.argument("tree", metavar="PATH")
@click.argument("lfn_directory", metavar="LFN_DIR")
@click.option("--se", required=True, help="The storage element on which the tree lies.")
@click.option(
    "--checksum", type=click.Choice(["adler32", "sha256", "none"]), default="none", help="Read each file too."
)
@click.option("--jobs", type=click.IntRange(1, 64), default=min(8, 2 * (os.cpu_count() or 1)), help="Scanning threads.")
@click.option("--exclude", multiple=True, help="Pass over names like this (*.tmp); may be given many times.")
@click.option("--report", type=click.Path(dir_okay=False), help="Write what was refused, differs or is missing here.")
@click.option("--json", "as_json", is_flag=True, help="Print the same and the sums as JSON, one a line, sums last.")
def register_directory(tree: str, lfn_directory: str, se: str, as_json: bool, **options: Any) -> int:
    """Register the files below PATH, where they lie, as LFN_DIR/...; nothing is copied or moved.

    PATH is a directory of this machine below the storage element's root, or a path relative to that root. Running it
    again registers what is new, and reports what differs and what is in the catalog but no longer here. Symbolic links
    and unreadable files are refused one by one. The exit code is 1 when anything was refused, differs or is missing.
    """
    from spinor.catalog.cli.scanning import Scan
    from spinor.catalog.cli.summing import Tally
    from spinor.client import Client
    from spinor.terminal import Progress

    with Client.from_environment() as client:
        root, prefix = _located(tree, _element(client, se))
        where = {"directory": lfn_directory.rstrip("/"), "se": se, "prefix": prefix}
        # Asked first, so that a wrong directory or storage element costs no scan.
        client.request("POST", "/api/files/register-batch", _nothing(), query=where)
        with Tally(where, root, options["report"], as_json) as tally:
            scan = Scan(
                root, checksum=options["checksum"], jobs=options["jobs"], exclude=options["exclude"],
                refuse=tally.refuse_local,
            )  # fmt: skip
            with Progress("register", unit="files") as progress:
                if sys.stderr.isatty():
                    # Counted beside the scan, so that the bar knows how much is left.
                    threading.Thread(target=_count, args=(scan, progress), name="count", daemon=True).start()
                _send(scan, where, tally, progress)
            tally.find_missing(client)
            return tally.finish()


def _element(client: Any, name: str) -> PublicStorageElement:
    from spinor.errors import NotFound
    from spinor.resources.models import PublicStorageElement

    elements: list[PublicStorageElement] = client.get("/api/storage-elements", list[PublicStorageElement])
    for element in elements:
        if element.name == name:
            return element
    known = ", ".join(element.name for element in elements) or "none"
    raise NotFound(f"There is no storage element {name!r} for your VO; there are: {known}.")


def _located(tree: str, element: PublicStorageElement) -> tuple[str, str]:
    """The tree's real path on this machine, and relative to the storage element's root."""
    from spinor.errors import BadInput, NotFound

    if not element.root.startswith("/"):
        raise BadInput(f"The root of {element.name} is {element.root}, no directory of this machine to scan.")
    root = Path(element.root).resolve()
    given = Path(tree)
    candidates = [given, root / given] if not given.is_absolute() else [given]
    present = [path.resolve() for path in candidates if path.is_dir()]
    for path in present:
        if path.is_relative_to(root):
            relative = path.relative_to(root).as_posix()
            return os.fspath(path), "" if relative == "." else relative
    if not present:
        raise NotFound(f"There is no directory {tree} on this machine.")
    raise BadInput(
        f"{tree} is not below {root}, the root of {element.name}: its files would have no address there. Move the tree "
        f"below that root, or add a storage element whose root is {present[0]} (`spinor config`)."
    )


def _count(scan: Scan, progress: Any) -> None:
    from spinor.catalog.cli.scanning import count_files

    progress.total = count_files(scan.root, scan.exclude, scan.stop) or None


def _nothing() -> bytes:
    from spinor.catalog.cli.scanning import Chunk, encoded

    return encoded([Chunk("")])


def _send(scan: Scan, where: dict[str, str], tally: Tally, progress: Any) -> None:
    """Several batches in flight; whatever goes wrong in one stops all."""
    from spinor.catalog.cli.scanning import encoded
    from spinor.catalog.manifests.sending import CONNECTIONS, in_order

    def send(client: Client, batch: Batch) -> tuple[Batch, bytes]:
        return batch, client.request("POST", "/api/files/register-batch", encoded(batch), query=where)[1]

    for batch, answer in in_order(scan, send, connections=CONNECTIONS, stop=scan.stop):
        tally.count(batch, answer)
        progress.set(tally.sums["files"])
