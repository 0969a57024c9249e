"""What a sign-in is, shows, gives to other tools, and its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from spinor.client import Client


@click.command()
def logout() -> None:
    """Sign out: end the refresh token at the service, and forget the tokens here."""
    from urllib.parse import urlencode

    from spinor import credentials, terminal
    from spinor.client import CLIENT_ID, Client
    from spinor.errors import SpinorError

    url, server = credentials.current_server()
    token = credentials.read_token()
    if server.refresh_token:
        headers = {"content-type": "application/x-www-form-urlencoded"}
        form = urlencode({"client_id": CLIENT_ID, "token": server.refresh_token}).encode()
        try:
            with Client(url, server) as client:
                client.request("POST", "/api/auth/revoke", form, headers=headers, signed=False)
        except SpinorError as error:
            terminal.say(
                f"The service was not told ({error.message}) The refresh token is forgotten here all the same."
            )
        with credentials.changed_book() as book:
            if url in book.servers:
                book.servers[url].refresh_token = None
    if token and credentials.peek(token).iss == url:
        credentials.forget_token()
        if credentials.token_path() is None:
            terminal.say("BEARER_TOKEN is still set in the environment; unset it to be signed out.")
    terminal.say(f"Signed out of {url}.")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the model as JSON.")
def whoami(as_json: bool) -> None:
    """Show who you are, what you may do, which roles you could take with `spinor login --group`, and until when."""
    from spinor import terminal
    from spinor.client import Client
    from spinor.identity.models import WhoAmI

    with Client.from_environment() as client:
        who = client.get("/api/auth/whoami", WhoAmI)
        if as_json:
            terminal.show_one(who, as_json=True)
            return
        roles = [f"{m.vo}/{m.group}" for m in who.memberships]
        lines = {"user": who.user, "full name": who.full_name, "vo": who.vo, "group": who.group, "scopes": who.scopes}
        lines |= {"roles": roles, "server": client.url, **_session(client)}
    known = {name: value for name, value in lines.items() if value}
    width = max(map(len, known))
    for name, value in known.items():
        click.echo(f"{name:<{width}}  {terminal.cell(value)}")


def _session(client: Client) -> dict[str, str]:
    """The sign-in that the token belongs to, as the token itself says."""
    import time

    from spinor import credentials, terminal

    claims = credentials.peek(client.token())
    lines = {"session": claims.sid} if claims.sid else {}
    if claims.exp:
        left = f"good for {terminal.duration(max(0, round(claims.exp - time.time())))} more"
        lines["token"] = f"{left}, then renewed by itself" if client.server.refresh_token else left
    return lines


@click.command()
@click.option("--audience", default="", metavar="URL", help="The storage or computing element that it is for.")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="What it may do there: storage.read:/astro …")
@click.option("--lifetime", "lifetime_s", type=click.IntRange(60), metavar="SECONDS", help="How long it shall last.")
def token(audience: str, scopes: tuple[str, ...], lifetime_s: int | None) -> None:
    """Print an access token, for tools that take one.

    Without --audience it is your own one, which commands of Spinor use. With it, one that a storage or a computing
    element takes, and that can do there what --scope says.

    Who holds a token can use it: put it into a variable or a file of your own, never on a command line.
    """
    from spinor.client import Client, TokenAnswer

    with Client.from_environment() as client:
        if not audience:
            if scopes or lifetime_s:
                raise click.UsageError("--scope and --lifetime are for a token with an --audience.")
            click.echo(client.token())
            return
        body: dict[str, Any] = {"audience": audience, "scope": " ".join(scopes)}
        if lifetime_s:
            body["lifetime_s"] = lifetime_s
        click.echo(client.post("/api/auth/tokens", body, TokenAnswer).access_token)
