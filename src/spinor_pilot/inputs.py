"""What a payload finds in its directory at its start: unpacked sandboxes, and verified copies of its input data."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tarfile
import tempfile
import urllib.parse
import zlib
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Callable

from spinor_pilot.faults import DataFault, Fault, SiteFault, told
from spinor_pilot.server import CHUNK, Server

Check = Callable[[], None]  # Raises Lost when nobody wants the job any more.


def fetch_sandbox(
    server: Server, assignment: dict[str, Any], sandbox: dict[str, Any], directory: Path, lost: Callable[[], bool]
) -> None:
    """Unpack one input sandbox into `directory`, after its checksum was compared."""
    number, expected = sandbox["sandbox_id"], sandbox.get("sha256")
    with tempfile.TemporaryFile() as file:
        path = f"/api/pilot/sandboxes/{number}?job_id={assignment['job_id']}&attempt={assignment['attempt']}"
        server.download(path, file, lost)
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
        unpack(file, directory, f"input sandbox {number}")


def unpack(file: BinaryIO, directory: Path, what: str) -> None:
    """Unpack a tar archive of plain files, directories and links that stay inside; anything else is refused."""
    links: list[tuple[Path, str]] = []
    try:
        with tarfile.open(fileobj=file, mode="r:*") as archive:
            for member in archive:
                target = directory / _inside(member.name, what)
                if member.isdir():
                    target.mkdir(parents=True, exist_ok=True)
                elif member.isfile():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    content = archive.extractfile(member)
                    assert content is not None
                    target.unlink(missing_ok=True)
                    with content, open(target, "xb") as out:
                        shutil.copyfileobj(content, out, CHUNK)
                    os.chmod(target, (member.mode & 0o777) | 0o600)
                elif member.issym():
                    _inside(str(PurePosixPath(member.name).parent / member.linkname), what)
                    links.append((target, member.linkname))
                else:
                    raise Fault(f"{member.name!r} in {what} is neither a file, a directory nor a symbolic link.")
            # Links come last, so that no file can be written through one of them.
            for target, name in links:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.unlink(missing_ok=True)
                target.symlink_to(name)
    except tarfile.TarError as error:
        raise Fault(f"The {what} is not a tar archive that can be read: {error}.") from error
    except OSError as error:
        raise SiteFault(told(f"unpacking {what}", error)) from error


def _inside(name: str, what: str) -> str:
    clean = os.path.normpath(name)
    if name.startswith("/") or clean == ".." or clean.startswith("../") or "\0" in name:
        raise Fault(f"The path {name!r} in {what} leads out of the job's directory.")
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
        path = one["lfn"].lstrip("/") if counts[name] > 1 or (directory / name).exists() else name
        target = directory / path
        if target.exists():
            raise Fault(f"Input data {one['lfn']} and a file of the input sandbox have the same name {path!r}.")
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch_one(one, target, check)
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


def _fetch_one(one: dict[str, Any], target: Path, check: Check) -> None:
    tried = []
    for replica in one["replicas"]:
        try:
            _copy_verified(one, source_of(replica["url"]), target, check)
            return
        except (OSError, Fault) as error:
            reason = str(error) if isinstance(error, Fault) else told("reading it", error)
            tried.append(f"{replica['se']}: {reason}")
            with contextlib.suppress(OSError):
                target.unlink()
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


def _copy_verified(one: dict[str, Any], source: Path, target: Path, check: Check) -> None:
    adler, sha, size = 1, hashlib.sha256(), 0
    # Adler-32 is enough to catch damage and much cheaper; SHA-256 is for files that have nothing else.
    by_sha = one.get("adler32") is None and one.get("sha256") is not None
    with open(source, "rb") as file, open(target, "xb") as out:
        while chunk := file.read(CHUNK):
            check()
            out.write(chunk)
            size += len(chunk)
            adler = zlib.adler32(chunk, adler)
            if by_sha:
                sha.update(chunk)
    if size != one["size_bytes"]:
        raise Fault(f"it has {size} bytes, and the catalog says {one['size_bytes']}")
    if one.get("adler32") is not None and f"{adler:08x}" != one["adler32"]:
        raise Fault(f"its adler32 is {adler:08x}, and the catalog says {one['adler32']}")
    if by_sha and sha.hexdigest() != one["sha256"]:
        raise Fault(f"its sha256 is {sha.hexdigest()}, and the catalog says {one['sha256']}")
    os.chmod(target, 0o444)
