"""What a payload finds in its directory at its start: unpacked sandboxes, and verified copies of its input data."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import tarfile
import tempfile
import urllib.parse
import zlib
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO, Callable

from spinor_pilot import beneath
from spinor_pilot.faults import DataFault, Fault, Lost, SiteFault, told
from spinor_pilot.server import CHUNK, Server

Check = Callable[[], None]  # Raises Lost when nobody wants the job any more.

_LONGEST_PATH_BYTES = 1000  # Far below PATH_MAX, since the job's directory stands before it.
# What an archive does to itself, on whichever node: a file below a link or another file, a name of a directory as well.
_OWN_FAULTS = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EXDEV, errno.EINVAL, errno.ENAMETOOLONG})


class Room:
    """What a job's input sandboxes may still take on the disk, all of them together."""

    def __init__(self, most_bytes: int, lost: Callable[[], bool]) -> None:
        self.lost = lost
        self._most_bytes = most_bytes
        self._left_bytes = most_bytes

    def take(self, size_bytes: int) -> None:
        """Called before so much is written. Raises Lost, too."""
        if self.lost():
            raise Lost
        self._left_bytes -= size_bytes
        if self._left_bytes < 0:
            raise Fault(
                f"The input sandboxes take more than the job's {self._most_bytes:,} bytes of disk. "
                "Send fewer files, or ask for more with disk_bytes."
            )


def fetch_sandbox(
    server: Server, assignment: dict[str, Any], sandbox: dict[str, Any], directory: Path, room: Room
) -> None:
    """Unpack one input sandbox into `directory`, after its checksum was compared."""
    number, expected = sandbox["sandbox_id"], sandbox.get("sha256")
    with tempfile.TemporaryFile() as file:
        path = f"/api/pilot/sandboxes/{number}?job_id={assignment['job_id']}&attempt={assignment['attempt']}"
        server.download(path, file, room.lost)
        file.seek(0)
        digest = hashlib.sha256()
        while chunk := file.read(CHUNK):
            digest.update(chunk)
        if expected and digest.hexdigest() != expected:
            raise DataFault(
                f"Input sandbox {number} arrived damaged: its SHA-256 is {digest.hexdigest()}, and the server "
                f"announced {expected}."
            )
        file.seek(0)
        unpack(file, directory, f"input sandbox {number}", room.take)


def unpack(file: BinaryIO, directory: Path, what: str, take: Callable[[int], None] = lambda _: None) -> None:
    """Unpack a tar archive of plain files, directories and links that stay inside; anything else is refused.

    It is not compressed, so it takes no more on the disk than it has bytes. `take` is told of them before.
    """
    links: list[tuple[str, str]] = []
    top, path = str(directory), ""
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                take(0)
                path = _inside(member, what)
                if member.isdir():
                    beneath.create_directory(top, path)
                elif member.isfile():
                    _unpack_file(archive, member, (top, path), take)
                else:
                    links.append((path, member.linkname))
            # Links come last: then the directories are there that they lead through.
            for path, target in links:
                beneath.create_link(top, path, target)
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        raise Fault(f"The {what} is not a tar archive that can be read: {error}.") from error
    except OSError as error:
        if error.errno in _OWN_FAULTS:
            raise Fault(told(f"unpacking {path!r} of {what}", error)) from error
        raise SiteFault(told(f"unpacking {what}", error)) from error


def _unpack_file(
    archive: tarfile.TarFile, member: tarfile.TarInfo, place: tuple[str, str], take: Callable[[int], None]
) -> None:
    content = archive.extractfile(member)
    assert content is not None
    with content, beneath.create_file(*place) as out:
        while chunk := content.read(CHUNK):
            take(len(chunk))
            out.write(chunk)
        os.fchmod(out.fileno(), (member.mode & 0o777) | 0o600)


def _inside(member: tarfile.TarInfo, what: str) -> str:
    """Its path, which may lead through links: `beneath` refuses those."""
    if not (member.isdir() or member.isfile() or member.issym()) or member.issparse() or member.size < 0:
        raise Fault(f"{member.name!r} in {what} is neither a plain file, a directory nor a symbolic link.")
    clean = os.path.normpath(member.name)
    if member.name.startswith("/") or clean == ".." or clean.startswith("../") or "\0" in member.name + member.linkname:
        raise Fault(f"The path {member.name!r} in {what} leads out of the job's directory.")
    if len(os.fsencode(clean)) > _LONGEST_PATH_BYTES:
        raise Fault(f"The path {clean[:100]!r}... in {what} has more than {_LONGEST_PATH_BYTES} bytes.")
    return clean


def fetch_data(inputs: list[dict[str, Any]], directory: Path, check: Check) -> list[dict[str, str]]:
    """Copy the input data into `directory`, read-only; LFN and path of each.

    A file stands under the last part of its LFN. Where that name is taken, by another input or from a sandbox, it
    stands under its whole LFN, `demo/run1/events.dat`.
    """
    names = [one["lfn"].rpartition("/")[2] for one in inputs]
    counts = Counter(names)
    listed = []
    for one, name in zip(inputs, names):
        path = one["lfn"].lstrip("/") if counts[name] > 1 or os.path.lexists(directory / name) else name
        if os.path.lexists(directory / path):
            raise Fault(f"Input data {one['lfn']} and a file of the input sandbox have the same name {path!r}.")
        try:
            out = beneath.create_file(str(directory), path)
        except OSError as error:
            kind = Fault if error.errno in _OWN_FAULTS else SiteFault
            raise kind(told(f"making the file {path!r} for input data {one['lfn']}", error)) from error
        try:
            with out:
                _fetch_one(one, out, check)
        except BaseException:
            with contextlib.suppress(OSError):
                beneath.remove_file(str(directory), path)
            raise
        listed.append({"lfn": one["lfn"], "path": path})
    return listed


def where_they_are(inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For a payload that opens its input data itself: LFN and the addresses of each, the best first."""
    listed = []
    for one in inputs:
        urls = [replica["url"] for replica in one["replicas"]]
        if not urls:
            raise DataFault(f"Input data {one['lfn']} has no replica that can be read now.")
        listed.append({"lfn": one["lfn"], "url": urls[0], "urls": urls, "size_bytes": one["size_bytes"]})
    return listed


def local_files(assignment: dict[str, Any]) -> list[str]:
    """Replicas that are files of this node, which the payload must be able to see."""
    urls = [replica["url"] for one in assignment["input_data"] for replica in one["replicas"]]
    return [str(source_of(url)) for url in urls if url.startswith("file:")]


def _fetch_one(one: dict[str, Any], out: BinaryIO, check: Check) -> None:
    tried = []
    for replica in one["replicas"]:
        try:
            _copy_verified(one, source_of(replica["url"]), out, check)
            return
        except (OSError, Fault) as error:
            reason = str(error) if isinstance(error, Fault) else told("reading it", error)
            tried.append(f"{replica['se']}: {reason}")
    if not tried:
        raise DataFault(f"Input data {one['lfn']} has no replica that can be read now.")
    reasons = " ".join(f"[{text}]" for text in tried)
    raise DataFault(f"No replica of input data {one['lfn']} could be fetched. {reasons}")


def source_of(url: str) -> Path:
    """The local path of a file:// URL."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise Fault(f"This pilot cannot reach {url}: it knows file:// addresses only.")
    return Path(urllib.parse.unquote(parts.path))


def _copy_verified(one: dict[str, Any], source: Path, out: BinaryIO, check: Check) -> None:
    adler, sha, size = 1, hashlib.sha256(), 0
    # Adler-32 is enough to catch damage and much cheaper; SHA-256 is for files that have nothing else.
    by_sha = one.get("adler32") is None and one.get("sha256") is not None
    out.seek(0)
    out.truncate()  # Of what another replica has left.
    with open(source, "rb") as file:
        while chunk := file.read(CHUNK):
            check()
            out.write(chunk)
            size += len(chunk)
            adler = zlib.adler32(chunk, adler)
            if by_sha:
                sha.update(chunk)
    out.flush()
    if size != one["size_bytes"]:
        raise Fault(f"it has {size} bytes, and the catalog says {one['size_bytes']}")
    if one.get("adler32") is not None and f"{adler:08x}" != one["adler32"]:
        raise Fault(f"its adler32 is {adler:08x}, and the catalog says {one['adler32']}")
    if by_sha and sha.hexdigest() != one["sha256"]:
        raise Fault(f"its sha256 is {sha.hexdigest()}, and the catalog says {one['sha256']}")
    os.fchmod(out.fileno(), 0o444)
