"""Calls of the Linux kernel that Python's standard library lacks, or has only since 3.12: namespaces and mounts."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Optional

NEW_MOUNTS, NEW_IPC, NEW_USERS, NEW_PIDS = 0x00020000, 0x08000000, 0x10000000, 0x20000000
READ_ONLY, NO_SUID, NO_DEV, NO_EXEC, REMOUNT, BIND, RECURSIVE, SLAVE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 19
_NO_ATIME, _NO_DIRATIME, _RELATIME = 1024, 2048, 1 << 21
_DETACH = 2
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE = 442, -100, 0x8000  # The number is the same on every architecture.
_PR_SET_NO_NEW_PRIVS, _PR_SET_DUMPABLE = 38, 4
# What a remount in a user namespace must repeat, since it may not take it away.
_KEPT = {
    "ro": READ_ONLY, "nosuid": NO_SUID, "nodev": NO_DEV, "noexec": NO_EXEC, "noatime": _NO_ATIME,
    "nodiratime": _NO_DIRATIME, "relatime": _RELATIME,
}  # fmt: skip

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64), ("clear", ctypes.c_uint64), ("propagation", ctypes.c_uint64),
        ("users", ctypes.c_uint64),
    )  # fmt: skip


def unshare(flags: int) -> None:
    """Leave the namespaces that `flags` name for new ones."""
    _checked(_libc.unshare(flags), "new namespaces")


def enter(number: int, kind: int) -> None:
    """Join the namespace of an open file of /proc/PID/ns; for that of process ids, with the children to come."""
    _checked(_libc.setns(number, kind), "a namespace")


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    result = _libc.mount(
        os.fsencode(source), os.fsencode(target), kind.encode() or None, flags, options.encode() or None
    )
    _checked(result, target)


def bind(source: str, target: str) -> None:
    """Let `target` show what is at `source`, with everything that is mounted below it."""
    mount(source, target, flags=BIND | RECURSIVE)


def lock_down(root: str) -> None:
    """Make everything at and below `root` read-only, and its devices and set-uid bits without effect."""
    attributes = _MountAttributes(set=READ_ONLY | NO_SUID | NO_DEV)
    result = _libc.syscall(
        _MOUNT_SETATTR, _AT_FDCWD, os.fsencode(root), _AT_RECURSIVE, ctypes.byref(attributes), ctypes.sizeof(attributes)
    )
    if result == 0:
        return
    if ctypes.get_errno() != errno.ENOSYS:
        _checked(result, root)
    for target, flags in _mounts_below(root):  # Before Linux 5.12, one by one.
        try:
            mount("", target, flags=REMOUNT | BIND | READ_ONLY | NO_SUID | NO_DEV | flags)
        except OSError as error:
            # What is covered by another mount, or where this account may not go, the payload cannot reach either.
            if error.errno not in (errno.EACCES, errno.ENOENT, errno.ENOTDIR, errno.EINVAL):
                raise


def enter_root(root: str) -> None:
    """Make the mount at `root` the root of this process, and forget the old one."""
    os.chdir(root)
    _checked(_libc.pivot_root(b".", b"."), root)
    _checked(_libc.umount2(b".", _DETACH), "the old root")
    os.chdir("/")


def refuse_privileges() -> None:
    """From now on no program that this process becomes gets more rights by set-uid bits or file capabilities."""
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")


def set_dumpable(value: bool) -> None:
    """Whether other processes of the account may look into this one, and whether it owns its own files in /proc."""
    _libc.prctl(_PR_SET_DUMPABLE, int(value), 0, 0, 0)


def _mounts_below(root: str) -> list[tuple[str, int]]:
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            fields = line.split()
            target = fields[4].encode("latin-1", "replace").decode("unicode_escape")
            if target == root or target.startswith(root + "/"):
                flags = 0
                for word in fields[5].split(","):
                    flags |= _KEPT.get(word, 0)
                found.append((target, flags))
    return found


def _checked(result: int, what: Optional[str]) -> None:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
