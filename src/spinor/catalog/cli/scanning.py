"""Read a directory tree by several threads, as batches of rows for `register-batch`.

Nearly all the time goes into system calls: one per file for its size, four for its checksum. What Python does for a
file is kept to two list elements. Processes in place of threads were measured, and are no faster.
"""

import errno
import fnmatch
import hashlib
import itertools
import os
import queue
import re
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from zlib_ng import zlib_ng  # Four times as fast as zlib.

BATCH_ROWS = 20_000
_CHUNK_ROWS = 1000
_PIECE = 1 << 20
_COPY_UNDER_WAY = re.compile(r"\.[0-9a-f]{16}\.part")  # What a storage has not finished writing.
_KINDS = {
    stat.S_ISLNK: "is a symbolic link",
    stat.S_ISSOCK: "is a socket",
    stat.S_ISFIFO: "is a pipe",
    stat.S_ISCHR: "is a device",
    stat.S_ISBLK: "is a device",
}


_OPEN_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass
class Chunk:
    """Files directly inside one directory of the tree (`""` is its root). Without checksums their lists are empty."""

    path: str
    names: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    adler32: list[int | None] = field(default_factory=list)
    sha256: list[bytes | None] = field(default_factory=list)


@dataclass(frozen=True)
class Refused:
    """What of the tree cannot be registered. `path` is relative to its root and may hold undecodable bytes."""

    path: str
    reason: str


Batch = list[Chunk]


class Scan:
    """A scan under way. Iterate over it for batches; `refused` fills meanwhile. `stop` ends it early."""

    def __init__(
        self, root: str, *, checksum: str, jobs: int, exclude: Sequence[str], refuse: Callable[[Refused], None]
    ) -> None:
        self.root = root
        self.checksum = checksum
        self.exclude = exclude
        self._excluded = excluding(exclude)
        self.refuse = refuse
        self.stop = threading.Event()
        self.problem: BaseException | None = None
        self._todo: queue.LifoQueue[str | tuple[str, list[str]] | None] = queue.LifoQueue()
        self._unfinished = 1
        self._lock = threading.Lock()
        self._gathered: Batch = []
        self._gathered_rows = 0
        self._out: queue.Queue[Batch | None] = queue.Queue(maxsize=4)
        self._todo.put("")
        self._jobs = jobs
        for number in range(jobs):
            threading.Thread(target=self._work, name=f"scan-{number}", daemon=True).start()

    def __iter__(self) -> Iterator[Batch]:
        while (batch := self._out.get()) is not None:
            yield batch
        if self.problem:
            raise self.problem

    def _work(self) -> None:
        try:
            while (task := self._todo.get()) is not None:
                if not self.stop.is_set():
                    if isinstance(task, str):
                        self._directory(task)
                    else:
                        self._files(*task)
                self._finished()
        except BaseException as error:  # noqa: BLE001 (raised again in the thread that iterates)
            self.problem = error
            self.stop.set()
            self._finished(everything=True)

    def _add(self, task: str | tuple[str, list[str]]) -> None:
        with self._lock:
            self._unfinished += 1
        self._todo.put(task)

    def _finished(self, *, everything: bool = False) -> None:
        with self._lock:
            ended = self._unfinished > 0 and (everything or self._unfinished == 1)
            self._unfinished = 0 if ended else self._unfinished - 1
            rest, self._gathered = (self._gathered, []) if ended else ([], self._gathered)
        if ended:
            if rest and not self.stop.is_set():
                self._out.put(rest)
            self._out.put(None)
            for _ in range(self._jobs):
                self._todo.put(None)

    def _directory(self, path: str) -> None:
        try:
            # By its descriptor, so that the system looks up one name per file and not the whole path.
            with _opened(f"{self.root}/{path}") as directory, os.scandir(directory) as entries:
                while self._entries(path, itertools.islice(entries, _CHUNK_ROWS)):
                    pass
        except OSError as error:
            self.refuse(Refused(path, f"the directory cannot be read: {error.strerror}"))

    def _entries(self, path: str, entries: Iterator[os.DirEntry[str]]) -> bool:
        """Whether there were any. None is kept: each would keep all that was asked of it, which costs as much again."""
        names: list[str] = []
        sizes: list[int] = []
        excluded, sized, entry = self._excluded, self.checksum == "none", None
        for entry in entries:
            name = entry.name
            if excluded and excluded(name):
                continue
            if not entry.is_file(follow_symlinks=False):
                self._no_file(path, entry)
            elif sized:
                try:
                    sizes.append(entry.stat(follow_symlinks=False).st_size)
                    names.append(name)
                except OSError as error:
                    self._refuse(path, name, _reason(error))
            else:
                names.append(name)
        # One text, so that what is rare is looked for at once.
        text = "\0" + "\0".join(names)
        if "\0." in text or _undecodable(text):
            sound = [self._is_sound(path, name) for name in names]
            names, sizes = list(itertools.compress(names, sound)), list(itertools.compress(sizes, sound))
        if sized:
            self._gather(Chunk(path, names, sizes))
        elif names:
            self._add((path, names))
        return entry is not None

    def _no_file(self, path: str, entry: os.DirEntry[str]) -> None:
        if entry.is_dir(follow_symlinks=False):
            self._subdirectory(path, entry.name)
        else:
            self._refuse(path, entry.name, _kind(entry))

    def _is_sound(self, path: str, name: str) -> bool:
        if fault := _undecodable(name):
            self._refuse(path, name, fault)
        return not fault and not _COPY_UNDER_WAY.fullmatch(name)

    def _subdirectory(self, path: str, name: str) -> None:
        if fault := _undecodable(name):
            self._refuse(path, name, fault)
        else:
            self._add(f"{path}/{name}" if path else name)

    def _files(self, path: str, names: list[str]) -> None:
        chunk = Chunk(path)
        buffer = memoryview(bytearray(_PIECE))
        try:
            with _opened(f"{self.root}/{path}") as directory:
                for name in names:
                    try:
                        size, adler32, sha256 = self._facts(directory, name, buffer)
                    except OSError as error:
                        self._refuse(path, name, _reason(error))
                        continue
                    chunk.names.append(name)
                    chunk.sizes.append(size)
                    chunk.adler32.append(adler32)
                    chunk.sha256.append(sha256)
        except OSError as error:
            self.refuse(Refused(path, f"the directory cannot be read: {error.strerror}"))
        self._gather(chunk)

    def _facts(self, directory: int, name: str, buffer: memoryview) -> tuple[int, int | None, bytes | None]:
        """Size and checksum of a file in an open directory."""
        handle = os.open(name, _OPEN_FLAGS, dir_fd=directory)
        try:
            size = os.readv(handle, [buffer])
            sha256 = hashlib.sha256(buffer[:size]) if self.checksum == "sha256" else None
            adler32 = zlib_ng.adler32(buffer[: 0 if sha256 else size])
            if size != os.fstat(handle).st_size:
                # Longer than the buffer, or changing meanwhile.
                while count := os.readv(handle, [buffer]):
                    size += count
                    if sha256:
                        sha256.update(buffer[:count])
                    else:
                        adler32 = zlib_ng.adler32(buffer[:count], adler32)
                if os.fstat(handle).st_size != size:
                    raise OSError(errno.EBUSY, "it changed while it was read")
        finally:
            os.close(handle)
        return (size, None, sha256.digest()) if sha256 else (size, adler32, None)

    def _gather(self, chunk: Chunk) -> None:
        full: Batch = []
        if not chunk.names:
            return
        with self._lock:
            self._gathered.append(chunk)
            self._gathered_rows += len(chunk.names)
            if self._gathered_rows >= BATCH_ROWS:
                full, self._gathered, self._gathered_rows = self._gathered, [], 0
        while full:
            try:
                self._out.put(full, timeout=0.5)
                return
            except queue.Full:
                if self.stop.is_set():
                    return

    def _refuse(self, path: str, name: str, reason: str) -> None:
        self.refuse(Refused(f"{path}/{name}" if path else name, reason))


def excluding(patterns: Sequence[str]) -> Callable[[str], object] | None:
    """Tells whether a name is like one of the patterns; None if there are none."""
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns)).match if patterns else None


def count_files(root: str, exclude: Sequence[str], stop: threading.Event) -> int:
    """How many files a scan will find, by names alone: a small part of the scan's own work."""
    count, waiting, excluded = 0, [root], excluding(exclude)
    while waiting and not stop.is_set():
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if excluded and excluded(entry.name):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        count += entry.is_file(follow_symlinks=False)
        except OSError:
            continue  # The scan tells of it.
    return count


def encoded(batch: Batch) -> bytes:
    """The batch as an Arrow stream."""
    import numpy as np
    import pyarrow as pa

    counts = [len(chunk.names) for chunk in batch]
    path = pa.DictionaryArray.from_arrays(
        pa.array(np.repeat(np.arange(len(batch), dtype=np.int32), counts)),
        pa.array([chunk.path for chunk in batch], pa.string()),
    )

    def column(name: str, kind: Any) -> Any:
        return pa.array([value for chunk in batch for value in getattr(chunk, name)], kind)

    columns = {"path": path, "name": column("names", pa.string()), "size_bytes": column("sizes", pa.int64())}
    for name, kind in (("adler32", pa.int64()), ("sha256", pa.binary(32))):
        if any(getattr(chunk, name) for chunk in batch):
            columns[name] = column(name, kind)
    table = pa.table(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


@contextmanager
def _opened(path: str) -> Iterator[int]:
    directory = os.open(path, _OPEN_FLAGS | os.O_DIRECTORY)
    try:
        yield directory
    finally:
        os.close(directory)


def _undecodable(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        return "the name is not valid UTF-8; rename the file"
    return ""


def _kind(entry: os.DirEntry[str]) -> str:
    try:
        mode = entry.stat(follow_symlinks=False).st_mode
    except OSError as error:
        return _reason(error)
    return next((reason for test, reason in _KINDS.items() if test(mode)), "is no regular file")


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "it vanished meanwhile"
    if error.errno == errno.ELOOP:
        return "is a symbolic link"
    return f"it cannot be read: {error.strerror}"
