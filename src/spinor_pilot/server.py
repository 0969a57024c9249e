"""The server as the pilot sees it: HTTPS with the certificate authority that the pilot was given, and patience."""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import json
import random
import ssl
import threading
import time
import urllib.parse
from typing import Any, BinaryIO, Callable, Optional, Union

from spinor_pilot import __version__

Body = Union[bytes, BinaryIO, None]

TRY_AGAIN = frozenset({429, 500, 502, 503, 504, 507})
TOO_LARGE = frozenset({413, 414, 431})  # Whoever says so, the same request is too large the next time.
PATIENCE_S = 7200.0  # How long a server may be away before the pilot gives up.
LONGEST_PAUSE_S = 20.0
CHUNK = 1 << 20


class Refused(Exception):
    """The server understood, and says no. Asking again does not help."""

    def __init__(self, status: int, code: str, detail: str, facts: dict[str, Any]) -> None:
        super().__init__(f"the server refused ({status} {code}): {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.facts = facts
        self.first = True  # Answered at the first try: then no try before can have done what was asked.


class Unreachable(Exception):
    """The server did not answer for as long as the pilot is patient."""


class Untrusted(Exception):
    """Whoever answers at the server's address cannot prove to be the server."""


class GivenUp(Exception):
    """The caller lost interest while the pilot waited for the server."""


class Server:
    """Calls to one server. Connections that nobody uses just now wait for the next call of any thread."""

    def __init__(self, url: str, ca_pem: str = "", token: str = "") -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("https", "http") or not parts.hostname:
            raise ValueError(f"the server's address {url!r} is not a URL")
        self.url = url
        self.ca_pem = ca_pem
        self._parts = parts
        self._prefix = parts.path.rstrip("/")
        self._tls = _tls(ca_pem) if parts.scheme == "https" else None
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        self.token = token
        self._known = False  # It has answered as our server does.
        self.ahead_s: Optional[float] = None  # How far its clock is before ours, as it said last.

    def json(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        wait_s: float = 0,
        given_up: Optional[Callable[[], bool]] = None,
        patience_s: float = PATIENCE_S,
    ) -> dict[str, Any]:
        """Send JSON, return JSON. `wait_s` is how long the server itself may take (a long poll)."""
        raw = None if body is None else json.dumps(body).encode()
        return self.send(
            method, path, raw, kind="application/json", wait_s=wait_s, given_up=given_up, patience_s=patience_s
        )

    def send(
        self,
        method: str,
        path: str,
        body: Body,
        *,
        kind: str = "application/octet-stream",
        wait_s: float = 0,
        given_up: Optional[Callable[[], bool]] = None,
        patience_s: float = PATIENCE_S,
    ) -> dict[str, Any]:
        """Send a body, return JSON. A file is sent from its beginning at each try."""

        def read(response: http.client.HTTPResponse) -> dict[str, Any]:
            raw = response.read()
            if response.status == 204:  # The one answer of our server that has no body.
                return {}
            try:
                answer = json.loads(raw)
            except ValueError:
                answer = None
            if not isinstance(answer, dict):
                raise _Busy(f"{response.status} with something else than an answer: {_words(raw)}")
            return answer

        return self._patiently(lambda: self._once(method, path, body, kind, wait_s, read), given_up, patience_s)

    def download(self, path: str, target: BinaryIO, given_up: Optional[Callable[[], bool]] = None) -> None:
        """Write what is at `path` to `target`, from the beginning at each try."""

        def read(response: http.client.HTTPResponse) -> dict[str, Any]:
            target.seek(0)
            target.truncate()
            while chunk := response.read(CHUNK):
                target.write(chunk)
            if response.length:  # http.client ends quietly when the connection breaks in the middle of a body.
                raise http.client.IncompleteRead(b"", response.length)
            return {}

        self._patiently(lambda: self._once("GET", path, None, "", 0, read), given_up, PATIENCE_S)

    def close(self) -> None:
        """Close the connections that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _patiently(
        self, once: Callable[[], dict[str, Any]], given_up: Optional[Callable[[], bool]], patience_s: float
    ) -> dict[str, Any]:
        began = time.monotonic()
        pause_s = 0.1
        tries = 0
        while True:
            try:
                return once()
            except _Closed:
                tries += 1
                if given_up is not None and given_up():
                    raise GivenUp from None
                continue
            except Refused as refused:
                refused.first = tries == 0
                raise
            except (OSError, http.client.HTTPException, _Busy) as error:
                why = f"{type(error).__name__}: {error}"
                if isinstance(error, ssl.SSLCertVerificationError):
                    why = f"the certificate of {self._parts.hostname} is refused: {error.verify_message}"
                    # Nothing was sent. A server that proved itself before may have its certificate renewed too late.
                    if not self._known:
                        raise Untrusted(why) from error
                if time.monotonic() - began > patience_s:
                    raise Unreachable(f"{self._parts.geturl()}: {why}") from error
            # Jitter, so that a thousand pilots do not come back in the same instant as the server does.
            tries += 1
            asleep_s = random.uniform(pause_s / 2, pause_s)  # noqa: S311 - not a secret
            end = time.monotonic() + asleep_s
            while (left := end - time.monotonic()) > 0:
                if given_up is not None and given_up():
                    raise GivenUp
                time.sleep(min(0.5, left))
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    def _once(
        self, method: str, path: str, body: Body, kind: str, wait_s: float,
        read: Callable[[http.client.HTTPResponse], dict[str, Any]],
    ) -> dict[str, Any]:  # fmt: skip
        headers = {"User-Agent": f"spinor-pilot/{__version__}", "Accept": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        if body is not None:
            headers["Content-Type"] = kind
            if not isinstance(body, bytes):
                body.seek(0, 2)
                headers["Content-Length"] = str(body.tell())
        connection, used = self._connection(30 + wait_s)
        if body is not None and not isinstance(body, bytes):
            body.seek(0)
        try:
            connection.request(method, self._prefix + path, body=body, headers=headers)
            response = connection.getresponse()
        except (BrokenPipeError, ConnectionResetError, http.client.RemoteDisconnected) as error:
            connection.close()
            if used:
                raise _Closed from error
            raise
        except BaseException:
            connection.close()
            raise
        return self._received(connection, response, read)

    def _received(
        self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse,
        read: Callable[[http.client.HTTPResponse], dict[str, Any]],
    ) -> dict[str, Any]:  # fmt: skip
        kept = False
        try:
            self._note_time(response.getheader("Date", ""))
            if 200 <= response.status < 300:
                answer = read(response)
                self._known = True
                kept = not response.will_close
                return answer
            problem = self._problem(response.status, response.read())
            kept = not response.will_close
            raise problem
        finally:
            if kept:
                with self._lock:
                    self._idle.append(connection)
            else:
                connection.close()

    def _note_time(self, said: str) -> None:
        with contextlib.suppress(TypeError, ValueError):
            self.ahead_s = email.utils.parsedate_to_datetime(said).timestamp() - time.time()

    def _connection(self, timeout_s: float) -> tuple[http.client.HTTPConnection, bool]:
        """A connection, and whether it was used before."""
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            host, port = self._parts.hostname or "", self._parts.port
            if self._tls is not None:
                return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=self._tls), False
            return http.client.HTTPConnection(host, port, timeout=timeout_s), False
        connection.timeout = timeout_s
        if connection.sock is not None:
            connection.sock.settimeout(timeout_s)
        return connection, True

    def _problem(self, status: int, raw: bytes) -> Exception:
        try:
            problem = json.loads(raw)
        except ValueError:
            problem = {}
        if not isinstance(problem, dict):
            problem = {}
        code, detail = str(problem.get("code", "")), str(problem.get("detail", ""))
        # Every refusal of our server has a code. One without is of a proxy before it, which may be restarting.
        stranger = not code and self._known and status not in TOO_LARGE
        self._known = self._known or bool(code)
        if status in TRY_AGAIN or stranger:
            return _Busy(f"{status} {code} {detail or _words(raw)}".strip())
        return Refused(status, code or "unknown", detail or _words(raw), problem)


def _words(raw: bytes) -> str:
    return raw[:200].decode("utf-8", "replace")


class _Busy(Exception):
    """The server, or something in its place, answered that it cannot answer now."""


class _Closed(Exception):
    """A connection that was used before is closed. Servers close idle ones, and that shows only at their next use; but
    maybe this one broke when the request had been heard."""


def _tls(ca_pem: str) -> ssl.SSLContext:
    # An empty authority means the system's own, for servers with a publicly trusted certificate.
    context = ssl.create_default_context(cadata=ca_pem or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Only subjectAltName names a host; the common name of the subject is free text.
    context.hostname_checks_common_name = False
    return context
