"""Sign in by the browser of this machine: it comes back with a code to a port of ours (RFC 8252)."""

from __future__ import annotations

import hmac
import html
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode, urlsplit

from spinor.errors import Denied, NotFound, SpinorError, Unavailable
from spinor.identity.cli.endpoint import CLIENT_ID, ask_tokens, challenge_of, new_verifier

if TYPE_CHECKING:
    from spinor.client import Client, TokenAnswer
    from spinor.identity.cli.login import Asked

_WAIT_S = 600
_PATH = "/callback"


class NoBrowser(NotFound):
    """There is no browser that could be opened here; use `spinor login --device`."""

    code = "no-browser"


class TurnedDown(Denied):
    """The sign-in was turned down in the browser."""

    code = "turned-down"


class BrowserNeverCame(Unavailable):
    """The browser did not come back within ten minutes; run `spinor login` again, or `spinor login --device`."""

    code = "browser-never-came"


def browser_command() -> list[str] | None:
    """The program that opens an address in a browser, when somebody sits before one here."""
    chosen = os.environ.get("BROWSER", "").split(os.pathsep)[0]
    if chosen and shutil.which(chosen):
        return [chosen]
    if sys.platform == "darwin":
        return ["open"]
    has_screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if has_screen and not os.environ.get("SSH_CONNECTION") and shutil.which("xdg-open"):
        return ["xdg-open"]
    return None


def browser_login(client: Client, asked: Asked) -> TokenAnswer:
    """Tokens, once their person has decided in the browser that is opened."""
    from spinor import terminal

    command = browser_command()
    if command is None:
        raise NoBrowser
    verifier, state = new_verifier(), secrets.token_urlsafe(24)
    with Listener(state, client.url) as listener:
        query = {
            "response_type": "code",
            "client_id": CLIENT_ID,
            "redirect_uri": listener.redirect_uri,
            "state": state,
            **challenge_of(verifier),
            **asked.form(),
        }
        address = f"{client.url}/api/auth/authorize?{urlencode(query)}"
        terminal.say(f"Your browser should open now. If it does not, open this address in it:\n\n    {address}\n")
        opened = _open(command, address)

        def redeem(code: str) -> TokenAnswer:
            # Once, and without a second try: a code that is used twice ends what it has opened.
            client.patient = False
            form = {"grant_type": "authorization_code", "code": code, "redirect_uri": listener.redirect_uri}
            return ask_tokens(client, {**form, "code_verifier": verifier})

        try:
            return listener.wait(redeem)
        finally:
            opened.poll()  # It has ended long ago, or is a browser that stays.


def _open(command: list[str], address: str) -> subprocess.Popen[bytes]:
    """A list of words and no shell: nothing in an address can become a command. What the browser says is not for us."""
    if not address.startswith("https://") or not address.isprintable() or " " in address:
        raise NoBrowser(f"{address!r} is no address that a browser should be given.")
    nothing = subprocess.DEVNULL
    # In a session of its own: Ctrl-C here must not close a browser that this has started.
    return subprocess.Popen([*command, address], stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)


class Listener:
    """A port of this machine alone that waits for one browser to come back from one service."""

    def __init__(self, state: str, issuer: str) -> None:
        self.state, self.issuer = state, issuer
        self.answer: TokenAnswer | SpinorError | None = None
        self._redeem: Callable[[str], TokenAnswer] | None = None
        self._server = HTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.timeout = 1.0
        self.redirect_uri = f"http://127.0.0.1:{self._server.server_port}{_PATH}"

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.server_close()

    def wait(self, redeem: Callable[[str], TokenAnswer]) -> TokenAnswer:
        """What `redeem` gives for the code that the browser brings."""
        self._redeem = redeem
        ends_at = time.monotonic() + _WAIT_S
        while self.answer is None and time.monotonic() < ends_at:
            self._server.handle_request()
        if isinstance(self.answer, SpinorError):
            raise self.answer
        if self.answer is None:
            raise BrowserNeverCame
        return self.answer

    def take(self, target: str) -> tuple[int, str, str]:
        """What the browser is shown: status, heading and text. Who does not know our state is told nothing."""
        parts = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        if parts.path != _PATH or self.answer is not None or self._redeem is None:
            return 404, "There is nothing here", "Go back to the terminal."
        if not hmac.compare_digest(query.get("state", "").encode(), self.state.encode()):
            return 400, "This is not the sign-in that was started", "Nothing was done. Go back to the terminal."
        try:
            self.answer = self._redeem(self._code(query))
        except SpinorError as error:
            self.answer = error
            return 200, "You are not signed in", error.message
        return 200, "You are signed in", "You can close this page and go back to the terminal."

    def _code(self, query: dict[str, str]) -> str:
        """The code; TurnedDown when there is none, or when another service sends it (RFC 9207)."""
        if query.get("iss") != self.issuer:
            raise TurnedDown(f"The answer did not come from {self.issuer}, so it was thrown away.")
        if "error" in query:
            said = query.get("error_description") or query["error"]
            denied = query["error"] == "access_denied"
            raise TurnedDown(None if denied else f"The service refused: {said[:300]}")
        if not query.get("code"):
            raise TurnedDown("The browser came back without a code.")
        return query["code"]


def _handler(listener: Listener) -> type[BaseHTTPRequestHandler]:
    class Page(BaseHTTPRequestHandler):
        timeout = 2  # Browsers open connections in reserve; one on which nothing comes must not keep the next out.

        def do_GET(self) -> None:
            status, heading, text = listener.take(self.path)
            body = _PAGE.format(heading=html.escape(heading), text=html.escape(text)).encode()
            self.send_response(status)
            for name, value in _HEADERS.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: the address of the request holds the code."""

    return Page


_HEADERS = {
    "content-type": "text/html; charset=utf-8",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
}
_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{heading} · Spinor</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<style>
:root {{ --paper: #f3f4f6; --card: #fff; --ink: #1a2230; --line: #d5dae1; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --paper: #11151b; --card: #1a2029; --ink: #e7ebf0; --line: #363f4c; }}
}}
html {{ background: var(--paper); color: var(--ink); font: 1rem/1.55 system-ui, sans-serif; }}
body {{ max-width: 36rem; margin: 0 auto; padding: 14vh 1rem 2rem; overflow-wrap: anywhere; }}
main {{ padding: 1.15rem 2rem; background: var(--card); border: 1px solid var(--line); border-radius: .75rem; }}
h1 {{ margin: .6rem 0; font-size: 1.4rem; }}
</style></head>
<body><main><h1>{heading}</h1><p>{text}</p></main></body></html>
"""
