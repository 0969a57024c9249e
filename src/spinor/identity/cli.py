"""`spinor login`, `logout` and `whoami`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from spinor.client import Client, TokenAnswer
    from spinor.credentials import Server


@click.command()
@click.option("--vo", default="", help="The VO to act in; needed when you belong to several.")
@click.option("--group", default="", help="The group to act in; its properties say what you may do.")
@click.option("--server", "url", default="", metavar="URL", help="The service's address; commands use it from now on.")
@click.option("--ca-file", type=click.Path(path_type=Path), help="The certificate authority of that address.")
def login(vo: str, group: str, url: str, ca_file: Path | None) -> None:
    """Sign in, and keep the tokens for the commands that follow.

    The service that `spinor up` runs on this machine signs in whoever started it. For any other service put an access
    token into BEARER_TOKEN or into the file that BEARER_TOKEN_FILE names.
    """
    from spinor import credentials, terminal
    from spinor.client import Client

    if url:
        url = url.rstrip("/")
        server = credentials.read_book().servers.get(url) or credentials.Server()
    else:
        url, server = credentials.current_server()
    if ca_file:
        server.ca_file = str(ca_file.absolute())
    with Client(url, server) as client:
        answer = development_login(client, vo, group)
        with credentials.changed_book() as book:
            kept = book.servers.setdefault(url, server)
            kept.ca_file, kept.refresh_token = server.ca_file, answer.refresh_token
            book.current = url
        credentials.write_token(answer.access_token)
        if credentials.token_path() is None:
            terminal.say("BEARER_TOKEN is set in the environment and goes before the token that was kept just now.")
        _say_who(Client(url, server, answer.access_token))


def development_login(client: Client, vo: str = "", group: str = "") -> TokenAnswer:
    """Tokens by the secret that the local service keeps for whoever runs it; NotSignedIn says why that cannot be."""
    from spinor.client import RemoteError
    from spinor.errors import BadInput, Denied
    from spinor.identity.models import DEVELOPMENT_GRANT

    form = {"grant_type": DEVELOPMENT_GRANT, "secret": _development_secret(client.url, client.server)}
    form |= {name: value for name, value in (("vo", vo), ("group", group)) if value}
    try:
        return client.token_request(form)
    except RemoteError as error:
        # The token endpoint knows one status for every refusal (RFC 6749); the exit code should tell more.
        if error.status == 400:
            raise (BadInput if error.code == "role-unclear" else Denied)(error.message) from None
        raise


def _development_secret(url: str, server: Server) -> str:
    import msgspec

    from spinor.errors import NotSignedIn

    remedy = "put an access token into BEARER_TOKEN, or into the file that BEARER_TOKEN_FILE names"
    if not server.development_secret_file:
        raise NotSignedIn(
            f"{url} was not started on this machine by you, so its development login is not for you; {remedy}."
        )
    path = server.development_secret_file
    try:
        content = Path(path).read_bytes()
        return str(msgspec.json.decode(content, type=dict[str, str])["secret"])
    except (OSError, msgspec.MsgspecError, KeyError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not understood"
        raise NotSignedIn(
            f"The secret of the development login of {url} cannot be read ({reason}: {path}); "
            f"start the service again (`spinor up`), or {remedy}."
        ) from None


@click.command()
def logout() -> None:
    """Sign out: end the refresh token at the service, and forget the tokens here."""
    from urllib.parse import urlencode

    from spinor import credentials, terminal
    from spinor.client import Client
    from spinor.errors import SpinorError

    url, server = credentials.current_server()
    token = credentials.read_token()
    if server.refresh_token:
        headers = {"content-type": "application/x-www-form-urlencoded"}
        form = urlencode({"token": server.refresh_token}).encode()
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
    """Show who you are, what you may do, and which roles you could take with `spinor login --group`."""
    from spinor import terminal
    from spinor.client import Client
    from spinor.identity.models import WhoAmI

    with Client.from_environment() as client:
        who = client.get("/api/auth/whoami", WhoAmI)
        terminal.show_one(who, as_json=as_json, skip=("memberships",))
        if not as_json:
            # Aligned with the fields above.
            click.echo(f"roles   {', '.join(f'{m.vo}/{m.group}' for m in who.memberships)}")
            click.echo(f"server  {client.url}")


def _say_who(client: Client) -> None:
    from spinor import terminal
    from spinor.identity.models import WhoAmI

    with client:
        who = client.get("/api/auth/whoami", WhoAmI)
    terminal.say(f"Signed in to {client.url} as {who.user}, group {who.group} of VO {who.vo}.")
