"""Signing in from a notebook: without a question where a token is found, otherwise by a code that is confirmed in the
browser (RFC 8628)."""

import os
import time
import urllib.parse
from collections.abc import Callable
from contextlib import suppress

import msgspec

from spinor import credentials
from spinor.client import Client, RemoteError, TokenAnswer
from spinor.errors import Denied, NotSignedIn, SpinorError
from spinor.hub import CLIENT_ID
from spinor.notebook.rendering import Shown, bold, card, esc, muted
from spinor.notebook.surroundings import in_notebook
from spinor.terminal import printable

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_FORM = {"content-type": "application/x-www-form-urlencoded"}


class NotConfirmed(NotSignedIn):
    """The code was not confirmed in time; run `%login` for a new one."""

    code = "not-confirmed"


class DeviceGrant(msgspec.Struct):
    """What the device endpoint gives (RFC 8628 section 3.2)."""

    device_code: str
    user_code: str
    verification_uri: str
    expires_in: int
    verification_uri_complete: str = ""
    interval: int = 5


class Invitation(Shown):
    """Asks the person to confirm the sign-in in the browser. The device code, which is a secret, is not part of it."""

    def __init__(self, grant: DeviceGrant, server: str, reason: str) -> None:
        self._code, self._page, self._server, self._reason = grant.user_code, grant.verification_uri, server, reason
        # A link is only made to the server itself.
        self._link = grant.verification_uri_complete or grant.verification_uri
        self._is_safe = all(url.startswith(f"{server}/") for url in (self._page, self._link))
        self._state = "Waiting for you …"

    def end(self, state: str) -> None:
        self._state = state

    def text(self) -> str:
        lines = [self._reason, f"To sign in, open {self._page} and confirm the code {self._code}", self._state]
        return "\n".join(printable(line) for line in lines if line)

    def html(self) -> str:
        link = (
            f'<a href="{esc(self._link)}" target="_blank" rel="noopener noreferrer">{esc(self._page)}</a>'
            if self._is_safe
            else esc(self._page)
        )
        code = f'<span style="font-family:monospace;font-size:18px;letter-spacing:1px">{esc(self._code)}</span>'
        parts = [f"Open {link}, see that it shows the code<br>{code}<br>and confirm it there.<br>{muted(self._state)}"]
        if self._reason:
            parts.insert(0, f'<div style="margin-bottom:4px">{muted(self._reason)}</div>')
        return card(bold("Sign in to Spinor"), parts)


def sign_in(client: Client, vo: str = "", group: str = "") -> None:
    """Be signed in afterwards, in this role if one is named. Raises NotSignedIn, Denied, BadInput (role unclear)."""
    if vo or group:
        client.server.vo, client.server.group = vo, group
    reason = ""
    try:
        if not (vo or group):
            client.get("/api/auth/whoami")
        else:
            client.borrow()
        return
    except NotSignedIn as error:
        reason = error.message if client.lender and client.lender.has_lent else ""
    except RemoteError as error:
        if error.status != 401:
            raise
        reason = error.message
    if client.server.development_secret_file:
        from spinor.identity.cli import development_login

        try:
            client.take(development_login(client, vo, group), "spinor-cli")
            return
        except NotSignedIn:
            pass  # Then as everybody else.
    confirm_in_browser(client, CLIENT_ID, reason)


def confirm_in_browser(client: Client, client_id: str, reason: str = "") -> None:
    """Show a code, and wait until its page was confirmed."""
    wish = {name: value for name, value in (("vo", client.server.vo), ("group", client.server.group)) if value}
    form = urllib.parse.urlencode({"client_id": client_id, **wish}).encode()
    try:
        _, data = client.request("POST", "/api/auth/device_authorization", form, headers=_FORM, signed=False)
    except RemoteError as error:
        if error.status not in (404, 405):
            raise
        raise NotSignedIn(reason or f"You are not signed in to {client.url}; run `spinor login`.") from None
    grant = msgspec.json.decode(data, type=DeviceGrant)
    invitation = Invitation(grant, client.url, reason)
    update = _show(invitation)
    try:
        client.take(_confirmed(client, client_id, grant), client_id)
    except SpinorError as error:
        invitation.end(error.message)
        raise
    except KeyboardInterrupt:
        invitation.end("Interrupted.")
        raise
    else:
        invitation.end("Confirmed.")
    finally:
        update()


def _confirmed(client: Client, client_id: str, grant: DeviceGrant) -> TokenAnswer:
    form = {"grant_type": DEVICE_GRANT, "device_code": grant.device_code, "client_id": client_id}
    interval_s, deadline = max(grant.interval, 1), time.monotonic() + grant.expires_in
    while time.monotonic() < deadline:
        time.sleep(interval_s)
        try:
            return client.token_request(form)
        except RemoteError as error:
            match error.facts.get("error"):
                case "authorization_pending":
                    pass
                case "slow_down":
                    interval_s += 5
                case "access_denied":
                    raise Denied("The sign-in was refused in the browser.") from None
                case "expired_token":
                    break
                case _:
                    raise
    raise NotConfirmed


def _show(invitation: Invitation) -> Callable[[], None]:
    """Show it; gives what shows it again."""
    if not in_notebook():
        from spinor.terminal import say

        say(invitation.text())
        return lambda: None
    from IPython.display import display

    handle = display(invitation, display_id=True)  # type: ignore[no-untyped-call]
    return lambda: handle.update(invitation)


def sign_out(client: Client) -> bool:
    """End the session of this notebook, and forget its tokens. False when it was one of `spinor login`, which stays."""
    kept = client.keeps and not (client.lender and client.lender.source)
    if not kept:
        with suppress(SpinorError):  # It is forgotten here all the same, and ends by itself.
            form = {"token": client.server.refresh_token or client.token(), "client_id": client.client_id}
            data = urllib.parse.urlencode(form).encode()
            client.request("POST", "/api/auth/revoke", data, headers=_FORM, signed=False)
    client.forget()
    return not kept


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
