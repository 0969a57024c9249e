"""Blobs: bytes under a name, whole or not there at all, in a directory or in a bucket of an S3 service (ADR 12).

Names are made by us and look like `sandboxes/1/7/ab/ab12….tar`. A body of unknown length is first spooled to a local
file, hashed on the way; only what is complete gets a name.
"""

import asyncio
import errno
import hashlib
import os
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from spinor.blobs.directory import Directory
from spinor.blobs.models import BlobGone, BlobStoreFull, BlobsUnavailable, BlobTooLarge, Found
from spinor.settings import Settings

__all__ = [
    "BlobGone",
    "BlobStoreFull",
    "BlobTooLarge",
    "Blobs",
    "BlobsUnavailable",
    "Directory",
    "Found",
    "Place",
    "Spooled",
]

_WRITE_BYTES = 1024 * 1024
_PATIENCE_BYTES = 2 * 1024**3  # Of a body that is too large so many are taken in and forgotten.


class Place(Protocol):
    """Where blobs lie. Each method raises BlobsUnavailable when the place does not answer."""

    async def put(self, name: str, path: Path) -> None:
        """Keep the whole local file under this name, over what was there. The file may be moved away."""

    async def put_bytes(self, name: str, data: bytes) -> None: ...

    def read(self, name: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start` up to `end` (not included). Raises BlobGone."""

    async def size(self, name: str) -> int | None:
        """None: there is no such blob."""

    async def remove(self, names: Sequence[str]) -> None:
        """A name that is not there is no error."""

    def list(self, prefix: str, before: datetime) -> AsyncIterator[list[Found]]:
        """What lies below `prefix/` and was written before that moment, in batches of at most 1,000."""

    def path(self, name: str) -> Path | None:
        """The local file, where the place has some."""

    async def url(self, name: str, lifetime_s: int) -> str | None:
        """An address at which whoever knows it may read the blob for so long, where the place gives some."""


class Spooled(NamedTuple):
    path: Path
    sha256: str
    size_bytes: int


class Blobs:
    """The blobs of one service, and a local directory for what has no name yet."""

    def __init__(self, place: Place, spool: Path) -> None:
        self.place = place
        self.spool = spool

    @classmethod
    def of(cls, settings: Settings) -> "Blobs":
        if not settings.blobs:
            # In the same file system, so that a file gets its name by a rename.
            return cls(Directory(settings.blob_dir), settings.blob_dir / "incoming")
        from spinor.blobs.s3 import Bucket  # Its library is loaded only where it is used.

        return cls(Bucket.of(settings.blobs, settings.data_dir), settings.data_dir / "spool")

    @asynccontextmanager
    async def spooled(self, body: AsyncIterable[bytes], limit_bytes: int) -> AsyncIterator[Spooled]:
        """The whole body as a local file, which is gone after the block unless it was put.

        Raises BlobStoreFull, and BlobTooLarge only after all of a body was taken in: a client that is still sending
        would not hear it.
        """
        path = self.spool / secrets.token_hex(8)
        try:
            self.spool.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                spooling = _Spooling(file, limit_bytes)
                async for part in _in_larger_parts(body):
                    await asyncio.to_thread(spooling.write, part)
                sha256 = await asyncio.to_thread(spooling.close)
            yield Spooled(path, sha256, spooling.size_bytes)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise BlobStoreFull from error
            raise
        finally:
            path.unlink(missing_ok=True)

    async def forget_spooled(self, before: datetime) -> None:
        """Delete what a server that was killed has left in its spool."""

        def forget() -> None:
            for path in self.spool.glob("*"):
                if path.stat().st_mtime < before.timestamp():
                    path.unlink(missing_ok=True)

        await asyncio.to_thread(forget)


class _Spooling:
    def __init__(self, file: BinaryIO, limit_bytes: int) -> None:
        self._file = file
        self._limit_bytes = limit_bytes
        self._digest = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: bytes) -> None:
        self.size_bytes += len(data)
        if self.size_bytes <= self._limit_bytes:
            self._digest.update(data)
            self._file.write(data)
        elif self.size_bytes > self._limit_bytes + _PATIENCE_BYTES:
            raise BlobTooLarge(size_bytes=self.size_bytes)

    def close(self) -> str:
        """Flush to the disk; the SHA-256 of what came."""
        if self.size_bytes > self._limit_bytes:
            raise BlobTooLarge(size_bytes=self.size_bytes)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return self._digest.hexdigest()


async def _in_larger_parts(body: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    held: list[bytes] = []
    size = 0
    async for part in body:
        held.append(part)
        size += len(part)
        if size >= _WRITE_BYTES:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)
