"""Sign in at the service that one runs oneself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spinor.client import Client, TokenAnswer
    from spinor.credentials import Server


def development_login(client: Client, vo: str = "", group: str = "", scope: str = "") -> TokenAnswer:
    """Tokens by the secret that the local service keeps for whoever runs it; NotSignedIn says why that cannot be."""
    from spinor.identity.cli.endpoint import ask_tokens
    from spinor.identity.models import DEVELOPMENT_GRANT

    form = {"grant_type": DEVELOPMENT_GRANT, "secret": _development_secret(client.url, client.server)}
    form |= {name: value for name, value in (("vo", vo), ("group", group), ("scope", scope)) if value}
    return ask_tokens(client, form)


def _development_secret(url: str, server: Server) -> str:
    import msgspec

    from spinor.errors import NotSignedIn

    remedy = "sign in with `spinor login --browser` or `spinor login --device`"
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
