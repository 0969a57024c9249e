"""Linux by its own interfaces: prctl, and processes as /proc tells them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterator
from typing import NamedTuple

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 1, 4, 36
_libc = ctypes.CDLL(None, use_errno=True)
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Process(NamedTuple):
    """A living process; times in seconds, its memory in bytes."""

    pid: int
    parent: int
    session: int
    cpu_s: float
    rss_bytes: int


def die_with_parent() -> None:
    """Let the kernel kill this process when the thread that started it ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def hide_memory() -> None:
    """Keep other processes of the same account from reading this one's memory and environment."""
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def processes() -> Iterator[Process]:
    """Every living process; zombies are left out."""
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as stat:
                # The name in parentheses may itself hold spaces and parentheses: count from the last one.
                fields = stat.read().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] not in "ZXx":
            cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
            yield Process(int(name), int(fields[1]), int(fields[3]), cpu_s, int(fields[21]) * _PAGE_BYTES)


def family(session: int, mark: str = "") -> list[Process]:
    """The processes of a session, and those that left it but carry `mark` (NAME=value) in their environment."""
    found = []
    for process in processes():
        if process.session == session or (mark and _carries(process.pid, mark)):
            found.append(process)
    return found


def kill_family(session: int, mark: str, number: int = signal.SIGKILL) -> None:
    """Signal a whole family. With SIGKILL, look again until nobody is left, since a process may fork meanwhile."""
    myself = os.getpid()
    for _ in range(50):
        members = [process.pid for process in family(session, mark) if process.pid != myself]
        for pid in members:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        if not members or number != signal.SIGKILL:
            return
        time.sleep(0.005)


def _carries(pid: int, mark: str) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as environ:
            return mark.encode() in environ.read().split(b"\0")
    except OSError:
        return False
