"""Commands on names: list, look up, move, register."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from spinor.terminal import output_options


@click.command()
@click.argument("path", required=False)
@click.option("-l", "--long", is_flag=True, help="Show sizes, owners and times.")
@output_options
def ls(path: str | None, long: bool, as_json: bool, quiet: bool) -> None:
    """List the directory PATH (yours at the top if none is given); * and ? in its last part choose names."""
    from spinor.client import Client
    from spinor.terminal import printable, show

    with Client.from_environment() as client:
        body = {"path": path or f"/{client.get('/api/auth/whoami', dict)['vo']}"}
        above, _, last = body["path"].rpartition("/")
        if above and any(mark in last for mark in "*?"):
            body = {"path": above, "glob": last}
        rows = _entries(client, body)
        if as_json or quiet or long:
            columns = ["mode", "owner", "group", "size_bytes", "created_at", "name"]
            shown = rows if as_json or quiet else (_Line(row) for row in rows)
            show(shown, columns, id_field="lfn", as_json=as_json, quiet=quiet)
            return
        for row in rows:
            click.echo(printable(row.name) + ("/" if row.kind == "directory" else ""))


def _entries(client: Any, body: dict[str, Any]) -> Iterator[Any]:
    """Page by page for a person; into a pipe, where a directory may be of any size, in one stream."""
    import sys

    from spinor.catalog.cli.dumping import streamed_entries
    from spinor.catalog.models import Entry
    from spinor.errors import SpinorError

    if "glob" not in body and not sys.stdout.isatty():
        try:
            yield from streamed_entries(client, body["path"])
            return
        except SpinorError as error:
            if error.code != "unknown-directory":  # A file lists itself.
                raise
    yield from client.pages("/api/files/list", body, Entry)


class _Line:
    """An entry as `ls -l` shows it."""

    def __init__(self, entry: Any) -> None:
        import stat

        is_directory = entry.kind == "directory"
        self.mode = stat.filemode(entry.mode | (stat.S_IFDIR if is_directory else stat.S_IFREG)) + "+" * entry.acl
        self.owner, self.group = entry.owner, entry.group
        self.size_bytes, self.created_at = entry.size_bytes, entry.created_at
        self.name = entry.name + ("/" if is_directory else "")


@click.command()
@click.argument("lfns", nargs=-1, required=True)
@output_options
def stat(lfns: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Show size, checksums, owner and storage elements of LFNS (- reads them from stdin)."""
    from spinor.catalog.models import FileStat
    from spinor.client import Client
    from spinor.terminal import read_words, show, show_one

    with Client.from_environment() as client:
        found = client.post("/api/files/stat", {"paths": read_words(lfns)}, list[FileStat])
    if as_json or quiet:
        show(found, [], id_field="lfn", as_json=as_json, quiet=quiet)
        return
    for number, row in enumerate(found):
        if number:
            click.echo()
        show_one(row, skip=() if row.acl else ("acl",))


@click.command()
@click.argument("sources", nargs=-1, required=True)
@click.argument("target")
@output_options
def mv(sources: tuple[str, ...], target: str, as_json: bool, quiet: bool) -> None:
    """Move SOURCES to TARGET, or into it when it is a directory: all of them, or none. Bytes stay where they are."""
    from spinor.catalog.models import Move, Moved
    from spinor.client import Client
    from spinor.terminal import read_words, show

    words = read_words(sources)
    # Without its slash a single target could be meant as the new name; with several it can only be a directory.
    ending = "/" if len(words) > 1 else ""
    moves = [Move(source=source, target=_into(source, target + ending)) for source in words]
    with Client.from_environment() as client:
        done = client.post("/api/files/move", moves, list[Moved])
    if as_json or quiet:
        show(done, [], id_field="target", as_json=as_json, quiet=quiet)


def _into(source: str, target: str) -> str:
    return f"{target.rstrip('/')}/{source.rstrip('/').rpartition('/')[2]}" if target.endswith("/") else target


@click.command()
@click.argument("paths", nargs=-1, required=True)
def mkdir(paths: tuple[str, ...]) -> None:
    """Make directories PATHS and what is missing above them."""
    from spinor.client import Client
    from spinor.terminal import read_words

    with Client.from_environment() as client:
        client.post("/api/directories", {"paths": read_words(paths)})


@click.command()
@click.argument("paths", nargs=-1, required=True)
@output_options
def usage(paths: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Show how many files and bytes lie at and below PATHS, together and on each storage element."""
    from spinor.catalog.models import Usage
    from spinor.client import Client
    from spinor.terminal import cell, read_words, show, table

    with Client.from_environment() as client:
        found = client.post("/api/files/usage", {"paths": read_words(paths)}, list[Usage])
    if as_json or quiet:
        show(found, [], id_field="path", as_json=as_json, quiet=quiet)
        return
    rows = []
    for tree in found:
        rows.append([cell(tree.path), "all", cell(tree.files), cell(tree.size_bytes, "size_bytes")])
        rows += [["", e.se, cell(e.files), cell(e.size_bytes, "size_bytes")] for e in tree.storage_elements]
    for line in table(["path", "storage element", "files", "size"], rows):
        click.echo(line)


@click.command()
@click.argument("lfn", required=False)
@click.option("--se", help="The storage element that has the bytes.")
@click.option("--size", "size_bytes", type=click.IntRange(min=0), help="Size in bytes.")
@click.option("--adler32", help="8 hex digits.")
@click.option("--sha256", help="64 hex digits.")
@click.option("--guid", help="A UUID; a new one if none is given.")
@click.option("--pfn", help="Where the bytes are, relative to the storage element's root, if not at the LFN's place.")
@click.option("--from", "manifest", type=click.File("rb"), help="Read files from JSON lines (- is stdin) instead.")
@output_options
def register(as_json: bool, quiet: bool, manifest: Any, **one: Any) -> None:
    """Register LFN, or the files of a manifest, whose bytes are in place: all of them, or none.

    A file that is registered with the same size and checksums is no error; on another storage element it gets one more
    replica. A line of a manifest has the options' names: {"lfn": ..., "se": ..., "size_bytes": ..., "adler32": ...}
    """
    from spinor.catalog.models import Registered
    from spinor.client import Client
    from spinor.terminal import say, show

    files = _manifest(manifest) if manifest else [{name: value for name, value in one.items() if value is not None}]
    if not manifest and not {"lfn", "se", "size_bytes"} <= files[0].keys():
        raise click.UsageError("Give an LFN with --se and --size, or a manifest with --from.")
    with Client.from_environment() as client:
        done = client.post("/api/files/register", files, list[Registered])
    if as_json or quiet:
        show(done, [], id_field="lfn", as_json=as_json, quiet=quiet)
    else:
        say(f"{sum(row.outcome != 'already' for row in done):,} registered, {len(done):,} in all")


def _manifest(manifest: Any) -> list[dict[str, Any]]:
    import msgspec

    from spinor.catalog.models import NewFile
    from spinor.errors import BadInput
    from spinor.terminal import printable

    files: list[Any] = []
    for number, line in enumerate(manifest, 1):
        try:
            if line.strip():
                files.append(msgspec.json.decode(line, type=NewFile))
        except msgspec.MsgspecError as error:
            name = Path(manifest.name).name if isinstance(manifest.name, str) else "stdin"
            raise BadInput(f"{printable(name)}, line {number}: {error}") from None
    return files
