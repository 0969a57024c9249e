"""Linux by its own interfaces: prctl, and processes as /proc tells them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterator
from typing import NamedTuple, Optional

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_libc = ctypes.CDLL(None, use_errno=True)
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# Accounts that nobody gives to people or services: above those of systemd's containers, below 2**31.
OWN_UIDS = (1_900_000_000, 2_100_000_000)
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
    return [process for process in processes() if belongs(process, session, mark)]


def belongs(process: Process, session: int, mark: str) -> bool:
    return process.session == session or bool(mark and _carries(process.pid, mark))


def descendants(ancestor: int, everybody: list[Process]) -> list[Process]:
    """Those below `ancestor`, without itself."""
    below: dict[int, list[Process]] = {}
    for process in everybody:
        below.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    parents = [ancestor]
    while parents:
        inner = below.pop(parents.pop(), [])
        found += inner
        parents += [process.pid for process in inner]
    return found


def io_of(pid: int) -> tuple[int, int]:
    """Bytes that a process has read from disk and written to it; zero where nobody may know."""
    try:
        with open(f"/proc/{pid}/io", encoding="ascii") as lines:
            counts = dict(line.split(": ") for line in lines)
        return int(counts["read_bytes"]), int(counts["write_bytes"])
    except (OSError, ValueError, KeyError):
        return 0, 0


def pss_of(pid: int, otherwise: int) -> int:
    """A process's memory, where memory shared by n processes counts as 1/n for each."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass  # Before Linux 4.14, or the process has ended.
    return otherwise


def kill_family(session: int, mark: str, number: int = signal.SIGKILL, uid: Optional[int] = None) -> None:
    """Signal a whole family. With SIGKILL, look again until nobody is left, since a process may fork meanwhile.

    A family with an account of its own is everybody of that account, and is reached by one call of the kernel.
    """
    if uid is not None:
        _kill_account(uid, number)
        return
    myself = os.getpid()
    for _ in range(50):
        members = [process.pid for process in family(session, mark) if process.pid != myself]
        for pid in members:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        if not members or number != signal.SIGKILL:
            return
        time.sleep(0.005)


def _kill_account(uid: int, number: int) -> None:
    """Signal every process of an account that was made up for one payload. For a process with one thread only."""
    if uid < OWN_UIDS[0]:
        raise ValueError(f"{uid} is not the account of a payload")
    child = os.fork()
    if child == 0:
        try:
            # As one of them it may signal nobody else.
            os.setresuid(uid, uid, uid)
            if os.getresuid() == (uid, uid, uid):
                os.kill(-1, number)
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def _carries(pid: int, mark: str) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as environ:
            return mark.encode() in environ.read().split(b"\0")
    except OSError:
        return False
