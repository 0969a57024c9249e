"""`spinor file find`: files by their fields and metadata, their number, their values, and how they are found."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from spinor.terminal import output_options

if TYPE_CHECKING:
    from spinor.client import Client


@click.command()
@click.argument("path")
@click.argument("query", nargs=-1)
@click.option("--where", default="", help="The query, as in other lists.")
@click.option("--sort", multiple=True, help="A field; -field descends. May be given many times.")
@click.option("--fields", default="", help="Show these fields too, separated by commas.")
@click.option("--limit", type=click.IntRange(min=1), help="Show at most so many files, or values of a facet.")
@click.option("--count", is_flag=True, help="Show only how many files there are, and their bytes.")
@click.option("--facet", multiple=True, metavar="KEY", help="Show the values of KEY and how many files have each.")
@click.option("--explain", is_flag=True, help="Show how the files would be found, and do not find them.")
@output_options
def find(path: str, query: tuple[str, ...], as_json: bool, quiet: bool, **options: Any) -> None:
    """Find the files below PATH that QUERY names.

    \b
    Fields: lfn path name size owner group mode created modified se replicas
    status adler32 sha256 guid, and metadata keys.
    spinor file find /astro "run >= 5 and (site = a, b or name like *.fits) and created > -1d"
    spinor file find /astro run>=5 site=a,b CreationDate>2024-01-01 FileName=*.root
    """
    from spinor.client import Client

    chosen = [name for name in ("count", "facet", "explain") if options[name]]
    if len(chosen) > 1:
        raise click.UsageError("Give one of --count, --facet and --explain.")
    body: dict[str, Any] = {"path": path, "where": _where(query, options["where"])}
    with Client.from_environment() as client:
        if options["count"]:
            _count(client, body, as_json=as_json, quiet=quiet)
        elif options["facet"]:
            limit = {} if options["limit"] is None else {"limit": options["limit"]}
            _facets(client, {**body, "keys": list(options["facet"]), **limit}, as_json=as_json)
        elif options["explain"]:
            _explain(client, body, as_json=as_json)
        else:
            fields = [name.strip() for name in options["fields"].split(",") if name.strip()]
            body |= {"sort": list(options["sort"]), "fields": fields}
            _find(client, body, options["limit"], as_json=as_json, quiet=quiet)


def _where(words: Sequence[str], option: str) -> str:
    """The query as text: as it was typed where it is in our language, so that an error points at the right place."""
    import json

    from spinor.catalog.dirac_find import is_dirac, parse_dirac
    from spinor.search import BadQuery
    from spinor.search.mapping import from_mapping

    typed = " ".join(words)
    if typed.lstrip().startswith("{"):
        try:
            typed = str(from_mapping(json.loads(typed)))
        except json.JSONDecodeError as error:
            raise BadQuery(f"the query begins with {{ and is no JSON: {error}") from None
    elif is_dirac(words):
        typed = str(parse_dirac(words))
    if typed.strip() and option.strip():
        return f"({typed}) and ({option})"
    return typed or option


def _find(client: "Client", body: dict[str, Any], limit: int | None, *, as_json: bool, quiet: bool) -> None:
    import msgspec

    from spinor.terminal import cell, printable, table

    fields, rows = body["fields"], []
    for row in client.pages("/api/files/find", body, dict, limit):
        if as_json:
            click.echo(msgspec.json.encode(row).decode())
        elif quiet or not fields:
            click.echo(printable(row["lfn"]))
        else:
            rows.append([printable(row["lfn"]), *(cell(row[name], name) for name in fields)])
    for line in table(["lfn", *fields], rows):
        click.echo(line)


def _count(client: "Client", body: dict[str, Any], *, as_json: bool, quiet: bool) -> None:
    from spinor.catalog.query.models import Counted
    from spinor.terminal import show_one, size

    counted = client.post("/api/files/count", body, Counted)
    if as_json:
        show_one(counted, as_json=True)
    else:
        click.echo(f"{counted.files}" if quiet else f"{counted.files:,} files, {size(counted.size_bytes)}")


def _facets(client: "Client", body: dict[str, Any], *, as_json: bool) -> None:
    from spinor.catalog.query.models import Facet
    from spinor.terminal import cell, say, show_one, table

    found = client.post("/api/files/facets", body, list[Facet])
    if as_json:
        for facet in found:
            show_one(facet, as_json=True)
        return
    rows = [[cell(facet.key), cell(value.value), f"{value.files}"] for facet in found for value in facet.values]
    for line in table(["key", "value", "files"], rows):
        click.echo(line)
    for facet in found:
        if not facet.complete:
            say(f"spinor: {facet.key} has more values; --limit shows more of them.")


def _explain(client: "Client", body: dict[str, Any], *, as_json: bool) -> None:
    from spinor.catalog.query.models import Explanation
    from spinor.terminal import printable, show_one

    told = client.post("/api/files/explain", body, Explanation)
    if as_json:
        show_one(told, as_json=True)
        return
    click.echo(f"query    {printable(told.where) or 'everything'}")
    for sentence in told.way:
        click.echo(f"         {printable(sentence)}")
    click.echo(f"indexes  {', '.join(told.indexes) or 'none'}")
    click.echo(f"expected {told.directories:,} directories, {told.files:,} files")
    for step in told.plan:
        about = [step.node, step.relation or "", f"by {step.index}" if step.index else "", f"({step.rows:,} rows)"]
        condition = f": {printable(step.condition)}" if step.condition else ""
        click.echo(f"  {'  ' * step.depth}{' '.join(part for part in about if part)}{condition}")
