"""Files in a directory that servers, clients and jobs all see: a local disk, or a shared file system."""

import contextlib
import errno
import hashlib
import math
import os
import re
import secrets
import stat
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, ClassVar
from urllib.parse import quote, unquote, urlsplit

from spinor.errors import SpinorError
from spinor.storage.plugin import (
    Checksums,
    ChecksumWrong,
    FileMissing,
    PathUnsafe,
    Progress,
    StorageFault,
    StorageFull,
    StorageReadOnly,
    StorageUnavailable,
    Stored,
    Transfer,
)

_PIECE = 1 << 20
_TRIES = 5
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_PLAIN = re.compile(r"(?:[A-Za-z0-9_~-][A-Za-z0-9_.~-]*/)*[A-Za-z0-9_~-][A-Za-z0-9_.~-]*")  # Nothing to quote.
_PASSING = {
    errno.EAGAIN,
    errno.EBUSY,
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EMFILE,
    errno.ENFILE,
    errno.EINTR,
}


class FileStorage:
    """Every step from the root down is made by directory handles that follow no symbolic link, so that neither `..` nor
    a link that somebody plants leads out of the root. No options."""

    scheme: ClassVar[str] = "file"

    def __init__(self, root: str, options: Mapping[str, Any], *, read_only: bool = False) -> None:
        if not root.startswith("/"):
            raise StorageFault(f"The root of a file storage is an absolute directory, not {root!r}.")
        self.root = root
        self.read_only = read_only
        self._url = f"file://{quote(os.path.normpath(root).rstrip('/'))}//"

    @classmethod
    def at(cls, url: str) -> tuple["FileStorage", str]:
        parts = urlsplit(url)
        # Our URLs write the root and the path with two slashes between: file:///data/storage//astro/x.
        root, mark, path = parts.path.partition("//")
        if parts.scheme != cls.scheme or parts.netloc not in ("", "localhost") or not mark:
            raise StorageFault(f"{url!r} is not an address of a file storage.", url=url)
        return cls(unquote(root) or "/", {}), unquote(path)

    def url(self, path: str) -> str:
        if _PLAIN.fullmatch(path):  # Nearly all are, and a look-up writes thousands of them.
            return self._url + path
        return self._url + quote("/".join(_parts(path)))

    def stat(self, paths: Sequence[str]) -> list[Stored | SpinorError]:
        return [self._tried(path, self._stat, path) for path in paths]

    def walk(self, path: str) -> Iterator[Stored]:
        top = _parts(path) if path else []
        try:
            os.close(self._open_directory(top))
        except OSError as error:
            raise _fault(error, path) from None
        yield from _walk(self.root, "/".join(top))

    def put(self, transfers: Sequence[Transfer], progress: Progress | None = None) -> list[Checksums | SpinorError]:
        if self.read_only:
            return [StorageReadOnly(path=transfer.path) for transfer in transfers]
        return [self._tried(transfer.path, self._put, transfer, progress) for transfer in transfers]

    def get(self, transfers: Sequence[Transfer], progress: Progress | None = None) -> list[Checksums | SpinorError]:
        return [self._tried(transfer.path, self._get, transfer, progress) for transfer in transfers]

    def remove(self, paths: Sequence[str]) -> list[SpinorError | None]:
        if self.read_only:
            return [StorageReadOnly(path=path) for path in paths]
        return [self._tried(path, self._remove, path) for path in paths]

    def _tried(self, path: str, verb: Any, *arguments: Any) -> Any:
        try:
            return verb(*arguments)
        except SpinorError as error:
            return error
        except OSError as error:
            return _fault(error, path)

    def _open_directory(self, parts: Sequence[str], *, make: bool = False) -> int:
        """A handle on a directory below the root; the caller closes it."""
        if make:
            Path(self.root).mkdir(parents=True, exist_ok=True)
        here = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for part in parts:
                below = _enter(here, part, make=make)
                os.close(here)
                here = below
        except BaseException:
            os.close(here)
            raise
        return here

    def _stat(self, path: str) -> Stored:
        *above, name = _parts(path)
        directory = self._open_directory(above)
        try:
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        finally:
            os.close(directory)
        if not stat.S_ISREG(found.st_mode):
            raise FileMissing(f"{path!r} is not a regular file.", path=path)
        return Stored(path=path, size_bytes=found.st_size, modified_at_s=found.st_mtime)

    def _put(self, transfer: Transfer, progress: Progress | None) -> Checksums:
        *above, name = _parts(transfer.path)
        with open(transfer.local, "rb") as source:
            for _ in range(_TRIES - 1):
                # A removal may take the directory away, still empty, just before the first name is made in it.
                with contextlib.suppress(FileNotFoundError):
                    return self._put_in(above, name, source, transfer, progress)
            return self._put_in(above, name, source, transfer, progress)

    def _put_in(
        self, above: Sequence[str], name: str, source: BinaryIO, transfer: Transfer, progress: Progress | None
    ) -> Checksums:
        directory = self._open_directory(above, make=True)
        try:
            return _written(source, directory, name, transfer, progress)
        finally:
            os.close(directory)

    def _get(self, transfer: Transfer, progress: Progress | None) -> Checksums:
        *above, name = _parts(transfer.path)
        directory = self._open_directory(above)
        try:
            handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
        finally:
            os.close(directory)
        with open(handle, "rb") as source:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise FileMissing(f"{transfer.path!r} is not a regular file.", path=transfer.path)
            target = os.open(transfer.local.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                return _written(source, target, transfer.local.name, transfer, progress)
            finally:
                os.close(target)

    def _remove(self, path: str) -> None:
        *above, name = _parts(path)
        try:
            directory = self._open_directory(above)
        except FileNotFoundError:
            return
        try:
            os.unlink(name, dir_fd=directory)
        except FileNotFoundError:
            return
        finally:
            os.close(directory)
        # What stops this is that a directory is not empty, not ours, or gone already: each way it is right as it is.
        with contextlib.suppress(OSError):
            self._remove_empty(above)

    def _remove_empty(self, parts: Sequence[str]) -> None:
        while parts:
            *parts, last = parts
            directory = self._open_directory(parts)
            try:
                os.rmdir(last, dir_fd=directory)
            finally:
                os.close(directory)


def copied(source: BinaryIO, target: BinaryIO, progress: Progress | None = None) -> Checksums:
    """Copy to the end, with the checksums of what went."""
    size, adler32, sha256 = 0, 1, hashlib.sha256()
    while piece := source.read(_PIECE):
        target.write(piece)
        size, adler32 = size + len(piece), zlib.adler32(piece, adler32)
        sha256.update(piece)
        if progress:
            progress(len(piece))
    return Checksums(size_bytes=size, adler32=f"{adler32:08x}", sha256=sha256.hexdigest())


def _written(source: BinaryIO, directory: int, name: str, transfer: Transfer, progress: Progress | None) -> Checksums:
    """Write under a temporary name beside it, make it durable, verify it, and give it its name."""
    part = f".{secrets.token_hex(8)}.part"
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=directory)
    try:
        with open(handle, "wb") as target:
            sums = copied(source, target, progress)
            target.flush()
            os.fsync(target.fileno())
        verify(sums, transfer)
        os.rename(part, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        os.unlink(part, dir_fd=directory)
        raise
    os.fsync(directory)
    return sums


def verify(sums: Checksums, transfer: Transfer) -> None:
    """Raises ChecksumWrong with both values."""
    for field in ("size_bytes", "adler32", "sha256"):
        wanted, got = getattr(transfer, field), getattr(sums, field)
        if wanted is not None and wanted != got:
            raise ChecksumWrong(
                f"{transfer.path!r} has {field} {got}, but {wanted} is registered; the copy was not kept.",
                path=transfer.path, field=field, registered=wanted, found=got,
            )  # fmt: skip


def _enter(here: int, part: str, *, make: bool) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        return os.open(part, flags, dir_fd=here)
    except FileNotFoundError:
        if not make:
            raise
    with contextlib.suppress(FileExistsError):  # Another writer made it between our two calls.
        os.mkdir(part, 0o777, dir_fd=here)
    return os.open(part, flags, dir_fd=here)


def _parts(path: str) -> list[str]:
    parts = path.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise PathUnsafe(f"{path!r} is not a path below a storage element's root.", path=path)
    return parts


def _walk(root: str, top: str) -> Iterator[Stored]:
    waiting = [top]
    while waiting:
        directory = waiting.pop()
        try:
            entries = list(os.scandir(f"{root}/{directory}"))
        except OSError:
            continue  # The contract passes over what cannot be read.
        for entry in entries:
            path = f"{directory}/{entry.name}" if directory else entry.name
            if entry.is_dir(follow_symlinks=False):
                waiting.append(path)
            elif entry.is_file(follow_symlinks=False) and not _is_part(entry.name):
                try:
                    found = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                yield Stored(path=path, size_bytes=found.st_size, modified_at_s=found.st_mtime or math.nan)


def _is_part(name: str) -> bool:
    """A copy under way, or what a killed one left behind."""
    return name.startswith(".") and name.endswith(".part") and len(name) == 22


def _fault(error: OSError, path: str) -> SpinorError:
    number, text = error.errno or 0, error.strerror or str(error)
    if number in _FULL:
        return StorageFull(f"No room for {path!r}: {text}. Nothing was left half-written.", path=path)
    if number == errno.ENOENT:
        where = os.fsdecode(error.filename) if error.filename else path
        return FileMissing(f"There is no {where!r} (for {path!r}).", path=path)
    if number in (errno.ELOOP, errno.ENOTDIR):
        return PathUnsafe(f"{path!r} leads over a symbolic link or through something that is no directory.", path=path)
    if number in _PASSING:
        return StorageUnavailable(f"{path!r} cannot be reached just now: {text}.", path=path)
    return StorageFault(f"{path!r}: {text}.", path=path)


assert sys.platform != "win32", "directory handles are used, which Windows does not have"
