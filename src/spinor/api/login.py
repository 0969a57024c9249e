"""Signing in from a notebook: without a question where a token is found, otherwise by a code that is confirmed in the
browser (RFC 8628)."""

import os
import urllib.parse
from contextlib import suppress

from spinor import credentials
from spinor.api.rendering import Shown, bold, card, esc, muted
from spinor.api.surroundings import in_notebook
from spinor.client import Client, RemoteError
from spinor.errors import NotSignedIn, SpinorError
from spinor.hub import CLIENT_ID
from spinor.terminal import printable, say

_FORM = {"content-type": "application/x-www-form-urlencoded"}


class Invitation(Shown):
    """Asks the person to confirm the sign-in in the browser. The device code, which is a secret, is not part of it."""

    def __init__(self, code: str, page: str, link: str, server: str) -> None:
        self._code, self._page, self._link = code, page, link or page
        # A link is only made to the server itself.
        self._is_safe = all(url.startswith(f"{server}/") for url in (self._page, self._link))
        self._state = "Waiting for you …"

    def end(self, state: str) -> None:
        self._state = state

    def text(self) -> str:
        lines = [f"To sign in, open {self._page} and confirm the code {self._code}", self._state]
        return "\n".join(map(printable, lines))

    def html(self) -> str:
        link = (
            f'<a href="{esc(self._link)}" target="_blank" rel="noopener noreferrer">{esc(self._page)}</a>'
            if self._is_safe
            else esc(self._page)
        )
        code = f'<span style="font-family:monospace;font-size:18px;letter-spacing:1px">{esc(self._code)}</span>'
        words = f"Open {link}, see that it shows the code<br>{code}<br>and confirm it there.<br>{muted(self._state)}"
        return card(bold("Sign in to Spinor"), [words])


def sign_in(client: Client, vo: str = "", group: str = "") -> None:
    """Be signed in afterwards, in this role if one is named. Raises NotSignedIn, Denied, BadInput (role unclear)."""
    if vo or group:
        client.server.vo, client.server.group = vo, group
    try:
        if vo or group:
            client.borrow()
        else:
            client.get("/api/auth/whoami")
        return
    except NotSignedIn as error:
        if client.lender and client.lender.has_lent:
            say(error.message)  # Why what the hub has lent is of no use; then as everybody else.
    except RemoteError as error:
        if error.status != 401:
            raise
    if client.server.development_secret_file:
        from spinor.identity.cli import development_login

        with suppress(NotSignedIn):
            client.take(development_login(client, vo, group))
            return
    confirm_in_browser(client)


def confirm_in_browser(client: Client) -> None:
    """Show a code, and wait until its page was confirmed."""
    from spinor.identity.cli.by_device import Started, device_login
    from spinor.identity.cli.login import Asked

    shown: list[_Display] = []

    def tell(started: Started) -> None:
        code, page, link = started.user_code, started.verification_uri, started.verification_uri_complete
        shown.append(_Display(Invitation(code, page, link, client.url)))

    asked = Asked(vo=client.server.vo, group=client.server.group)
    end = "Interrupted."
    try:
        client.take(device_login(client, asked, tell))
        end = "Confirmed."
    except SpinorError as error:
        end = error.message
        raise
    finally:
        for display in shown:
            display.end(end)


class _Display:
    """Shows an invitation, and in a notebook what came of it, in the same place."""

    def __init__(self, invitation: Invitation) -> None:
        self._invitation, self._handle = invitation, None
        if in_notebook():
            from IPython.display import display

            self._handle = display(invitation, display_id=True)  # type: ignore[no-untyped-call]
        else:
            say(invitation.text())

    def end(self, state: str) -> None:
        self._invitation.end(state)
        if self._handle is not None:
            self._handle.update(self._invitation)


def sign_out(client: Client) -> bool:
    """End the session of this notebook, and forget its tokens. False when it was one of `spinor login`, which stays."""
    kept = client.keeps and not (client.lender and client.lender.source)
    if not kept:
        with suppress(SpinorError):  # It is forgotten here all the same, and ends by itself.
            form = {"token": client.server.refresh_token or client.token(), "client_id": _client_id(client)}
            data = urllib.parse.urlencode(form).encode()
            client.request("POST", "/api/auth/revoke", data, headers=_FORM, signed=False)
    client.forget()
    return not kept


def _client_id(client: Client) -> str:
    """Whose the tokens are at the service."""
    return CLIENT_ID if client.lender and client.lender.source else "spinor-cli"


def way_of(client: Client) -> str:
    """Where the token in use comes from, in words."""
    if client.lender and client.lender.source:
        return f"in exchange for {client.lender.source}"
    if client.lender and client.lender.is_given:
        return "given to connect()"
    if not client.keeps:
        return "from the sign-in in this notebook"
    if client.server.refresh_token:
        return "from `spinor login`"
    return f"from {'BEARER_TOKEN' if os.environ.get('BEARER_TOKEN') else credentials.token_path()}"
