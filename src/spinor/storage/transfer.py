"""Move bytes between this machine and a storage, for commands and whoever else runs where the bytes are wanted."""

from pathlib import Path
from typing import TypeVar

from spinor.errors import SpinorError
from spinor.storage.models import FileReplicas
from spinor.storage.plugin import Checksums, FileMissing, Progress, Transfer
from spinor.storage.registry import open_url

T = TypeVar("T")


def fetch(
    url: str,
    local: Path,
    *,
    size_bytes: int | None = None,
    adler32: str | None = None,
    sha256: str | None = None,
    progress: Progress | None = None,
) -> Checksums:
    """Copy out; what is known of the file is verified while copying. `local` appears complete or not at all.

    Raises the plugin's errors: FileMissing, ChecksumWrong, StorageFull (the local disk), StorageUnavailable.
    """
    plugin, path = open_url(url)
    transfer = Transfer(path=path, local=local, size_bytes=size_bytes, adler32=adler32, sha256=sha256)
    return _only(plugin.get([transfer], progress))


def fetch_any(file: FileReplicas, local: Path, progress: Progress | None = None) -> Checksums:
    """Copy out from the first replica that can be read whole and right. Raises the last replica's error."""
    why = f": {'; '.join(file.out_of_use)}" if file.out_of_use else ""
    problem: SpinorError = FileMissing(f"{file.lfn} has no replica that can be read{why}.", lfn=file.lfn)
    for replica in file.replicas:
        try:
            return fetch(
                replica.url, local, size_bytes=file.size_bytes, adler32=file.adler32, sha256=file.sha256,
                progress=progress,
            )  # fmt: skip
        except SpinorError as error:
            problem = error
    raise problem


def store(local: Path, url: str, progress: Progress | None = None) -> Checksums:
    """Copy in, with the checksums of the bytes that went. The file appears complete and durable, or not at all.

    Raises the plugin's errors: StorageFull, StorageReadOnly, StorageUnavailable (try again).
    """
    plugin, path = open_url(url)
    return _only(plugin.put([Transfer(path=path, local=local)], progress))


def discard(url: str) -> None:
    """Delete what was stored in vain. Raises the plugin's errors."""
    plugin, path = open_url(url)
    _only(plugin.remove([path]))


def _only(answers: list[T | SpinorError]) -> T:
    answer = answers[0]
    if isinstance(answer, SpinorError):
        raise answer
    return answer
