"""`spinor config`: validate, apply and roll back operations data."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from spinor.client import Client
    from spinor.configuration.models import Change

T = TypeVar("T")
_as_json = click.option("--json", "as_json", is_flag=True, help="Print models as JSON, one a line.")


@click.group()
def config() -> None:
    """Operations data: VOs, groups, users, sites and elements, in one YAML document with revisions.

    \b
    spinor config show > operations.yaml      write down what is in force
    spinor config diff operations.yaml        see what your changes mean
    spinor config apply operations.yaml       put them in force
    """


@config.command()
@click.argument("revision", type=int, required=False)
@_as_json
def show(revision: int | None, as_json: bool) -> None:
    """Print the document in force, or that of REVISION."""
    from spinor.configuration.models import FullRevision
    from spinor.configuration.rules import body_of
    from spinor.terminal import show_one

    query = {} if revision is None else {"revision": revision}
    found = _asked(lambda client: client.get("/api/config", FullRevision, query))
    if as_json:
        show_one(found, as_json=True)
        return
    # The number travels in the document, so that `apply` knows from which revision the changes were made.
    header = f"# revision {found.revision}, applied by {found.author} at {found.applied_at:%Y-%m-%d %H:%M:%S} UTC"
    body = body_of(found.document)
    click.echo(f"{header}\n{body}", nl=not body.endswith("\n"))


@config.command()
def schema() -> None:
    """Print the JSON Schema of the document, for editors and other tools."""
    import msgspec

    from spinor.configuration.checking import schema as published

    click.echo(msgspec.json.format(msgspec.json.encode(published()), indent=2).decode())


@config.command()
@click.argument("file")
@_as_json
def validate(file: str, as_json: bool) -> None:
    """Report every fault of FILE (- is standard input), without asking a service.

    Only the service knows whether what is right in itself is also what you want: see `diff`.
    """
    import msgspec

    from spinor.configuration.checking import BadConfiguration, read_document
    from spinor.terminal import say

    text = _text(file)
    try:
        read_document(text)
    except BadConfiguration as error:
        if not as_json:
            raise
        for fault in error.facts["faults"]:
            click.echo(msgspec.json.encode(fault).decode())
        raise SystemExit(error.exit_code) from None
    say(f"{file} has no fault.")


@config.command()
@click.argument("file")
@_as_json
def diff(file: str, as_json: bool) -> None:
    """Show what applying FILE (- is standard input) would change."""
    from spinor.configuration.models import Difference, Proposal
    from spinor.terminal import say, show_one

    proposal = Proposal(document=_text(file))
    found = _asked(lambda client: client.post("/api/config/diff", proposal, Difference))
    if as_json:
        show_one(found, as_json=True)
        return
    _show_changes(found.changes, found.warnings)
    if not found.changes:
        say(f"Nothing would change: revision {found.revision} says the same.")


@config.command()
@click.argument("file")
@click.option("--comment", default="", help="Why; the history shows it.")
@click.option("--base", type=int, help="The revision that FILE was made from, when its first line does not say it.")
@_as_json
def apply(file: str, comment: str, base: int | None, as_json: bool) -> None:
    """Put FILE (- is standard input) in force, as a new revision.

    Refused (exit code 5) when another revision was applied since the one that FILE was made from.
    """
    from spinor.configuration.models import Applied, Proposal
    from spinor.configuration.rules import base_of

    text = _text(file)
    proposal = Proposal(document=text, base_revision=base_of(text) if base is None else base, comment=comment)
    _show_applied(_asked(lambda client: client.post("/api/config/apply", proposal, Applied)), as_json)


@config.command()
@click.argument("revision", type=int)
@click.option("--comment", default="", help="Why; the history shows it.")
@_as_json
def rollback(revision: int, comment: str, as_json: bool) -> None:
    """Put an earlier REVISION in force again, as a new one."""
    from spinor.configuration.models import Applied, RollBack

    wanted = RollBack(revision=revision, comment=comment)
    _show_applied(_asked(lambda client: client.post("/api/config/rollback", wanted, Applied)), as_json)


@config.command()
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many, newest first.")
@click.option("-q", "--quiet", is_flag=True, help="Print the numbers only.")
@_as_json
def history(limit: int, quiet: bool, as_json: bool) -> None:
    """List the revisions, newest first."""
    from spinor.configuration.models import Revision
    from spinor.terminal import show as show_rows

    rows = _asked(lambda client: client.get("/api/config/history", list[Revision], {"limit": limit}))
    columns = ("revision", "applied_at", "author", "comment")
    show_rows(rows, columns, id_field="revision", as_json=as_json, quiet=quiet)


def _text(file: str) -> str:
    from spinor.errors import BadInput, NotFound

    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return content.decode()
    except FileNotFoundError:
        raise NotFound(f"There is no file {file}.") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{file} is not UTF-8 text (byte {error.start + 1}).") from None


def _asked(question: Callable[[Client], T]) -> T:
    """The answer, asked as a configuration administrator.

    Everyday roles are none. On one's own machine the development login gives the administrator's role for this one
    question; elsewhere the error names the role to sign in with.
    """
    from spinor.client import Client, RemoteError

    with Client.from_environment() as client:
        try:
            return question(client)
        except RemoteError as error:
            if error.status != 403:
                raise
            refused = error
        with _administrator(client, refused) as administrator:
            return question(administrator)


def _administrator(client: Client, refused: Exception) -> Client:
    from spinor.client import Client
    from spinor.errors import Denied
    from spinor.identity.cli import development_login
    from spinor.identity.models import WhoAmI

    who = client.get("/api/auth/whoami", WhoAmI)
    role = next((m for m in who.memberships if "configuration_administrator" in m.properties), None)
    if role is None:
        raise Denied(f"{refused} None of your groups has the property configuration_administrator.") from None
    if not client.server.development_secret_file:
        raise Denied(f"{refused} Run `spinor login --vo {role.vo} --group {role.group}` first.") from None
    return Client(client.url, client.server, development_login(client, role.vo, role.group).access_token)


def _show_applied(applied: Any, as_json: bool) -> None:
    from spinor.terminal import say, show_one

    if as_json:
        show_one(applied, as_json=True)
        return
    _show_changes(applied.changes, applied.warnings)
    say(f"Revision {applied.revision} is in force.")


def _show_changes(changes: list[Change], warnings: list[str]) -> None:
    import msgspec

    from spinor.terminal import printable, say

    def value(thing: Any) -> str:
        return printable(thing if isinstance(thing, str) else msgspec.json.encode(thing).decode())

    for change in changes:
        path = printable(change.path)
        if change.kind == "changed":
            click.echo(f"~ {path}: {value(change.old)} -> {value(change.new)}")
        elif path.endswith("]"):  # A name that came to a list or left it is in the path already.
            click.echo(f"{'+' if change.kind == 'added' else '-'} {path}")
        else:
            mark, thing = ("+", change.new) if change.kind == "added" else ("-", change.old)
            click.echo(f"{mark} {path}: {value(thing)}")
    for warning in warnings:
        say(f"warning: {printable(warning)}")
