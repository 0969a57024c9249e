"""Where the lines of a manifest come from: a file or standard input, compressed or not, read block by block."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec

from spinor.errors import BadInput, NotFound
from spinor.terminal import printable

BLOCK_BYTES = 4 << 20
_HEAD_BYTES = 1 << 16
_LONGEST_RECORD_BYTES = 16 << 20  # A quote that is never closed must not make us keep the whole file.
_COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2", b"\x04\x22\x4d\x18": "lz4"}


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What tells one manifest from another, or from itself after a change."""

    name: str
    size_bytes: int | None  # Unknown of standard input.
    modified_ns: int | None
    head_sha256: str


@dataclass(frozen=True)
class Block:
    """Whole lines."""

    data: bytes
    first_line: int  # Counted from 1.
    lines: int


class Source:
    """A manifest that can be read from its beginning any number of times. Keep it open as long as it is needed."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.name = "stdin" if path == "-" else printable(Path(path).name)
        self.is_stream = path == "-" or Path(path).is_fifo()  # It can be read once only.
        self._kept: IO[bytes] | None = None
        if not self.is_stream and not Path(path).is_file():
            raise NotFound(f"There is no file {printable(path)} to read.")

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        if self._kept:
            self._kept.close()

    def identity(self) -> Identity:
        with self.raw() as raw:
            head = raw.read(_HEAD_BYTES)
        known = None if self.is_stream else os.stat(self.path)  # noqa: PTH116 (as the rest of the facts)
        return Identity(
            name=self.name,
            size_bytes=known.st_size if known else None,
            modified_ns=known.st_mtime_ns if known else None,
            head_sha256=hashlib.sha256(head).hexdigest(),
        )

    @contextlib.contextmanager
    def raw(self) -> Iterator[IO[bytes]]:
        """The file's own bytes, which can be sought in."""
        if self.is_stream:
            if self._kept is None:
                # Copied to an unnamed file first, since it is read more than once.
                self._kept = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)
                with contextlib.ExitStack() as opened:
                    stdin = self.path == "-"
                    stream = sys.stdin.buffer if stdin else opened.enter_context(open(self.path, "rb"))
                    shutil.copyfileobj(stream, self._kept, 1 << 20)
                self._kept.flush()
            # A file of its own each time, since whoever reads it closes it.
            with os.fdopen(os.dup(self._kept.fileno()), "rb") as file:
                file.seek(0)
                yield file
        else:
            with open(self.path, "rb") as file:
                yield file

    @contextlib.contextmanager
    def text(self) -> Iterator[Any]:
        """The bytes, decompressed."""
        import pyarrow as pa

        with self.raw() as raw:
            head = raw.read(4)
            raw.seek(0)
            kind = next((kind for mark, kind in _COMPRESSED.items() if head.startswith(mark)), None)
            if kind is None:
                yield raw
                return
            yield pa.CompressedInputStream(pa.PythonFile(raw, "r"), kind)

    def head(self) -> bytes:
        """The first whole lines, decompressed."""
        with self.text() as stream:
            data = _read(stream, _HEAD_BYTES, self.name, 1)
        cut = data.rfind(b"\n") + 1
        return data[:cut] if cut and len(data) == _HEAD_BYTES else data

    def blocks(self, after_line: int = 0, *, quoted: bool = False) -> Iterator[Block]:
        """The lines behind a line, in blocks. With `quoted`, no block ends inside a quoted field."""
        with self.text() as stream:
            rest, line = b"", 1
            while True:
                piece = _read(stream, BLOCK_BYTES, self.name, line)
                data = rest + piece
                if not data:
                    return
                cut = (_cut(data, quoted=quoted) if piece else len(data)) if data else 0
                if piece and not cut and len(data) < _LONGEST_RECORD_BYTES:
                    rest = data
                    continue
                cut = cut or data.rfind(b"\n") + 1 or len(data)
                rest, data = data[cut:], data[:cut]
                lines = data.count(b"\n") + (not data.endswith(b"\n"))
                if line + lines - 1 > after_line:
                    yield _behind(Block(data, line, lines), after_line)
                line += lines


def _read(stream: Any, size_bytes: int, name: str, line: int) -> bytes:
    try:
        return bytes(stream.read(size_bytes))
    except OSError as error:
        raise BadInput(
            f"{name} cannot be read on behind line {line:,}: {str(error)[:200]}. If it is compressed, it is broken off "
            "or damaged; make or fetch it again."
        ) from None


def _cut(data: bytes, *, quoted: bool) -> int:
    """Behind the last line that ends here; 0 if none does."""
    cut = data.rfind(b"\n") + 1
    if quoted and b'"' in data:
        while cut and data.count(b'"', 0, cut) % 2:
            # An odd number: the last quote opened a field which goes on.
            cut = data.rfind(b"\n", 0, data.rfind(b'"', 0, cut)) + 1
    return cut


def _behind(block: Block, line: int) -> Block:
    passed = line - block.first_line + 1
    if passed <= 0:
        return block
    at = 0
    for _ in range(passed):
        at = block.data.index(b"\n", at) + 1
    return Block(block.data[at:], line + 1, block.lines - passed)
