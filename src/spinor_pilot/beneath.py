"""Files below a directory that a stranger may write to: opened so that no link can lead out of it."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from spinor_pilot.faults import Fault

_PLAIN = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # A named pipe would otherwise wait for its other end.
DEEPEST = 500
_LEADS_OUT = "it leads out of the job's directory"


class Entry(NamedTuple):
    """Something below the directory; `path` is relative to it."""

    path: str
    status: os.stat_result


def open_file(top: str, path: str) -> BinaryIO:
    """A regular file for reading. OSError (ELOOP) for a symbolic link anywhere on the way, EINVAL for anything else."""
    with _parent(top, path, False) as (parent, name):
        number = os.open(name, os.O_RDONLY | _PLAIN, dir_fd=parent)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return os.fdopen(number, "rb")


def create_file(top: str, path: str) -> BinaryIO:
    """A new file for writing, with the directories above it; what was there under its name goes."""
    with _parent(top, path, True) as (parent, name):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=parent)
        return os.fdopen(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _PLAIN, 0o644, dir_fd=parent), "wb")


def create_link(top: str, path: str, target: str) -> None:
    """A new symbolic link, in place of what was there under its name.

    OSError (EXDEV) for one that leads out now, or could when another link is created later.
    """
    with _parent(top, path, True) as (parent, name):
        _check_stays(top, _parts(path)[:-1], target)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=parent)
        os.symlink(target, name, dir_fd=parent)


def create_directory(top: str, path: str) -> None:
    """A directory with those above it, unless it is there already."""
    os.close(_descend(top, _parts(path), True))


def remove_file(top: str, path: str) -> None:
    with _parent(top, path, False) as (parent, name):
        os.unlink(name, dir_fd=parent)


def walk(top: str, path: str = ".") -> Iterator[Entry]:
    """What is at `path` and below it, directories before what is in them; links are told, never followed.

    Each directory is reached from the top, so a payload could keep us busy for hours: Fault for one that is too deep.
    """
    path = os.path.normpath(path)
    status = os.lstat(top) if path == "." else _status(top, path)
    pending = [Entry(path, status)]
    while pending:
        entry = pending.pop()
        yield entry
        if not stat.S_ISDIR(entry.status.st_mode):
            continue
        if entry.path.count("/") >= DEEPEST:
            raise Fault(f"The payload has nested its directories more than {DEEPEST} deep.")
        try:
            number = open_directory(top, entry.path)
        except OSError:
            continue  # Gone meanwhile, or closed to us.
        inner = []
        try:
            for name in sorted(os.listdir(number)):
                with contextlib.suppress(OSError):
                    found = os.stat(name, dir_fd=number, follow_symlinks=False)
                    inner.append(Entry(name if entry.path == "." else f"{entry.path}/{name}", found))
        finally:
            os.close(number)
        pending += reversed(inner)


def open_directory(top: str, path: str) -> int:
    """The number of an open directory; the caller closes it."""
    return _descend(top, _parts(path), False)


def _descend(top: str, parts: list[str], make: bool) -> int:
    number = os.open(top, os.O_RDONLY | os.O_DIRECTORY | _PLAIN)
    for part in parts:
        try:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=number)
            deeper = os.open(part, os.O_RDONLY | os.O_DIRECTORY | _PLAIN, dir_fd=number)
        finally:
            os.close(number)
        number = deeper
    return number


def _check_stays(top: str, above: list[str], target: str) -> None:
    if not target or target.startswith("/"):
        raise OSError(errno.EXDEV, _LEADS_OUT, target)
    place = list(above)
    for part in target.split("/"):
        if part in ("", "."):
            continue
        if part != "..":
            place.append(part)
            continue
        # Back from a link is not where one came from, and where nothing is now a link may come to stand. A directory
        # stays one.
        try:
            os.close(_descend(top, place, False))
        except OSError as error:
            raise OSError(errno.EXDEV, _LEADS_OUT, target) from error
        if not place:
            raise OSError(errno.EXDEV, _LEADS_OUT, target)
        place.pop()


def _status(top: str, path: str) -> os.stat_result:
    with _parent(top, path, False) as (parent, name):
        return os.stat(name, dir_fd=parent, follow_symlinks=False)


@contextlib.contextmanager
def _parent(top: str, path: str, make: bool) -> Iterator[tuple[int, str]]:
    *above, name = _parts(path) or [""]
    if not name:
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    number = _descend(top, above, make)
    try:
        yield number, name
    finally:
        os.close(number)


def _parts(path: str) -> list[str]:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or ".." in parts or "\0" in path:
        raise OSError(errno.EXDEV, _LEADS_OUT, path)
    return parts
