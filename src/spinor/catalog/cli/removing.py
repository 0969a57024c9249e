"""`spinor file rm`: small things at once, large trees in the background."""

import click

from spinor.terminal import output_options

_REFUSED_EXIT = {"unknown-lfn": 3, "directory-denied": 4, "path-outside-vo": 4, "bad-lfn": 2}
_TOO_LARGE = "directory-too-large"


@click.command()
@click.argument("paths", nargs=-1, required=True)
@click.option("-r", "--recursive", is_flag=True, help="Remove directories with all that is below them.")
@click.option("--catalog-only", is_flag=True, help="Remove the names, and keep the bytes on their storages.")
@click.option("--where", default="", help="Remove only the files below PATHS that this filter names (see find).")
@click.option("--dry-run", is_flag=True, help="Count what would go and tell what would be refused; change nothing.")
@click.option("--no-wait", is_flag=True, help="Leave a large tree to the background, and print the operation's id.")
@output_options
def rm(
    paths: tuple[str, ...], recursive: bool, catalog_only: bool, where: str, as_json: bool, quiet: bool, **how: bool
) -> int:
    """Remove PATHS (- reads them from stdin). Bytes are deleted in the background, and retried until they are gone.

    Trees of more than 10,000 files, and all that a filter chooses, go by an operation in the background, which this
    command follows. Ctrl-C leaves it running; `spinor file operation` shows, pauses and cancels it.
    """
    from spinor.catalog.cli.following import start
    from spinor.catalog.models import Outcome
    from spinor.client import Client
    from spinor.terminal import printable, read_words, say, show_one

    fate = "keep" if catalog_only else "delete"
    body = {"paths": read_words(paths), "recursive": recursive, "bytes": fate}
    if where and not recursive:
        raise click.UsageError("--where chooses from whole trees; give --recursive with it.")
    wanted = {"kind": "remove", "bytes": fate, "where": where, "dry_run": how["dry_run"]}
    options = {"wait": not how["no_wait"], "as_json": as_json, "quiet": quiet}
    with Client.from_environment() as client:
        if where or how["dry_run"]:
            return start(client, wanted | {"paths": body["paths"]}, **options)
        outcome = client.post("/api/files/remove", body, Outcome)
        large = [refusal.id for refusal in outcome.refused if refusal.code == _TOO_LARGE]
        refused = [refusal for refusal in outcome.refused if refusal.code != _TOO_LARGE]
        if as_json and not large:
            show_one(outcome, as_json=True)
        elif quiet and not large:
            for path in outcome.done:
                click.echo(printable(path))
        if not as_json:
            for refusal in refused:
                say(f"spinor: {printable(refusal.reason)}")
        code = start(client, wanted | {"paths": large}, **options) if large else 0
    return _REFUSED_EXIT.get(refused[0].code, 1) if refused else code
