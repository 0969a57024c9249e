"""`spinor registration` and `spinor identity`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from spinor.terminal import output_options

if TYPE_CHECKING:
    from spinor.identity.federation.models import Identity, Registration

_COLUMNS = ("registration_id", "state", "vo", "full_name", "email", "provider", "asked_at")
_LOG_COLUMNS = ("happened_at", "event", "user", "vo", "actor", "facts")
_IDENTITY_COLUMNS = ("issuer", "subject", "origin", "linked_at", "used_at")
_POLL_S, _POLL_FOR_S = 2.0, 600.0


@click.group()
def registration() -> None:
    """People who ask to be let into your VO."""


@click.group()
def identity() -> None:
    """Your logins and certificates."""


@registration.command("list")
@click.option("--all", "everyone", is_flag=True, help="Those that were decided, too.")
@output_options
def list_registrations(everyone: bool, as_json: bool, quiet: bool) -> None:
    """List who waits for an answer, newest first."""
    body: dict[str, object] = {} if everyone else {"state": "waiting"}
    _show(_asked("search", body), as_json, quiet)


@registration.command("show")
@click.argument("ids", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print models as JSON, one a line.")
def show_registrations(ids: Sequence[str], as_json: bool) -> None:
    """Show registrations with their message and what the provider says (- reads ids from standard input)."""
    from spinor.terminal import read_ids, show_one

    for number, each in enumerate(_asked("search", {"ids": read_ids(ids, "registration")})):
        if number and not as_json:
            click.echo()
        show_one(each, as_json=as_json)


@registration.command()
@click.argument("ids", nargs=-1, required=True)
@click.option("--group", default="", help="The group; otherwise the VO's only one for everyday work.")
@output_options
def approve(ids: Sequence[str], group: str, as_json: bool, quiet: bool) -> None:
    """Let these people in: all of them, or none."""
    from spinor.terminal import read_ids

    _show(_asked("approve", {"ids": read_ids(ids, "registration"), "group": group}), as_json, quiet)


@registration.command()
@click.argument("ids", nargs=-1, required=True)
@click.option("--reason", default="", help="Shown to them.")
@output_options
def refuse(ids: Sequence[str], reason: str, as_json: bool, quiet: bool) -> None:
    """Do not let these people in: all of them, or none."""
    from spinor.terminal import read_ids

    _show(_asked("refuse", {"ids": read_ids(ids, "registration"), "reason": reason}), as_json, quiet)


@registration.command("log")
@click.option("--user", help="What happened to this user only.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@output_options
def list_happenings(user: str | None, limit: int, as_json: bool, quiet: bool) -> None:
    """What happened to people of your VO, newest first: who was let in and by whom, memberships that came and went."""
    from spinor.client import Client
    from spinor.identity.federation.models import HappeningRow
    from spinor.terminal import show

    with Client.from_environment() as client:
        body = {"limit": limit, **({"user": user} if user else {})}
        rows = client.post("/api/happenings/search", body, list[HappeningRow])
    show(rows, _LOG_COLUMNS, id_field="happening_id", as_json=as_json, quiet=quiet)


def _asked(verb: str, body: dict[str, object]) -> list[Registration]:
    from spinor.client import Client
    from spinor.identity.federation.models import Registration

    with Client.from_environment() as client:
        return client.post(f"/api/registrations/{verb}", body, list[Registration])


def _show(rows: list[Registration], as_json: bool, quiet: bool) -> None:
    from spinor.terminal import show

    show(rows, _COLUMNS, id_field="registration_id", as_json=as_json, quiet=quiet)


@identity.command("list")
@output_options
def list_identities(as_json: bool, quiet: bool) -> None:
    """List the logins and certificates by which you can sign in."""
    _show_identities(_identities(), as_json, quiet)


@identity.command()
@click.argument("provider", required=False, default="")
def link(provider: str) -> None:
    """Add your login at PROVIDER: open the page in your browser, sign in there, and wait for it here."""
    import time

    from spinor.client import Client
    from spinor.errors import Unavailable
    from spinor.identity.models import WhoAmI
    from spinor.terminal import say

    with Client.from_environment() as client:
        name = _chosen_provider(client.get("/api/identity-providers", list[dict[str, str]]), provider)
        user = client.get("/api/auth/whoami", WhoAmI).user
        before = {(each.issuer, each.subject) for each in _identities()}
        address = f"{client.url}/account/link/{name}?user={user}"
        say(f"Open this page in a browser, as {user}:\n  {address}")
        _open(address)
        for _ in range(int(_POLL_FOR_S / _POLL_S)):
            new = [each for each in _identities() if (each.issuer, each.subject) not in before]
            if new:
                say(f"Linked: {new[0].subject} at {new[0].issuer}.")
                return
            time.sleep(_POLL_S)
    raise Unavailable("Nothing was linked within ten minutes; begin again when you are ready.")


@identity.command()
@click.argument("issuer")
@click.argument("subject", required=False, default="")
def unlink(issuer: str, subject: str) -> None:
    """Give up a login or a certificate: its ISSUER, and its SUBJECT when you have several of that issuer."""
    from spinor.client import Client
    from spinor.errors import BadInput, NotFound
    from spinor.terminal import say

    fitting = [each for each in _identities() if each.issuer == issuer and subject in ("", each.subject)]
    if not fitting:
        raise NotFound("You have no such login; see `spinor identity list`.")
    if len(fitting) > 1:
        raise BadInput("You have several logins of that issuer; name the subject too.")
    with Client.from_environment() as client:
        body = {"issuer": fitting[0].issuer, "subject": fitting[0].subject}
        client.post("/api/identities/unlink", body)
    say(f"{fitting[0].subject} at {fitting[0].issuer} is no longer yours here.")


def _identities() -> list[Identity]:
    from spinor.client import Client
    from spinor.identity.federation.models import Identity

    with Client.from_environment() as client:
        return client.get("/api/identities", list[Identity])


def _show_identities(rows: list[Identity], as_json: bool, quiet: bool) -> None:
    from spinor.terminal import show

    show(rows, _IDENTITY_COLUMNS, id_field="issuer", as_json=as_json, quiet=quiet)


def _chosen_provider(known: list[dict[str, str]], wanted: str) -> str:
    from spinor.errors import BadInput

    names = [each["name"] for each in known]
    if wanted in names:
        return wanted
    if not wanted and len(names) == 1:
        return names[0]
    raise BadInput(f"Name one of the providers of this service: {', '.join(names) or 'there is none'}.")


def _open(address: str) -> None:
    """A browser where there is one: by a list of words, never a shell."""
    import subprocess

    from spinor.identity.cli.in_browser import browser_command

    command = browser_command()
    if command is not None and address.startswith("https://"):
        nothing = subprocess.DEVNULL
        subprocess.Popen([*command, address], stdin=nothing, stdout=nothing, stderr=nothing)
