"""The contract between Spinor and a kind of storage: what a plugin must offer, and nothing more.

A plugin is a class, registered under the entry-point group `spinor.storage`, and made with the root and the options of
one storage element. Paths are relative to that root, with `/` between parts; they never begin with `/` and never
contain `.` or `..` as a part. Every call takes many paths, may block, and may be made from several threads. What a call
could not do for one path is in that path's answer, so that one lost file does not hide the others. A plugin raises only
what concerns all paths.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from spinor.errors import Conflict, Denied, NotFound, SpinorError, Unavailable

Progress = Callable[[int], None]  # Called with the number of bytes that went since the last call.


class StorageFault(SpinorError):
    """The storage refuses; trying again does not help."""

    code = "storage-fault"


class StorageUnavailable(Unavailable):
    """The storage does not answer just now; trying again can help."""

    code = "storage-unavailable"


class StorageFull(Unavailable):
    """The storage is full; nothing was left half-written. Free some space, or choose another storage element."""

    status, code = 507, "storage-full"


class FileMissing(NotFound):
    """There are no bytes at this path of the storage."""

    code = "bytes-missing"


class StorageReadOnly(Denied):
    """The storage element is read-only."""

    code = "storage-read-only"


class StorageOutOfUse(Conflict):
    """The storage element may not be used for this now; `spinor se status` says why."""

    code = "storage-out-of-use"


class ChecksumWrong(Conflict):
    """The bytes are not those that were registered; they were not kept."""

    code = "checksum-wrong"


class PathUnsafe(Denied):
    """The path leaves the storage element's root."""

    code = "path-unsafe"


@dataclass(frozen=True, kw_only=True)
class Checksums:
    """Of the bytes that really went: size in bytes, adler32 in 8 and sha256 in 64 lower-case hex digits."""

    size_bytes: int
    adler32: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A file in the storage. `modified_at_s` is in seconds since 1970, and NaN where the storage does not know."""

    path: str
    size_bytes: int
    modified_at_s: float


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """One file to copy: `local` is a path of this machine. What is known beforehand is verified while copying."""

    path: str
    local: Path
    size_bytes: int | None = None
    adler32: str | None = None
    sha256: str | None = None


class StoragePlugin(Protocol):
    """One storage element. An answer of `SpinorError` says by its `retry` whether trying that path again can help."""

    scheme: ClassVar[str]  # Of the URLs that `url` makes.

    def __init__(self, root: str, options: Mapping[str, Any], *, read_only: bool = False) -> None: ...

    @classmethod
    def at(cls, url: str) -> tuple["StoragePlugin", str]:
        """For a client that was given a URL: a plugin, and the path in it. Raises StorageFault for a URL of others."""

    def url(self, path: str) -> str:
        """The address under which clients and jobs read or write the path. Raises PathUnsafe."""

    def stat(self, paths: Sequence[str]) -> list[Stored | SpinorError]:
        """Size and time of each file. FileMissing also for what is not a regular file."""

    def walk(self, path: str) -> Iterator[Stored]:
        """All regular files below a directory (`""`: the root), at any depth, in any order, as they are found.

        Raises FileMissing when the directory is not there. What cannot be read is passed over; `stat` says why.
        """

    def put(self, transfers: Sequence[Transfer], progress: Progress | None = None) -> list[Checksums | SpinorError]:
        """Copy local files in; directories are made. A path appears complete and durable, or not at all.

        Overwrites. StorageFull, StorageReadOnly, ChecksumWrong (the local file is not what was announced).
        """

    def get(self, transfers: Sequence[Transfer], progress: Progress | None = None) -> list[Checksums | SpinorError]:
        """Copy files out to local paths, which appear complete or not at all. FileMissing, ChecksumWrong."""

    def remove(self, paths: Sequence[str]) -> list[SpinorError | None]:
        """Delete files, and directories below the root that become empty by it. One that is not there is a success."""
