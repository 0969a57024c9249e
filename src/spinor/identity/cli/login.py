"""`spinor login`: choose the way to tokens, take it, and keep them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

if TYPE_CHECKING:
    from spinor.client import Client, TokenAnswer
    from spinor.credentials import Server


class Asked(NamedTuple):
    """The role and the scopes that a sign-in asks for; empty means the usual."""

    vo: str = ""
    group: str = ""
    scope: str = ""

    def form(self) -> dict[str, str]:
        return {name: value for name, value in self._asdict().items() if value}


@click.command()
@click.option("--vo", default="", help="The VO to act in; needed when you belong to several.")
@click.option("--group", default="", help="The group to act in; its properties say what you may do.")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="Ask for this only; may be given many times.")
@click.option("--server", "url", default="", metavar="URL", help="The service's address; commands use it from now on.")
@click.option("--ca-file", type=click.Path(path_type=Path), help="The certificate authority of that address.")
@click.option("--browser", "way", flag_value="browser", help="Decide in the browser of this machine.")
@click.option("--device", "way", flag_value="device", help="Decide in a browser elsewhere, by a code shown here.")
@click.option("--development", "way", flag_value="development", help="As whoever runs the service on this machine.")
@click.option(
    "--proxy",
    "proxy_file",
    is_flag=False,
    flag_value="",
    metavar="[FILE]",
    help="With a grid proxy; that of $X509_USER_PROXY, or the usual file, when none is named.",
)
def login(
    vo: str,
    group: str,
    scopes: tuple[str, ...],
    url: str,
    ca_file: Path | None,
    way: str | None,
    proxy_file: str | None,
) -> None:
    """Sign in, and keep the tokens for the commands that follow.

    The service that `spinor up` runs here signs in whoever started it. For any other, your browser opens and asks
    whether to let this command line act for you. Where there is no browser, a code is shown, which you type into one
    elsewhere, for example on your phone.
    """
    from spinor.client import Client

    if proxy_file is not None and way is not None:
        raise click.UsageError(f"--proxy and --{way} are two ways to sign in; choose one.")
    url, server = _server(url, ca_file)
    asked = Asked(vo, group, " ".join(scopes))
    with Client(url, server) as client:
        if proxy_file is not None:
            answer = _by_proxy(client, proxy_file, asked)
        else:
            answer = _by(way or _usual_way(server), client, asked)
        _keep(url, server, answer)
    _say_who(Client(url, server, answer.access_token))


def _server(url: str, ca_file: Path | None) -> tuple[str, Server]:
    from spinor import credentials

    if url:
        url = url.rstrip("/")
        server = credentials.read_book().servers.get(url) or credentials.Server()
    else:
        url, server = credentials.current_server()
    if ca_file:
        server.ca_file = str(ca_file.absolute())
    return url, server


def _usual_way(server: Server) -> str:
    from spinor.identity.cli.in_browser import browser_command

    if server.development_secret_file and Path(server.development_secret_file).exists():
        return "development"
    return "browser" if browser_command() else "device"


def _by(way: str, client: Client, asked: Asked) -> TokenAnswer:
    if way == "development":
        from spinor.identity.cli.development import development_login

        return development_login(client, asked.vo, asked.group, asked.scope)
    if way == "browser":
        from spinor.identity.cli.in_browser import browser_login

        return browser_login(client, asked)
    from spinor.identity.cli.by_device import device_login

    return device_login(client, asked)


def _by_proxy(client: Client, proxy_file: str, asked: Asked) -> TokenAnswer:
    from spinor.identity.delegation.client import assertion_login

    return assertion_login(client, proxy=Path(proxy_file) if proxy_file else None, **asked._asdict())


def _keep(url: str, server: Server, answer: TokenAnswer) -> None:
    from spinor import credentials, terminal

    with credentials.changed_book() as book:
        kept = book.servers.setdefault(url, server)
        kept.ca_file, kept.refresh_token = server.ca_file, answer.refresh_token
        book.current = url
    credentials.write_token(answer.access_token)
    if credentials.token_path() is None:
        terminal.say("BEARER_TOKEN is set in the environment and goes before the token that was kept just now.")


def _say_who(client: Client) -> None:
    from spinor import terminal
    from spinor.errors import SpinorError
    from spinor.identity.models import WhoAmI

    with client:
        try:
            who = client.get("/api/auth/whoami", WhoAmI)
        except SpinorError as error:
            if error.status != 403:
                raise
            # A sign-in that was narrowed by --scope need not be able to see who it is.
            terminal.say(f"Signed in to {client.url}.")
        else:
            terminal.say(f"Signed in to {client.url} as {who.user}, group {who.group} of VO {who.vo}.")
