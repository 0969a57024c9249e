"""`spinor file metadata`: what is known of files beyond their names and bytes."""

from typing import TYPE_CHECKING, Any

import click

from spinor.catalog.cli.bulk_metadata import extract, import_values
from spinor.terminal import output_options

if TYPE_CHECKING:
    from spinor.client import Client


@click.group()
def metadata() -> None:
    """Metadata: typed keys on directories (holding for all below) and on files."""


metadata.add_command(import_values)
metadata.add_command(extract)


@metadata.command()
@click.argument("paths", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print models as JSON, one a line.")
def show(paths: tuple[str, ...], as_json: bool) -> None:
    """Show the metadata of PATHS: their own, and what they inherit from where."""
    from spinor.catalog.models import MetadataShown
    from spinor.client import Client
    from spinor.terminal import read_words

    with Client.from_environment() as client:
        found = client.post("/api/files/metadata/show", {"paths": read_words(paths)}, list[MetadataShown])
    _print(found, as_json)


def _print(found: list[Any], as_json: bool) -> None:
    from spinor import terminal

    if as_json:
        terminal.show(found, [], id_field="path", as_json=True)
        return
    rows = []
    for thing in found:
        rows += [[terminal.cell(thing.path), key, terminal.cell(value), ""] for key, value in sorted(thing.own.items())]
        rows += [
            [terminal.cell(thing.path), key, terminal.cell(value), terminal.cell(thing.origins[key])]
            for key, value in sorted(thing.inherited.items())
        ]
    for line in terminal.table(["path", "key", "value", "inherited from"], rows):
        click.echo(line)


@metadata.command("set")
@click.argument("words", nargs=-1, required=True, metavar="PATH... KEY=VALUE...")
@click.option("--where", metavar="QUERY", help="Of all files below PATH that QUERY names.")
@click.option("--json", "as_json", is_flag=True, help="Print models as JSON, one a line.")
def set_values(words: tuple[str, ...], where: str | None, as_json: bool) -> None:
    """Set metadata of files and directories (- reads paths from stdin).

    A value of a declared key is read as its type; of another key, as a number or true/false where it looks like one.
    """
    from spinor.catalog.models import MetadataKey, MetadataShown
    from spinor.client import Client
    from spinor.terminal import read_words

    paths = read_words(word for word in words if word == "-" or word.startswith("/"))
    pairs = [word.partition("=") for word in words if word != "-" and not word.startswith("/")]
    if not paths or not pairs or not all(key and mark for key, mark, _ in pairs):
        raise click.UsageError("Give paths, which begin with /, and then KEY=VALUE words.")
    with Client.from_environment() as client:
        types = {key.name: key.type for key in client.get("/api/files/metadata-keys", list[MetadataKey])}
        values = {key: _value(text, types.get(key)) for key, _, text in pairs}
        if where is not None:
            _change_selection(client, paths, {"where": where, "set": values})
            return
        found = client.post("/api/files/metadata", {"paths": paths, "set": values}, list[MetadataShown])
    if as_json:
        _print(found, as_json)


def _value(text: str, kind: str | None) -> str | int | float | bool:
    """What the text means for a key of this type; a text that does not fit goes as it is, for the server to refuse."""
    if kind in (None, "boolean") and text in ("true", "false"):
        return text == "true"
    for wanted, reader in (("integer", int), ("float", float)):
        if kind in (None, wanted):
            try:
                return reader(text)
            except ValueError:
                continue
    return text


@metadata.command()
@click.argument("words", nargs=-1, required=True, metavar="PATH... KEY...")
@click.option("--where", metavar="QUERY", help="From all files below PATH that QUERY names.")
def unset(words: tuple[str, ...], where: str | None) -> None:
    """Remove KEYs from files and directories (- reads paths from stdin)."""
    from spinor.client import Client
    from spinor.terminal import read_words

    paths = read_words(word for word in words if word == "-" or word.startswith("/"))
    keys = [word for word in words if word != "-" and not word.startswith("/")]
    if not paths or not keys:
        raise click.UsageError("Give paths, which begin with /, and then keys.")
    with Client.from_environment() as client:
        if where is not None:
            _change_selection(client, paths, {"where": where, "unset": keys})
            return
        client.post("/api/files/metadata", {"paths": paths, "unset": keys})


def _change_selection(client: "Client", paths: list[str], change: dict[str, Any]) -> None:
    """Change the own values of all files that a query names below each path, so many at a time."""
    from spinor.catalog.annotation.models import SelectionDescribed
    from spinor.terminal import Progress, say

    changed = already = refused = 0
    with Progress("metadata", unit="files") as progress:
        for path in paths:
            after = None
            while True:
                body = {**change, "path": path, "after": after}
                done = client.post("/api/files/metadata/selection", body, SelectionDescribed)
                changed, already = changed + done.changed, already + done.already
                refused += len(done.refused)
                _complain(done.refused)
                progress.set(changed + already + refused)
                if (after := done.next) is None:
                    break
    say(f"{changed:,} files changed, {already:,} had these values already")
    _fail_if(refused)


def _complain(refused: list[Any]) -> None:
    from spinor.terminal import printable, say

    for refusal in refused:
        say(f"spinor: {printable(refusal.lfn)}: {printable(refusal.reason)}")


def _fail_if(refused: int) -> None:
    from spinor.errors import SpinorError

    if refused:
        raise SpinorError(f"{refused:,} were refused; the others are done.")


@metadata.command()
@output_options
def keys(as_json: bool, quiet: bool) -> None:
    """List the declared keys of your VO."""
    from spinor import terminal
    from spinor.catalog.models import MetadataKey
    from spinor.client import Client

    with Client.from_environment() as client:
        found = client.get("/api/files/metadata-keys", list[MetadataKey])
    terminal.show(found, ["name", "type"], id_field="name", as_json=as_json, quiet=quiet)


@metadata.command()
@click.argument("pairs", nargs=-1, required=True, metavar="KEY=TYPE...")
def declare(pairs: tuple[str, ...]) -> None:
    """Declare keys for your VO: integer, float, text, boolean or timestamp."""
    from spinor.catalog.models import MetadataKey, MetadataType
    from spinor.client import Client
    from spinor.errors import BadInput

    declared = []
    for pair in pairs:
        name, _, kind = pair.partition("=")
        if kind not in list(MetadataType):
            raise BadInput(f"{pair!r} is not KEY=TYPE; types are {', '.join(MetadataType)}.")
        declared.append(MetadataKey(name=name, type=MetadataType(kind)))
    with Client.from_environment() as client:
        client.post("/api/files/metadata-keys", declared)


@metadata.command()
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
def undeclare(keys: tuple[str, ...]) -> None:
    """Forget the types of KEYs. What is stored under them stays, and is found as that of undeclared keys is."""
    from spinor.client import Client

    with Client.from_environment() as client:
        client.post("/api/files/metadata-keys/remove", {"names": list(keys)})
