"""What goes wrong on a worker node, told in full: what was tried, where, what the system said, what helps."""

from __future__ import annotations

import errno
import os

REMEDIES = {
    errno.ENOSPC: "free disk space on the node, or ask for more with disk_bytes",
    errno.EDQUOT: "free space in the quota of the pilot's account",
    errno.EACCES: "check the permissions for the pilot's account",
    errno.EPERM: "check the permissions for the pilot's account",
    errno.ENOENT: "check the spelling, and that the file is part of the input sandbox",
    errno.ENOEXEC: "begin the script with a line such as #!/bin/sh, or build the program for this machine",
    errno.EROFS: "the file system is mounted read-only; tell the site",
    errno.EIO: "the disk or the network file system fails; tell the site",
    errno.E2BIG: "shorten the arguments or the environment",
    errno.EMFILE: "raise the limit of open files of the pilot's account",
    errno.ENOMEM: "the node is out of memory; tell the site",
}


class Fault(Exception):
    """The payload cannot be run, or its results cannot be kept; the sentence goes to the job's owner."""

    error_class = "payload"


class SiteFault(Fault):
    """The node, the pilot or something else of the site is at fault: elsewhere the same job may well run."""

    error_class = "site"


class ImageFault(SiteFault):
    """An image cannot be run here. That may be its name as well, so it says nothing about the node for other jobs."""


class DataFault(Fault):
    """Inputs cannot be read or outputs cannot be written."""

    error_class = "data"


class Lost(Exception):
    """The server has taken the job away (killed, rescheduled, lease lost); nothing more is reported for it."""


def told(doing: str, error: BaseException) -> str:
    """One sentence about an error while `doing` something: with file, errno and remedy where there are any."""
    if not isinstance(error, OSError) or error.errno is None:
        return f"{doing}: {type(error).__name__}: {error}"
    where = "" if error.filename is None else f" on {os.fsdecode(error.filename)!r}"
    name = errno.errorcode.get(error.errno, str(error.errno))
    remedy = REMEDIES.get(error.errno)
    return f"{doing}: {error.strerror}{where} ({name})" + (f"; {remedy}" if remedy else "")
