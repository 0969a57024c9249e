"""`spinor notebook`: for the terminal of a notebook server."""

import click

from spinor.terminal import say

USUAL_HOURS = 12


@click.group()
def notebook() -> None:
    """Sign in and get proxies in the terminal of a notebook server, with the token that its hub has lent.

    Every other command finds that token by itself.
    """


@notebook.command()
@click.option("--vo", default="", help="The VO to act in; needed when you belong to several.")
@click.option("--group", default="", help="The group to act in.")
@click.option("--server", "url", default="", metavar="URL", help="The service's address; commands use it from now on.")
def login(vo: str, group: str, url: str) -> None:
    """Choose a role, and keep Spinor's token where the other commands and tools find it.

    It asks for a confirmation in the browser only where the hub has lent no token. What the hub has lent is not kept.
    """
    from spinor import credentials
    from spinor.api.login import confirm_in_browser
    from spinor.client import Client
    from spinor.errors import NotSignedIn
    from spinor.identity.models import WhoAmI

    url, server = credentials.known_server(url)
    server.vo, server.group = vo or server.vo, group or server.group
    with Client(url, server) as client:
        try:
            client.borrow()
            client.server.refresh_token = None  # Of another sign-in, perhaps in another role.
        except NotSignedIn as error:
            say(error.message)
            confirm_in_browser(client)
        who = client.get("/api/auth/whoami", WhoAmI)
        with credentials.changed_book() as book:
            kept = book.servers.setdefault(url, server)
            kept.vo, kept.group, kept.refresh_token = server.vo, server.group, client.server.refresh_token
            book.current = url
        credentials.write_token(client.token())
    say(f"Signed in to {url} as {who.user}, group {who.group} of VO {who.vo}.")


@notebook.command("proxy-init")
@click.option("--voms", multiple=True, metavar="VO[:/VO/Role=…]", help="With attributes of this VO, and this role.")
@click.option("--hours", type=click.FloatRange(min=0.02, max=USUAL_HOURS), default=USUAL_HOURS, show_default=True)
@click.option(
    "--limited/--full", default=True, show_default=True, help="Grid jobs cannot be started with a limited one."
)
@click.option("--out", default="", metavar="FILE", help="Instead of $X509_USER_PROXY or /tmp/x509up_u<uid>.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, without its key.")
def proxy_init(voms: tuple[str, ...], hours: float, limited: bool, out: str, as_json: bool) -> None:
    """Exchange your token for a proxy file, for the grid's tools that want one."""
    import msgspec

    from spinor.client import Client
    from spinor.notebook.proxies import proxy_init as make

    with Client.from_environment() as client:
        made = make(client, voms=voms, hours=hours, limited=limited, out=out)
    if as_json:
        known = {"path": str(made.path), "subject": made.subject, "fqans": made.fqans, "expires_at": made.expires_at}
        click.echo(msgspec.json.encode(known).decode())
    else:
        click.echo(made.text())
