"""Commands on the change feed."""

from typing import Any

import click

_WAIT_S = 50


@click.command()
@click.option("--since", metavar="POSITION", help="Go on from here; `start` is all that is kept, `now` what comes.")
@click.option("--follow", is_flag=True, help="Go on showing changes as they happen (from now on without --since).")
@click.option("--path", help="Only what happens at and below PATH.")
@click.option("--expand", is_flag=True, help="Name new files too, as far as they are still there.")
@click.option("--json", "as_json", is_flag=True, help="Print changes as JSON, one a line.")
def changes(since: str | None, follow: bool, path: str | None, expand: bool, as_json: bool) -> None:
    """Show what happened to the files of your VO, oldest first, and at the end the position to go on from.

    With --json each line has the position after it. Changes are kept for 90 days.
    """
    from spinor.catalog.feed.models import ChangePage
    from spinor.client import Client
    from spinor.terminal import say

    query: dict[str, Any] = {"since": since or ("now" if follow else "start"), "expand": "true" if expand else "false"}
    if path:
        query["path"] = path
    if follow:
        query["wait_s"] = _WAIT_S
    with Client.from_environment() as client:
        while True:
            page = client.get("/api/files/changes", ChangePage, query)
            for row in page.rows:
                _print(row, as_json)
            if not follow and not page.more:
                break
            query["since"] = page.next
    if not as_json:
        say(f"go on with --since {page.next}")


def _print(row: Any, as_json: bool) -> None:
    import msgspec

    from spinor.terminal import cell, printable

    if as_json:
        click.echo(msgspec.json.encode(row).decode())
        return
    words = [cell(row.at), row.kind, printable(row.path)]
    if row.files:
        words.append(f"{row.files:,} files" if row.files > 1 else "1 file")
    if row.detail:
        words.append(cell(row.detail))
    click.echo("  ".join(words))
    for name in row.names or [file.name for file in row.expanded or []]:
        click.echo(f"    {printable(name)}")
