"""Answers too large to hold: bytes as they come, to a client that takes them.

The first piece is made before the answer begins, so that what is refused is a problem document like any other. What
fails later cuts the connection, and the client sees an answer that broke off, never one that looks whole.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Mapping

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

_PIECE_BYTES = 1 << 18
_PATIENCE_S = 120.0  # A client that takes nothing for so long is let go: it holds a connection to the database.

Pieces = AsyncGenerator[bytes, None]


async def streamed(pieces: Pieces, media_type: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer of a route. `pieces` is closed at its end, when the client goes, and when anything fails."""
    try:
        first = await anext(pieces, b"")
    except BaseException:
        await pieces.aclose()
        raise
    return _Streamed(first, pieces, media_type, headers)


async def joined(parts: AsyncIterable[bytes], size_bytes: int = _PIECE_BYTES) -> Pieces:
    """The same bytes in pieces of about this size, so that a row costs no call of its own."""
    kept: list[bytes] = []
    size = 0
    async for part in parts:
        kept.append(part)
        size += len(part)
        if size >= size_bytes:
            yield b"".join(kept)
            kept, size = [], 0
    if kept:
        yield b"".join(kept)


class _Streamed(Response):
    def __init__(self, first: bytes, pieces: Pieces, media_type: str, headers: Mapping[str, str] | None) -> None:
        self.status_code, self.media_type, self.background = 200, media_type, None
        self._first, self._pieces = first, pieces
        self.body = b""
        self.init_headers(headers)
        # The length is not known.
        self.raw_headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.ensure_future(self._send(send))
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait([sending, leaving], return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            sending.cancel()
            leaving.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
            await self._pieces.aclose()

    async def _send(self, send: Send) -> None:
        await _taken(send, {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await _taken(send, {"type": "http.response.body", "body": self._first, "more_body": True})
        async for piece in self._pieces:
            await _taken(send, {"type": "http.response.body", "body": piece, "more_body": True})
        await _taken(send, {"type": "http.response.body", "body": b"", "more_body": False})


async def _taken(send: Send, message: Message) -> None:
    async with asyncio.timeout(_PATIENCE_S):
        await send(message)


async def _left(receive: Receive) -> None:
    """Returns when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
