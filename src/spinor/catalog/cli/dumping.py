"""Commands whose answers are too large to hold: dumps, and listings into a pipe."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import click

_FORMATS = ("csv", "parquet", "arrow", "ndjson")
_PIECE_BYTES = 1 << 20


@click.command()
@click.option("--se", required=True, help="The storage element.")
@click.option("--path", help="Only what lies at and below PATH.")
@click.option("--format", "kind", type=click.Choice(_FORMATS), help="By the ending of FILE, else csv, if not given.")
@click.option("-o", "--output", default="-", metavar="FILE", help="Write here, whole or not at all; - is stdout.")
def dump(se: str, path: str | None, kind: str | None, output: str) -> None:
    """Write all replicas on a storage element: LFN, PFN, size, checksum, status, date; by directory and name.

    It is one snapshot; what follows the position that is told at the end (see `spinor file changes`) keeps it current.
    """
    from spinor.catalog.dumps.models import POSITION_HEADER
    from spinor.client import Client
    from spinor.errors import BadInput
    from spinor.terminal import say

    ending = Path(output).suffix[1:]
    kind = kind or (ending if ending in _FORMATS else "csv")
    if output == "-" and kind in ("parquet", "arrow") and sys.stdout.isatty():
        raise BadInput(f"{kind} is not for a terminal; give a file with -o, or --format csv.")
    query = {"format": kind} | ({"path": path} if path else {})
    with Client.from_environment() as client, client.stream(f"/api/storage-elements/{_quoted(se)}/dump", query) as body:
        position = body.headers[POSITION_HEADER.lower()]
        with _written(output) as file:
            copy_bytes(body, file)
    say(f"changes after this dump: spinor file changes --since {position}")


def _quoted(name: str) -> str:
    import urllib.parse

    return urllib.parse.quote(name, safe="")


def copy_bytes(source: IO[bytes], target: Any) -> None:
    while piece := source.read(_PIECE_BYTES):
        target.write(piece)


@contextlib.contextmanager
def _written(output: str) -> Iterator[Any]:
    """A file that appears when it is complete, or stdout."""
    if output == "-":
        stream = sys.stdout.buffer
        yield stream
        stream.flush()
        return
    import tempfile

    target = Path(output)
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
        try:
            yield file
            file.flush()
            Path(file.name).chmod(0o666 & ~_umask())
            Path(file.name).replace(target)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def _umask() -> int:
    import os

    mask = os.umask(0)
    os.umask(mask)
    return mask


def streamed_entries(client: Any, path: str) -> Iterator[Any]:
    """The entries of a directory as they come, or nothing when it is none."""
    import msgspec

    from spinor.catalog.models import Entry

    decode = msgspec.json.Decoder(Entry).decode
    with client.stream("/api/files/list/stream", body={"path": path}) as body:
        for line in body:
            yield decode(line)
