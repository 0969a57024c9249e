"""A client that costs as little as Python can: ready-made requests on one kept-alive connection, with TLS for https.

The client of the product does more for its user (tokens, retries, problem documents), and a benchmark of the server
should not measure that.
"""

import socket
import ssl
import urllib.parse
from pathlib import Path
from types import TracebackType


class Refused(Exception):
    """The server answered with an error."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"{status}: {body[:500].decode('utf-8', 'replace')}")
        self.status = status


class Wire:
    """One connection, used by one thread at a time."""

    def __init__(self, url: str, ca_file: Path | None, token: str) -> None:
        parts = urllib.parse.urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 443
        self._context = ssl.create_default_context(cafile=ca_file) if parts.scheme == "https" else None
        self._token = token
        self._socket = self._connect()
        self._buffer = bytearray()

    def _connect(self) -> socket.socket:
        plain = socket.create_connection((self._host, self._port), timeout=120)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._context.wrap_socket(plain, server_hostname=self._host) if self._context else plain

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def request(self, path: str, body: bytes, content_type: str = "application/json") -> bytes:
        """The bytes of a POST, to be sent as often as wanted."""
        head = (
            f"POST {path} HTTP/1.1\r\nhost: {self._host}:{self._port}\r\nauthorization: Bearer {self._token}\r\n"
            f"content-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def send(self, request: bytes) -> bytes:
        """The body of the answer; Refused when it is an error."""
        self._socket.sendall(request)
        end = self._until(b"\r\n\r\n")
        head = bytes(self._buffer[:end]).lower()
        del self._buffer[: end + 4]
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        while len(self._buffer) < length:
            self._receive()
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        status = int(head[9:12])
        if status >= 400:
            raise Refused(status, body)
        return body

    def get(self, path: str) -> bytes:
        head = self.request(path, b"").replace(b"POST ", b"GET ", 1)
        return self.send(head)

    def post(self, path: str, body: bytes, content_type: str = "application/json") -> bytes:
        return self.send(self.request(path, body, content_type))

    def _until(self, mark: bytes) -> int:
        while (found := self._buffer.find(mark)) < 0:
            self._receive()
        return found

    def _receive(self) -> None:
        data = self._socket.recv(262_144)
        if not data:
            raise ConnectionError("the server closed the connection")
        self._buffer += data
