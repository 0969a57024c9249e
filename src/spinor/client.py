"""The one HTTP client: sign in again when a token runs out, retry what is worth it, problem documents as exceptions.

    client = Client.from_environment()
    job = client.get("/api/jobs/17", Job)
    ids = client.post("/api/jobs/kill", JobIDs(...), Outcome)

Blocking, one kept-alive connection per Client, standard library and msgspec only: a command starts in a tenth of a
second.
"""

import contextlib
import http.client
import os
import ssl
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar, overload

import msgspec

from spinor import __version__, credentials
from spinor.answers import (
    Body,
    BrokenOff,
    Problem,
    RemoteError,
    ServerNotTrusted,
    TokenAnswer,
    UnexpectedAnswer,
    decoded,
    error_of,
)
from spinor.errors import NotSignedIn, ServerUnreachable
from spinor.x509.tls import client_context

__all__ = [
    "Body",
    "BrokenOff",
    "Client",
    "Problem",
    "RemoteError",
    "ServerNotTrusted",
    "TokenAnswer",
    "UnexpectedAnswer",
    "one_connection",
]

if TYPE_CHECKING:
    from spinor.hub import Lender

T = TypeVar("T")
# Every verb is idempotent, so a busy server is asked again, and one that went away while we spoke is waited for.
CLIENT_ID = "spinor-cli"  # As the authorization server knows the command line.
_BUSY_DELAYS_S = (0.2, 0.5, 1.0, 2.0)
_GONE_DELAYS_S = (*_BUSY_DELAYS_S, 4.0, 4.0, 4.0, 4.0)


class Client:
    """A connection to one server, as one person."""

    def __init__(self, url: str, server: credentials.Server | None = None, token: str | None = None) -> None:
        self.url = url.rstrip("/")
        self.server = server or credentials.Server()
        self._token = token
        self._holds: Callable[[], bool] = lambda: True  # Whether the token is still where it was found.
        self._refused: str | None = None
        self.lender: Lender | None = None  # Made when it is needed.
        self.keeps = True  # Whether renewed tokens are kept in files, for the next command.
        self._connection: http.client.HTTPConnection | None = None
        self._answered = False  # Whether this server has ever answered us.
        self.patient = True  # Whether a server that is busy or away is waited for.

    @classmethod
    def from_environment(cls) -> "Client":
        """Talk to the current server with the discovered token."""
        return _shared.get() or cls(*credentials.current_server())

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        if _shared.get() is not self:
            self.close()

    def beside(self) -> "Client":
        """The same client with a connection of its own, for another thread or for a long answer."""
        beside = type(self).__new__(type(self))
        beside.__dict__.update(self.__dict__, _connection=None)
        return beside

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None

    @overload
    def get(self, path: str, answer: type[T], query: Mapping[str, Any] | None = None) -> T: ...
    @overload
    def get(self, path: str, answer: None = None, query: Mapping[str, Any] | None = None) -> bytes: ...
    def get(self, path: str, answer: type[T] | None = None, query: Mapping[str, Any] | None = None) -> T | bytes:
        """The resource as `answer`, or its bytes."""
        return decoded(self.request("GET", path, query=query)[1], answer)

    @overload
    def post(self, path: str, body: Any, answer: type[T], headers: Mapping[str, str] | None = None) -> T: ...
    @overload
    def post(self, path: str, body: Any, answer: None = None, headers: Mapping[str, str] | None = None) -> bytes: ...
    def post(
        self, path: str, body: Any, answer: type[T] | None = None, headers: Mapping[str, str] | None = None
    ) -> T | bytes:
        """Send a model (or raw bytes) and read the answer."""
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return decoded(self.request("POST", path, data, headers=headers)[1], answer)

    def put(self, path: str, body: bytes, answer: type[T]) -> T:
        return decoded(self.request("PUT", path, body)[1], answer)

    @contextlib.contextmanager
    def stream(self, path: str, query: Mapping[str, Any] | None = None, *, body: Any = None) -> Iterator[Body]:
        """The body of a large answer as a binary file, which holds no more than a piece of it in memory.

            with client.stream("/api/storage-elements/my-se/dump", {"format": "csv"}) as body:
                for line in body: ...

        A GET, or with `body` a POST of it as JSON. It has a connection of its own, so that the client can be used
        meanwhile. Once the body has begun nothing is asked again: one that breaks off raises BrokenOff.
        """
        data = None if body is None else msgspec.json.encode(body)
        with self.beside() as beside:
            method = "GET" if data is None else "POST"
            headers, answer = beside._asked(method, path, data, query=query, exchange=beside._begin)
            with Body(answer, headers) as opened:
                yield opened

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        signed: bool = True,
    ) -> tuple[Mapping[str, str], bytes]:
        """One exchange: the answer's headers and body, or the problem as an exception. Retries what is worth it."""
        return self._asked(method, path, body, query=query, headers=headers, signed=signed, exchange=self._exchange)

    def _asked(
        self,
        method: str,
        path: str,
        body: bytes | None,
        *,
        query: Mapping[str, Any] | None,
        headers: Mapping[str, str] | None = None,
        signed: bool = True,
        exchange: Callable[..., tuple[int, Mapping[str, str], Any]],
    ) -> tuple[Mapping[str, str], Any]:
        if query:
            path = f"{path}?{urllib.parse.urlencode(query, doseq=True)}"
        key = os.urandom(16).hex()
        renewed, gone, busy = False, iter(_GONE_DELAYS_S), iter(_BUSY_DELAYS_S)
        if not self.patient:
            gone, busy = iter(()), iter(())
        while True:
            given = {"user-agent": f"spinor/{__version__}", "accept": "application/json", **(headers or {})}
            if body is not None:
                given.setdefault("content-type", "application/json")
                given.setdefault("idempotency-key", key)  # The same each time: what was done is not done again.
            if signed:
                given["authorization"] = f"Bearer {self.token()}"
            try:
                status, answer_headers, data = exchange(method, path, body, given)
            except ServerUnreachable:
                if not self._answered or (delay_s := next(gone, None)) is None:
                    raise
                time.sleep(delay_s)
                continue
            self._answered = True
            if status < 400:
                return answer_headers, data
            error = error_of(status, data)
            if status == 401 and signed and not renewed and self._replace_token():
                renewed = True
            elif not error.retry or (delay_s := next(busy, None)) is None:
                raise error
            else:
                time.sleep(delay_s)

    def token(self) -> str:
        """A fresh access token: kept, discovered, renewed, or in exchange for one that a hub has lent."""
        if self._token and credentials.is_fresh(self._token, self.url) and self._holds():
            return self._token
        found = None if self.lender and self.lender.is_given else credentials.read_token()
        issuer = credentials.peek(found).iss if found else ""
        is_set = bool(os.environ.get("BEARER_TOKEN"))
        if (
            found
            and found != self._refused
            and issuer == self.url
            and (credentials.is_fresh(found, self.url) or is_set)
        ):
            self._token, self._holds = found, lambda: credentials.read_token() == found
        elif self.server.refresh_token:
            self.renew()
        else:
            self._token = self._borrowed(has_expired=issuer == self.url)
            if issuer == self.url and self.keeps:
                credentials.write_token(self._token)  # In place of one that was kept there, and has run out.
        assert self._token
        return self._token

    def _borrowed(self, *, has_expired: bool) -> str:
        from spinor import hub

        if self.lender is None:
            self.lender = hub.Lender(self.url, self.exchange)
        ours, why = self.lender.exchanged(wait=self.patient)
        self._holds = self.lender.holds
        if ours:
            return ours
        remedy = hub.remedy(why)
        if why:
            raise NotSignedIn(f"You are not signed in to {self.url}: {why}; {remedy}.")
        if has_expired:
            raise NotSignedIn(f"Your access token has expired; {remedy}.")
        raise NotSignedIn(f"You are not signed in to {self.url}; {remedy}.")

    def borrow(self) -> None:
        """Take a new token in exchange for one that a hub has lent; NotSignedIn when nothing is lent."""
        self._token = self._borrowed(has_expired=False)

    def take(self, answer: TokenAnswer) -> None:
        """Use these tokens from now on, and keep them in memory only."""
        self._token, self._holds = answer.access_token, lambda: True
        self.server = msgspec.structs.replace(self.server, refresh_token=answer.refresh_token)
        self.lender, self.keeps = None, False

    def forget(self) -> None:
        """Be nobody from now on, whatever token lies around."""
        from spinor import hub

        self._token, self.server = None, msgspec.structs.replace(self.server, refresh_token=None)
        self.lender = hub.Lender(self.url, self.exchange, "")

    def exchange(self, token: str) -> str:
        """A token of ours in exchange for one of a provider that the service trusts (RFC 8693)."""
        from spinor import hub

        return self.token_request(hub.exchange_form(token, self.server)).access_token

    def _replace_token(self) -> bool:
        """After a refusal of the token that was sent: whether another may be had."""
        self._refused, self._token = self._token, None
        if self.server.refresh_token:
            self.renew()
            return True
        try:
            self._token = self._borrowed(has_expired=False)
        except NotSignedIn:
            return False  # The refusal itself says more.
        return True

    def renew(self) -> None:
        """Turn the refresh token into a new access token; processes take turns: one rotation serves them all."""
        if not self.keeps:
            self.take(self._refreshed(self.server.refresh_token or ""))
            return
        with credentials.changed_book() as book:
            kept = book.servers.setdefault(self.url, self.server)
            found = credentials.read_token()
            if self._token is None and kept.refresh_token != self.server.refresh_token and found:
                self.server.refresh_token, self._token = kept.refresh_token, found
                return
            answer = self._refreshed(kept.refresh_token or "")
            kept.refresh_token = self.server.refresh_token = answer.refresh_token
            credentials.write_token(answer.access_token)
            self._token = answer.access_token

    def _refreshed(self, refresh_token: str) -> TokenAnswer:
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        try:
            return self.token_request(form)
        except RemoteError as error:
            if error.status != 400:
                raise
            raise NotSignedIn(f"Your session at {self.url} has ended; run `spinor login`.") from None

    def token_request(self, form: Mapping[str, str]) -> TokenAnswer:
        """Ask the token endpoint (RFC 6749)."""
        _, data = self.request(
            "POST",
            "/api/auth/token",
            urllib.parse.urlencode({"client_id": CLIENT_ID, **form}).encode(),
            headers={"content-type": "application/x-www-form-urlencoded"},
            signed=False,
        )
        return decoded(data, TokenAnswer)

    def pages(self, path: str, body: dict[str, Any], model: type[T], limit: int | None = None) -> Iterator[T]:
        """Every row of a search, page by page; at most `limit` rows."""
        left = limit
        while True:
            size = min(left, 1000) if left is not None else 1000
            data = self.post(path, {**body, "limit": size})
            page = msgspec.json.decode(data, type=_Page)
            rows = msgspec.json.decode(page.rows, type=list[model])  # type: ignore[valid-type]
            yield from rows
            if left is not None:
                left -= len(rows)
            if not page.next or left == 0:
                return
            body = {**body, "after": page.next}

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        return self._sent(method, path, body, headers, lambda answer: answer.read())

    def _begin(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], Any]:
        """The body of a good answer is not read yet; that of a problem is."""
        return self._sent(method, path, body, headers, lambda answer: answer if answer.status < 400 else answer.read())

    def _sent(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        read: Callable[[http.client.HTTPResponse], T],
    ) -> tuple[int, Mapping[str, str], T]:
        for fresh in (False, True):
            kept = self._connection is not None
            try:
                connection = self._connected()
                connection.request(method, path, body, dict(headers))
                answer = connection.getresponse()
                return answer.status, {k.lower(): v for k, v in answer.getheaders()}, read(answer)
            except ssl.SSLCertVerificationError as error:
                self.close()
                raise ServerNotTrusted(
                    f"The certificate of {self.url} is not trusted ({error.verify_message}); "
                    "set SPINOR_CA_FILE to the file of its certificate authority, or see `spinor doctor cert`."
                ) from None
            except (OSError, http.client.HTTPException) as error:
                self.close()
                # A kept connection that the server has closed meanwhile is no sign of trouble: once more, on a new one.
                if fresh or not kept:
                    raise ServerUnreachable(
                        f"The server {self.url} does not answer ({error or type(error).__name__}); "
                        "see `spinor status`, or set SPINOR_URL to another address."
                    ) from None
        raise ServerUnreachable()

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            parts = urllib.parse.urlsplit(self.url)
            if parts.scheme != "https":
                raise UnexpectedAnswer(f"The server's address is {self.url!r}; it must begin with https://.")
            try:
                context = client_context(self.server.ca_file)
            except OSError as error:
                raise ServerNotTrusted(f"The CA file {self.server.ca_file} cannot be read: {error.strerror}.") from None
            self._connection = http.client.HTTPSConnection(
                parts.hostname or "", parts.port or 443, timeout=120, context=context
            )
        return self._connection


_shared: ContextVar[Client | None] = ContextVar("_shared", default=None)


@contextlib.contextmanager
def one_connection() -> Iterator[Client]:
    """Clients that are made from the environment inside are this one, so that commands in a row share a connection.

    Threads that are started inside have their own.
    """
    client = Client.from_environment()
    before = _shared.set(client)
    try:
        yield client
    finally:
        _shared.reset(before)
        client.close()


class _Page(msgspec.Struct):
    rows: msgspec.Raw
    next: str | None = None
