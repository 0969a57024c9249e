"""Commands that search and describe."""

from typing import Any

import click

from spinor.catalog.cli.bulk_metadata import extract, import_values
from spinor.terminal import output_options


@click.command()
@click.argument("path")
@click.argument("query", nargs=-1)
@click.option("--where", default="", help="The query, as in other lists.")
@click.option("--sort", multiple=True, help="A field; -field descends. May be given many times.")
@click.option("--fields", default="", help="Show these fields too, separated by commas.")
@click.option("--limit", type=click.IntRange(min=1), help="Show at most so many.")
@output_options
def find(path: str, query: tuple[str, ...], as_json: bool, quiet: bool, **options: Any) -> None:
    """Find the files below PATH that QUERY names.

    \b
    Fields: lfn path name size owner group created se adler32 guid, and metadata keys.
    spinor file find /astro "run >= 5 and (site = a, b or name like *.fits) and created > -1d"
    """
    import msgspec

    from spinor.client import Client
    from spinor.terminal import cell, printable, table

    where = " and ".join(f"({part})" for part in [" ".join(query), options["where"]] if part.strip())
    if not (query and options["where"]):
        where = " ".join(query) or options["where"]  # As it was typed, so that an error points at the right character.
    fields = [name.strip() for name in options["fields"].split(",") if name.strip()]
    body = {"path": path, "where": where, "sort": list(options["sort"]), "fields": fields}
    rows = []
    with Client.from_environment() as client:
        for row in client.pages("/api/files/find", body, dict, options["limit"]):
            if as_json:
                click.echo(msgspec.json.encode(row).decode())
            elif quiet or not fields:
                click.echo(printable(row["lfn"]))
            else:
                rows.append([printable(row["lfn"]), *(cell(row[name], name) for name in fields)])
    for line in table(["lfn", *fields], rows):
        click.echo(line)


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
@click.option("--json", "as_json", is_flag=True, help="Print models as JSON, one a line.")
def set_values(words: tuple[str, ...], as_json: bool) -> None:
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
def unset(words: tuple[str, ...]) -> None:
    """Remove KEYs from files and directories (- reads paths from stdin)."""
    from spinor.client import Client
    from spinor.terminal import read_words

    paths = read_words(word for word in words if word == "-" or word.startswith("/"))
    keys = [word for word in words if word != "-" and not word.startswith("/")]
    if not paths or not keys:
        raise click.UsageError("Give paths, which begin with /, and then keys.")
    with Client.from_environment() as client:
        client.post("/api/files/metadata", {"paths": paths, "unset": keys})


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
