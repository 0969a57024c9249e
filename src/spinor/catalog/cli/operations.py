"""`spinor file operation`: large work on trees in the background."""

from typing import Any

import click

from spinor.terminal import output_options

_COLUMNS = ["operation_id", "kind", "state", "user", "done_files", "total_files", "refused", "left_s", "created_at"]


@click.group()
def operation() -> None:
    """Large work on whole trees, which goes on in the background whatever happens to who asked for it.

    \b
    spinor file rm -r --no-wait /astro/old
    spinor file operation list
    spinor file operation wait 12
    """


def _wait_options(command: Any) -> Any:
    command = click.option("--dry-run", is_flag=True, help="Count and tell what would be refused; change nothing.")(
        command
    )
    command = click.option("--no-wait", is_flag=True, help="Print the operation's id, and do not wait for it.")(command)
    return output_options(command)


@operation.command("list")
@click.option("--state", "states", multiple=True, help="Only those in this state; may be given many times.")
@click.option("-n", "--limit", type=click.IntRange(min=1), default=20, show_default=True)
@output_options
def list_(states: tuple[str, ...], limit: int, as_json: bool, quiet: bool) -> None:
    """List your operations, newest first; all of the VO's if you manage files."""
    from spinor.catalog.operations.models import Operation
    from spinor.client import Client
    from spinor.terminal import show

    with Client.from_environment() as client:
        rows = client.pages("/api/file-operations/search", {"states": list(states)}, Operation, limit)
        show(rows, _COLUMNS, id_field="operation_id", as_json=as_json, quiet=quiet)


@operation.command("show")
@click.argument("ids", nargs=-1, required=True)
@output_options
def show_(ids: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Show how far operations are; of removals also how many bytes still wait on which storage."""
    from spinor.catalog.operations.models import OperationShown
    from spinor.client import Client
    from spinor.terminal import read_ids, show, show_one

    with Client.from_environment() as client:
        asked = {"waiting": "true"}
        found = [
            client.get(f"/api/file-operations/{n}", OperationShown, query=asked) for n in read_ids(ids, "operation")
        ]
    if as_json or quiet:
        show(found, [], id_field="operation_id", as_json=as_json, quiet=quiet)
        return
    for number, row in enumerate(found):
        if number:
            click.echo()
        show_one(row, skip=["waiting_bytes"])
        if row.waiting_bytes:
            click.echo("\nbytes of removed files that wait for their deletion, of all the VO:")
            show(row.waiting_bytes, ["se", "names", "error"], id_field="se")


@operation.command("wait")
@click.argument("ids", nargs=-1, required=True)
@output_options
def wait(ids: tuple[str, ...], as_json: bool, quiet: bool) -> int:
    """Follow operations to their ends, one after the other."""
    from spinor.catalog.cli.following import follow
    from spinor.catalog.operations.models import OperationShown
    from spinor.client import Client
    from spinor.terminal import read_ids

    code = 0
    with Client.from_environment() as client:
        for number in read_ids(ids, "operation"):
            found = client.get(f"/api/file-operations/{number}", OperationShown)
            code = follow(client, found, as_json=as_json, quiet=quiet) or code
            if code == 130:
                break
    return code


def _change(verb: str, ids: tuple[str, ...], as_json: bool, quiet: bool) -> int:
    from spinor.catalog.models import Outcome
    from spinor.client import Client
    from spinor.terminal import read_ids, say, show_one

    with Client.from_environment() as client:
        outcome = client.post(f"/api/file-operations/{verb}", {"ids": read_ids(ids, "operation")}, Outcome)
    if as_json:
        show_one(outcome, as_json=True)
    elif quiet:
        for number in outcome.done:
            click.echo(number)
    for refusal in outcome.refused:
        say(f"spinor: {refusal.reason}")
    if not outcome.refused:
        return 0
    return 3 if outcome.refused[0].code == "unknown-operation" else 5


@operation.command("pause")
@click.argument("ids", nargs=-1, required=True)
@output_options
def pause(ids: tuple[str, ...], as_json: bool, quiet: bool) -> int:
    """Stop operations within a moment, to resume them later."""
    return _change("pause", ids, as_json, quiet)


@operation.command("resume")
@click.argument("ids", nargs=-1, required=True)
@output_options
def resume(ids: tuple[str, ...], as_json: bool, quiet: bool) -> int:
    """Let paused operations go on where they stopped."""
    return _change("resume", ids, as_json, quiet)


@operation.command("cancel")
@click.argument("ids", nargs=-1, required=True)
@output_options
def cancel(ids: tuple[str, ...], as_json: bool, quiet: bool) -> int:
    """End operations within a moment; what they did stays done."""
    return _change("cancel", ids, as_json, quiet)


@operation.command("refusals")
@click.argument("ids", nargs=-1, required=True)
@output_options
def refusals(ids: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Show what operations could not do, and why: the first ten thousand of each."""
    from spinor.catalog.operations.models import OperationRefusal, RefusalPage
    from spinor.client import Client
    from spinor.terminal import read_ids, say, show

    found: list[OperationRefusal] = []
    with Client.from_environment() as client:
        for number in read_ids(ids, "operation"):
            after: int | None = 0
            kept = len(found)
            while after is not None:
                asked = {"after": after, "limit": 10_000}
                page = client.get(f"/api/file-operations/{number}/refusals", RefusalPage, query=asked)
                found += page.rows
                after = page.next
            if page.refused > len(found) - kept:
                say(f"operation {number}: {page.refused:,} in all, the first {len(found) - kept:,} are kept")
    show(found, ["lfn", "code", "reason"], id_field="lfn", as_json=as_json, quiet=quiet)


def _start(paths: tuple[str, ...], options: dict[str, Any], **request: Any) -> int:
    from spinor.catalog.cli.following import start
    from spinor.client import Client
    from spinor.terminal import read_words

    wanted = {"paths": read_words(paths), "dry_run": options["dry_run"], **request}
    with Client.from_environment() as client:
        return start(
            client, wanted, wait=not options["no_wait"], as_json=options["as_json"], quiet=options["quiet"]
        )  # fmt: skip


@operation.command("set-metadata")
@click.argument("paths", nargs=-1, required=True)
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="A value as JSON, or a text.")
@click.option("--unset", multiple=True, metavar="KEY", help="Take this key away.")
@click.option("--directories", is_flag=True, help="Of all directories, instead of all files.")
@click.option("--where", default="", help="Only of the files that this filter names (see find).")
@_wait_options
def set_metadata(
    paths: tuple[str, ...], pairs: tuple[str, ...], unset: tuple[str, ...], directories: bool, where: str, **how: Any
) -> int:
    """Set and unset metadata of all files at and below PATHS (- reads them from stdin)."""
    values = dict(_pair(text) for text in pairs)
    target = "directories" if directories else "files"
    return _start(
        paths, how, kind="set-metadata", set=values, unset=list(unset), target=target, where=where
    )  # fmt: skip


def _pair(text: str) -> tuple[str, Any]:
    import msgspec

    key, equals, value = text.partition("=")
    if not key or not equals:
        raise click.UsageError(f"{text!r} is not KEY=VALUE.")
    try:
        return key, msgspec.json.decode(value, type=str | int | float | bool)
    except msgspec.MsgspecError:
        return key, value


@operation.command("rehost")
@click.argument("paths", nargs=-1, required=True)
@click.option("--from", "from_se", required=True, help="The storage element that the catalog names now.")
@click.option("--to", "to_se", required=True, help="The one on which the bytes are.")
@click.option("--from-prefix", default="", help="PFNs begin with this on the old one ...")
@click.option("--to-prefix", default="", help="... and with this in its place on the new one.")
@_wait_options
def rehost(paths: tuple[str, ...], from_se: str, to_se: str, from_prefix: str, to_prefix: str, **how: Any) -> int:
    """Say that all replicas at and below PATHS that were on one storage element are on another. No bytes move."""
    prefixes = {"from_prefix": from_prefix, "to_prefix": to_prefix}
    return _start(paths, how, kind="rehost", from_se=from_se, to_se=to_se, **prefixes)


@operation.command("rebuild-usage")
@click.argument("paths", nargs=-1, required=True)
@_wait_options
def rebuild_usage(paths: tuple[str, ...], **how: Any) -> int:
    """Count the files of all directories at and below PATHS anew; tell and mend each counter that was wrong."""
    return _start(paths, how, kind="rebuild-usage")
