"""What is kept of a payload: the output sandbox as a tar archive, and output data on storage elements.

The payload has ended by now, but what it left may be a trap: links, pipes, names with line breaks, files of any size.
Every file is opened below the job's directory without following a link.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import stat
import tarfile
import urllib.parse
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Callable, Optional

from spinor_pilot import beneath
from spinor_pilot.faults import DataFault, Fault, told
from spinor_pilot.inputs import Check, source_of
from spinor_pilot.server import CHUNK, Refused, Server

_TOO_MUCH = frozenset({"sandbox-too-large", "sandbox-quota"})


def matching(directory: Path, patterns: list[str]) -> tuple[list[str], list[str]]:
    """Paths relative to `directory` that match, and a line for each pattern without a match or with one outside."""
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
        if not hits:
            missing.append(pattern)
        elif not inside:
            missing.append(f"{pattern} (a link out of the job's directory)")
    return list(found), missing


def pack(directory: Path, names: list[str], target: Path, most_bytes: int) -> None:
    """A tar archive of files and whole directories, symbolic links kept as such; sockets and devices are left out."""
    left, seen = most_bytes, set()
    try:
        with tarfile.open(target, "w") as archive:
            for name in names:
                for entry in beneath.walk(str(directory), name):
                    if entry.path == "." or entry.path in seen:
                        continue
                    seen.add(entry.path)
                    left -= entry.status.st_size if stat.S_ISREG(entry.status.st_mode) else 0
                    if left < 0:
                        raise Fault(
                            f"The output sandbox would have more than the job's {most_bytes:,} bytes of disk. "
                            "Name fewer files, or ask for more with disk_bytes."
                        )
                    _add(archive, str(directory), entry)
    except OSError as error:
        raise Fault(told("collecting the output sandbox", error)) from error


def _add(archive: tarfile.TarFile, top: str, entry: beneath.Entry) -> None:
    # Account names of the worker node mean nothing elsewhere, and neither do bits that change them.
    member = tarfile.TarInfo(entry.path)
    member.mtime, member.mode = int(entry.status.st_mtime), stat.S_IMODE(entry.status.st_mode) & 0o777
    if stat.S_ISDIR(entry.status.st_mode):
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
    elif stat.S_ISLNK(entry.status.st_mode):
        number = beneath.open_directory(top, os.path.dirname(entry.path))
        try:
            member.type, member.linkname = tarfile.SYMTYPE, os.readlink(os.path.basename(entry.path), dir_fd=number)
        finally:
            os.close(number)
        archive.addfile(member)
    elif stat.S_ISREG(entry.status.st_mode):
        with beneath.open_file(top, entry.path) as file:
            member.size = os.fstat(file.fileno()).st_size
            archive.addfile(member, file)


def send_sandbox(
    server: Server, assignment: dict[str, Any], directory: Path, most_bytes: int, lost: Callable[[], bool]
) -> tuple[Optional[int], list[str]]:
    """Upload what the output sandbox patterns match; its number (None when there is none) and what is missing."""
    names, missing = matching(directory, assignment["output_sandbox"])
    if not names:
        return None, missing
    archive = directory.parent / "output.tar"
    try:
        pack(directory, names, archive, most_bytes)
    except Fault as fault:
        return None, [*missing, f"output sandbox: {fault}"]
    with open(archive, "rb") as file:
        path = f"/api/pilot/sandboxes?job_id={assignment['job_id']}&attempt={assignment['attempt']}"
        try:
            answer = server.send("PUT", path, file, given_up=lost)
        except Refused as refused:
            if refused.code not in _TOO_MUCH:
                raise
            return None, [*missing, f"output sandbox: {refused.detail}"]
    archive.unlink()
    return answer["sandbox_id"], missing


def copy_stream(source: Path, top: str, path: str) -> None:
    """Leave a stream also as a file in the job's directory, where output patterns find it."""
    try:
        with open(source, "rb") as file, beneath.create_file(top, path) as out:
            while chunk := file.read(CHUNK):
                out.write(chunk)
    except OSError as error:
        raise Fault(told(f"keeping {source.name} as {path!r}", error)) from error


def deliver(
    output: dict[str, Any], top: str, missing: list[str], check: Check, uploaded: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Bring the files of one output to its places; what the catalog needs to know of each copy.

    Places that took a file are added to `uploaded` before they do, so that it can be taken back.
    """
    names = list(_files_of(output, top))
    if not names:
        missing.append(output["path"])
        if output["required"]:
            raise Fault(f"The payload left no file {output['path']!r}, which was to become {output['lfn']}.")
    told_of = []
    for name in names:
        refusals: list[str] = []
        kept: list[dict[str, Any]] = []
        # All the places; and only when none of them takes the file, the first other one that does.
        for place in (*output["places"], *output["failover"]):
            if kept and place in output["failover"]:
                break
            full = _named(place, output["lfn"], name)
            try:
                uploaded.append(full)
                kept.append(_upload(full, top, name, check))
            except (OSError, Fault) as error:
                uploaded.remove(full)
                refusals.append(str(error) if isinstance(error, Fault) else told(f"{full['se']}", error))
        if not kept:
            raise DataFault(
                f"No storage took {name!r} as {output['lfn']}. " + " ".join(f"[{refusal}]" for refusal in refusals)
            )
        told_of += kept
    return told_of


def _files_of(output: dict[str, Any], top: str) -> Iterator[str]:
    """The output's files, relative to the job's directory; what is no plain file of its own there is refused."""
    directory = Path(top)
    names = [output["path"]] if os.path.lexists(directory / output["path"]) else []
    if not names and glob.has_magic(output["path"]):
        names, _ = matching(directory, [output["path"]])
        names = [name for name in names if (directory / name).is_file()]
    for name in names:
        if not _stays_inside(str(directory / name), directory):
            raise Fault(f"The output {name!r} is a link that leads out of the job's directory.")
        if any(ord(character) < 32 or ord(character) == 127 for character in name):
            raise Fault(f"The output {name!r} has a control character in its name, which no LFN may have.")
        if any("\udc80" <= character <= "\udcff" for character in name):  # So Python writes bytes that are no text.
            raise Fault(f"The name of the output {name!r} is not UTF-8, as that of an LFN must be.")
        yield name


def _named(place: dict[str, Any], lfn: str, name: str) -> dict[str, Any]:
    """The place of one file: `{file}` stands for its name where the output is a pattern."""
    base = os.path.basename(name)
    return {
        "se": place["se"], "lfn": lfn.replace("{file}", base), "pfn": place["pfn"].replace("{file}", base),
        "url": place["url"].replace("{file}", urllib.parse.quote(base)).replace("%7Bfile%7D", urllib.parse.quote(base)),
    }  # fmt: skip


def _upload(place: dict[str, Any], top: str, name: str, check: Check) -> dict[str, Any]:
    """Copy one file. The bytes appear under their name at once and complete, or not at all."""
    # A link to another file of the job is followed here, to a path without any.
    plain = os.path.relpath(os.path.realpath(os.path.join(top, name)), os.path.realpath(top))
    target = source_of(place["url"])
    hidden = target.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with beneath.open_file(top, plain) as file:
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(hidden, "xb") as out:
                facts = _copy(file, out, check)
                out.flush()
                os.fsync(out.fileno())
        os.rename(hidden, target)
        _sync_directory(target.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            hidden.unlink()
        raise
    return {"lfn": place["lfn"], "se": place["se"], "pfn": place["pfn"], **facts}


def _copy(file: BinaryIO, out: BinaryIO, check: Check) -> dict[str, Any]:
    adler, sha, size = 1, hashlib.sha256(), 0
    while chunk := file.read(CHUNK):
        check()
        out.write(chunk)
        size += len(chunk)
        adler = zlib.adler32(chunk, adler)
        sha.update(chunk)
    return {"size_bytes": size, "adler32": f"{adler:08x}", "sha256": sha.hexdigest()}


def remove(place: dict[str, Any]) -> None:
    """Take back an upload that will never be registered."""
    with contextlib.suppress(OSError):
        source_of(place["url"]).unlink()


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
