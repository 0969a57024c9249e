"""Read a directory tree by several threads, as batches of rows for `register-batch`."""

import errno
import fnmatch
import hashlib
import os
import queue
import re
import stat
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

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


@dataclass
class Chunk:
    """Files directly inside one directory of the tree (`""` is its root)."""

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
        names: list[str] = []
        try:
            with os.scandir(os.path.join(self.root, path)) as entries:  # noqa: PTH118 (a Path per entry costs a third)
                for entry in entries:
                    name = entry.name
                    if any(fnmatch.fnmatchcase(name, pattern) for pattern in self.exclude):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        self._subdirectory(path, name)
                    elif entry.is_file(follow_symlinks=False):
                        names.append(name)
                        if len(names) == _CHUNK_ROWS:
                            self._add((path, names))
                            names = []
                    else:
                        self._refuse(path, name, _kind(entry))
        except OSError as error:
            self.refuse(Refused(path, f"the directory cannot be read: {error.strerror}"))
        if names:
            self._files(path, names)

    def _subdirectory(self, path: str, name: str) -> None:
        if fault := _undecodable(name):
            self._refuse(path, name, fault)
        else:
            self._add(f"{path}/{name}" if path else name)

    def _files(self, path: str, names: list[str]) -> None:
        chunk = Chunk(path)
        for name in names:
            if _COPY_UNDER_WAY.fullmatch(name):
                continue
            if fault := _undecodable(name):
                self._refuse(path, name, fault)
                continue
            try:
                size, adler32, sha256 = self._facts(f"{self.root}/{path}/{name}" if path else f"{self.root}/{name}")
            except OSError as error:
                self._refuse(path, name, _reason(error))
                continue
            chunk.names.append(name)
            chunk.sizes.append(size)
            chunk.adler32.append(adler32)
            chunk.sha256.append(sha256)
        if chunk.names:
            self._gather(chunk)

    def _facts(self, path: str) -> tuple[int, int | None, bytes | None]:
        if self.checksum == "none":
            return os.stat(path, follow_symlinks=False).st_size, None, None  # noqa: PTH116
        adler32, sha256, size = 1, hashlib.sha256(), 0
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(handle, "rb", buffering=0) as source:
            while piece := source.read(_PIECE):
                size += len(piece)
                if self.checksum == "adler32":
                    adler32 = zlib.adler32(piece, adler32)
                else:
                    sha256.update(piece)
            if os.fstat(handle).st_size != size:
                raise OSError(errno.EBUSY, "it changed while it was read")
        return (size, adler32, None) if self.checksum == "adler32" else (size, None, sha256.digest())

    def _gather(self, chunk: Chunk) -> None:
        full: Batch = []
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


def count_files(root: str, exclude: Sequence[str], stop: threading.Event) -> int:
    """How many files a scan will find, by names alone: a small part of the scan's own work."""
    count, waiting = 0, [root]
    while waiting and not stop.is_set():
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if any(fnmatch.fnmatchcase(entry.name, pattern) for pattern in exclude):
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
        pa.array(np.repeat(np.arange(len(batch), dtype=np.int32), counts)), pa.array([chunk.path for chunk in batch])
    )

    def column(name: str, kind: Any) -> Any:
        return pa.chunked_array([pa.array(getattr(chunk, name), kind) for chunk in batch], kind).combine_chunks()

    table = pa.table(
        {
            "path": path.cast(pa.string()),
            "name": column("names", pa.string()),
            "size_bytes": column("sizes", pa.int64()),
            "adler32": column("adler32", pa.int64()),
            "sha256": column("sha256", pa.binary()),
        }
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


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
