"""Sign in by a browser elsewhere: a code is shown here and typed there (RFC 8628)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click
import msgspec

from spinor.errors import Denied, ServerUnreachable, Unavailable
from spinor.identity.cli.endpoint import CLIENT_ID, ask, ask_tokens, challenge_of, new_verifier

if TYPE_CHECKING:
    from spinor.client import Client, TokenAnswer
    from spinor.identity.cli.login import Asked

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_LONGER_S = 5  # RFC 8628 section 3.5: from each slow_down on.


class NobodyDecided(Unavailable):
    """Nobody has typed the code in time; run `spinor login` for a new one."""

    code = "nobody-decided"


class Started(msgspec.Struct):
    """What the service gives to show, and to wait with."""

    device_code: str
    user_code: str
    verification_uri: str
    expires_in: int
    verification_uri_complete: str = ""
    interval: int = 5


def device_login(client: Client, asked: Asked, tell: Callable[[Started], None] | None = None) -> TokenAnswer:
    """Tokens, once their person has decided in a browser. `tell` shows where that is; else the terminal does."""
    verifier = new_verifier()
    form = {"client_id": CLIENT_ID, **challenge_of(verifier), **asked.form()}
    started = ask(client, "/api/auth/device_authorization", form, Started)
    (tell or _tell)(started)
    waited = {"grant_type": DEVICE_GRANT, "device_code": started.device_code, "code_verifier": verifier}
    return _wait(client, waited, started)


def _wait(client: Client, form: dict[str, str], started: Started) -> TokenAnswer:
    interval_s = max(1, started.interval)
    ends_at = time.monotonic() + started.expires_in
    with _Countdown(ends_at) as countdown:
        while time.monotonic() + interval_s < ends_at:
            countdown.sleep(interval_s)
            try:
                return ask_tokens(client, form)
            except Denied as refusal:
                state = _state(refusal)
                if state == "slow_down":
                    interval_s += _LONGER_S
                elif state == "expired_token":
                    raise NobodyDecided from None
                elif state != "authorization_pending":
                    raise
            except ServerUnreachable:
                interval_s += _LONGER_S  # It may come back before the code expires.
    raise NobodyDecided


def _state(refusal: Denied) -> str:
    return str(refusal.facts.get("error", ""))


def _tell(started: Started) -> None:
    from spinor import terminal

    address, code = terminal.printable(started.verification_uri), terminal.printable(started.user_code)
    complete = terminal.printable(started.verification_uri_complete)
    terminal.say(
        f"Open this address in any browser, for example on your phone:\n\n    {address}\n\nand type the code   {code}\n"
        + (f"\nThis address has the code in it:\n\n    {complete}\n" if complete else "")
    )


class _Countdown:
    """How long there is left, on a terminal; silence in a pipe."""

    def __init__(self, ends_at: float) -> None:
        self.ends_at = ends_at
        self._live = sys.stderr.isatty()

    def __enter__(self) -> _Countdown:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            click.echo("\r\x1b[K", nl=False, err=True)

    def sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left_s := until - time.monotonic()) > 0:
            if self._live:
                minutes, rest = divmod(max(0, round(self.ends_at - time.monotonic())), 60)
                text = f"\r\x1b[KWaiting for you there; {minutes}:{rest:02d} left. Ctrl-C gives up."
                click.echo(text, nl=False, err=True)
            time.sleep(min(1.0, left_s))
