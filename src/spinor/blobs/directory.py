"""Blobs as files below a directory, which all servers and workers of a service must see."""

import asyncio
import errno
import os
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from spinor.blobs.models import BlobGone, BlobStoreFull, Found

_READ_BYTES = 256 * 1024
_BATCH = 1000


class Directory:
    def __init__(self, root: Path) -> None:
        self.root = root

    async def put(self, name: str, path: Path) -> None:
        await asyncio.to_thread(self._move, path, self.root / name)

    async def put_bytes(self, name: str, data: bytes) -> None:
        await asyncio.to_thread(self._write, data, self.root / name)

    async def read(self, name: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        try:
            file = await asyncio.to_thread((self.root / name).open, "rb")
        except FileNotFoundError:
            raise BlobGone from None
        with file:
            file.seek(start)
            left = end - start if end is not None else None
            while left is None or left > 0:
                data = await asyncio.to_thread(file.read, _READ_BYTES if left is None else min(left, _READ_BYTES))
                if not data:
                    return
                left = None if left is None else left - len(data)
                yield data

    async def size(self, name: str) -> int | None:
        try:
            return (self.root / name).stat().st_size
        except FileNotFoundError:
            return None

    async def remove(self, names: Sequence[str]) -> None:
        def remove() -> None:
            for name in names:
                path = self.root / name
                path.unlink(missing_ok=True)
                # The directory of an upload has no other file after this one; that of others stays.
                if name.startswith("uploads/"):
                    try:
                        path.parent.rmdir()
                    except OSError:
                        continue

        await asyncio.to_thread(remove)

    async def list(self, prefix: str, before: datetime) -> AsyncIterator[list[Found]]:
        found = await asyncio.to_thread(lambda: list(self._files(prefix, before)))
        for n in range(0, len(found), _BATCH):
            yield found[n : n + _BATCH]

    def path(self, name: str) -> Path | None:
        return self.root / name

    async def url(self, name: str, lifetime_s: int) -> str | None:
        return None

    def _files(self, prefix: str, before: datetime) -> Iterator[Found]:
        for path in (self.root / prefix).rglob("*"):
            try:
                state = path.stat()
            except FileNotFoundError:
                continue  # Somebody else was faster.
            modified_at = datetime.fromtimestamp(state.st_mtime, UTC)
            if path.is_file() and modified_at < before and not path.name.startswith("."):
                yield Found(path.relative_to(self.root).as_posix(), state.st_size, modified_at)

    def _write(self, data: bytes, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        hidden = target.with_name(f".{secrets.token_hex(8)}")
        try:
            with hidden.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            self._move(hidden, target)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise BlobStoreFull from error
            raise
        finally:
            hidden.unlink(missing_ok=True)

    def _move(self, path: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
