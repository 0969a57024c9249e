"""Processor time of processes, from /proc/<pid>/stat: user and system together, in seconds, counted in clock ticks."""

import os
from collections.abc import Iterable
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_OWN = slice(11, 13)  # Of the fields after the name: utime and stime.
_OWN_AND_REAPED = slice(11, 15)  # And the same two of children that were waited for.
_REAPED = slice(13, 15)


def _stat(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name in parentheses may hold spaces and parentheses itself.
    return text.rpartition(")")[2].split()


def pids() -> list[int]:
    """All processes of the machine."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def parent(pid: int) -> int:
    """The parent of a process; zero when it has none, or is gone."""
    stat = _stat(pid)
    return int(stat[1]) if stat else 0


def children(pid: int) -> list[int]:
    """The processes whose parent this one is."""
    return [other for other in pids() if parent(other) == pid]


def used_s(pids: Iterable[int]) -> float:
    """What these processes have used so far. One that is gone counts nothing."""
    ticks = 0
    for pid in pids:
        stat = _stat(pid)
        ticks += sum(int(value) for value in stat[_OWN]) if stat else 0
    return ticks / _TICKS_PER_S


def reaped_s(pid: int) -> float:
    """What the children have used that a process has waited for, with those that these have waited for."""
    stat = _stat(pid)
    return sum(int(value) for value in stat[_REAPED]) / _TICKS_PER_S if stat else 0.0


def family_used_s(parent: int) -> float:
    """What a process and all its children have used, those that ended included."""
    stat = _stat(parent)
    if stat is None:
        return 0.0
    own_and_reaped = sum(int(value) for value in stat[_OWN_AND_REAPED]) / _TICKS_PER_S
    return own_and_reaped + used_s(children(parent))
