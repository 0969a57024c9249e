"""What is kept of a payload: the output sandbox as a tar archive, and output data on storage elements."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import tarfile
import uuid
import zlib
from pathlib import Path
from typing import Any, Callable

from spinor_pilot.faults import Fault, told
from spinor_pilot.inputs import Check, source_of
from spinor_pilot.server import CHUNK, Server


def matching(directory: Path, patterns: list[str]) -> tuple[list[str], list[str]]:
    """Paths relative to `directory` that match, and the patterns that match nothing there."""
    found: dict[str, None] = {}
    missing = []
    for pattern in patterns:
        clean = os.path.normpath(pattern)
        if os.path.isabs(pattern) or clean.split("/")[0] == "..":
            missing.append(pattern)
            continue
        # The directory itself may hold characters that mean something in a pattern.
        hits = glob.glob(os.path.join(glob.escape(str(directory)), clean), recursive=True)
        inside = [hit for hit in hits if _stays_inside(hit, directory)]
        found.update((os.path.relpath(hit, directory), None) for hit in sorted(inside))
        if not inside:
            missing.append(pattern)
    return list(found), missing


def pack(directory: Path, names: list[str], target: Path) -> None:
    """A tar archive of files and whole directories, symbolic links kept as such; sockets and devices are left out."""

    def wanted(member: tarfile.TarInfo) -> Any:
        # Account names of the worker node mean nothing elsewhere.
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member if member.isfile() or member.isdir() or member.issym() else None

    try:
        with tarfile.open(target, "w") as archive:
            for name in names:
                archive.add(directory / name, arcname=name, filter=wanted)
    except OSError as error:
        raise Fault(told("collecting the output sandbox", error)) from error


def send_sandbox(
    server: Server, assignment: dict[str, Any], directory: Path, lost: Callable[[], bool]
) -> tuple[Any, list[str]]:
    """Upload what the output sandbox patterns match; its number (None when nothing matches) and what is missing."""
    names, missing = matching(directory, assignment["output_sandbox"])
    if not names:
        return None, missing
    archive = directory.parent / "output.tar"
    pack(directory, names, archive)
    with open(archive, "rb") as file:
        path = f"/api/pilot/sandboxes?job_id={assignment['job_id']}&attempt={assignment['attempt']}"
        answer = server.send("PUT", path, file, given_up=lost)
    archive.unlink()
    return answer["sandbox_id"], missing


def upload(output: dict[str, Any], directory: Path, check: Check) -> dict[str, Any]:
    """Copy one output file to its storage element; what the catalog needs to know of it.

    The bytes appear under their name at once and complete, or not at all.
    """
    source = directory / output["path"]
    if not source.is_file() or not _stays_inside(str(source), directory):
        raise Fault(f"The payload left no file {output['path']!r}, which was to become {output['lfn']}.")
    target = source_of(output["url"])
    hidden = target.with_name(f".{uuid.uuid4().hex}.part")
    adler, sha, size = 1, hashlib.sha256(), 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(source, "rb") as file, open(hidden, "xb") as out:
                while chunk := file.read(CHUNK):
                    check()
                    out.write(chunk)
                    size += len(chunk)
                    adler = zlib.adler32(chunk, adler)
                    sha.update(chunk)
                out.flush()
                os.fsync(out.fileno())
            os.rename(hidden, target)
            _sync_directory(target.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                hidden.unlink()
            raise
    except OSError as error:
        raise Fault(told(f"uploading {output['path']!r} as {output['lfn']} to {output['se']}", error)) from error
    return {
        "lfn": output["lfn"], "se": output["se"], "pfn": output["pfn"], "size_bytes": size,
        "adler32": f"{adler:08x}", "sha256": sha.hexdigest(),
    }  # fmt: skip


def remove(output: dict[str, Any]) -> None:
    """Take back an upload that will never be registered."""
    with contextlib.suppress(OSError):
        source_of(output["url"]).unlink()


def _stays_inside(path: str, directory: Path) -> bool:
    real = os.path.realpath(path)
    base = os.path.realpath(directory)
    return real == base or real.startswith(base + os.sep)


def _sync_directory(directory: Path) -> None:
    number = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
