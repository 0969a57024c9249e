"""`spinor proxy upload`, `list`, `download`, `new`, `remove` and `link`: with the service."""

from __future__ import annotations

from pathlib import Path

import click

from spinor.identity.delegation.cli.here import FILE, cert_option, hours_option, key_option, out_option, voms_option
from spinor.terminal import output_options

proxy_option = click.option("--proxy", type=FILE, help="Sign with the proxy in this file, not with your certificate.")
full_option = click.option("--full", is_flag=True, help="A full one, where your group may have it; else limited.")


@click.command()
@click.option("--days", type=click.FloatRange(0.02, 400), default=30.0, show_default=True)
@click.option("--limited", is_flag=True, help="Store a limited proxy: only limited ones can be had from it.")
@click.option("--only-this-vo", is_flag=True, help="Let it be used in the VO that you act in, and in no other.")
@proxy_option
@cert_option
@key_option
def upload(
    days: float, limited: bool, only_this_vo: bool, proxy: Path | None, cert: Path | None, key: Path | None
) -> None:
    """Delegate your certificate to the service, so that it can make proxies for you. Your key stays here.

    Uploading again renews the proxy that is there.
    """
    from datetime import timedelta

    from spinor import terminal
    from spinor.client import Client
    from spinor.identity.delegation import client as delegation
    from spinor.x509.proxy import read_credential

    own = read_credential(proxy) if proxy else delegation.find_certificate(cert, key)
    with Client.from_environment() as client:
        found = delegation.upload_proxy(client, own, timedelta(days=days), limited=limited, only_this_vo=only_this_vo)
    click.echo(str(found.proxy_id))
    terminal.say(f"Stored for {terminal.printable(found.subject)}, until {found.expires_at:%Y-%m-%d %H:%M} UTC.")


@click.command("list")
@output_options
def list_kept(as_json: bool, quiet: bool) -> None:
    """List the proxies that the service keeps for you."""
    from spinor import terminal
    from spinor.client import Client
    from spinor.identity.delegation import client as delegation

    with Client.from_environment() as client:
        found = delegation.list_proxies(client)
    columns = ("proxy_id", "subject", "vo", "is_limited", "expires_at")
    terminal.show(found, columns, id_field="proxy_id", as_json=as_json, quiet=quiet)
    for each in found:
        if each.ends_soon:
            terminal.say(f"{each.proxy_id} ends on {each.expires_at:%Y-%m-%d}; renew it with `spinor proxy upload`.")


@click.command()
@click.argument("proxy_id", required=False)
@hours_option
@full_option
@voms_option
@out_option
def download(proxy_id: str | None, hours: float, full: bool, voms: tuple[str, ...], out: Path | None) -> None:
    """Fetch a proxy made from a stored one (PROXY_ID, or the one that lasts the longest). The key is made here."""
    from datetime import UTC, datetime, timedelta

    from spinor.client import Client
    from spinor.errors import NotFound
    from spinor.identity.delegation import client as delegation
    from spinor.identity.delegation.cli.here import write

    asked = delegation.asked_attributes(voms)
    with Client.from_environment() as client:
        if proxy_id is None:
            stored = delegation.list_proxies(client)
            if not stored:
                raise NotFound(
                    "The service keeps no proxy of yours; run `spinor proxy upload` where your certificate is."
                )
            proxy_id = str(stored[0].proxy_id)
        made, _ = delegation.download_proxy(client, proxy_id, timedelta(hours=hours), limited=not full, voms=asked)
    write(made, out, datetime.now(UTC))


@click.command()
@click.option("--hours", type=click.FloatRange(1 / 60, 12), default=12.0, show_default=True)
@full_option
@voms_option
@click.option("--source", type=click.Choice(["any", "stored", "online_ca"]), default="any", show_default=True)
@out_option
def new(hours: float, full: bool, voms: tuple[str, ...], source: str, out: Path | None) -> None:
    """Turn your token into a proxy: from a stored one, or from the service's online CA. No certificate is needed."""
    from datetime import UTC, datetime, timedelta

    from spinor.client import Client
    from spinor.identity.delegation import client as delegation
    from spinor.identity.delegation.cli.here import write
    from spinor.identity.delegation.models import Source

    asked = delegation.asked_attributes(voms)
    with Client.from_environment() as client:
        made, _ = delegation.new_proxy(
            client, timedelta(hours=hours), limited=not full, voms=asked, source=Source(source)
        )
    write(made, out, datetime.now(UTC))


@click.command()
@click.argument("proxy_ids", nargs=-1, required=True, metavar="PROXY_ID...")
def remove(proxy_ids: tuple[str, ...]) -> None:
    """Let the service forget stored proxies (`-` reads ids from standard input)."""
    import sys
    from uuid import UUID

    from spinor import terminal
    from spinor.client import Client
    from spinor.errors import BadInput, NotFound
    from spinor.identity.delegation.models import ProxyIds, RemovedProxies

    words = [word for each in proxy_ids for word in (sys.stdin.read().split() if each == "-" else [each])]
    try:
        body = ProxyIds(ids=[UUID(word) for word in words])
    except ValueError:
        raise BadInput("The ids of proxies are those that `spinor proxy list` shows.") from None
    with Client.from_environment() as client:
        outcome = client.post("/api/proxies/remove", body, RemovedProxies)
    for each in outcome.done:
        click.echo(str(each))
    for refused in outcome.refused:
        terminal.say(f"{refused.proxy_id}: {refused.reason}")
    if outcome.refused:
        raise NotFound(f"{len(outcome.refused)} of {len(words)} were not there.")


@click.command()
@cert_option
@key_option
def link(cert: Path | None, key: Path | None) -> None:
    """Link your certificate to the account that you are signed in to; from then on it and its proxies sign you in."""
    from spinor import terminal
    from spinor.client import Client
    from spinor.identity.delegation import client as delegation

    own = delegation.find_certificate(cert, key)
    with Client.from_environment() as client:
        found = delegation.link_certificate(client, own)
    terminal.say(f"{terminal.printable(found.subject)} is linked to {found.user}.")
