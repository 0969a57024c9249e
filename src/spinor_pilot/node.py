"""What the slot really has: the least of what the computing element promised and what the node allows."""

from __future__ import annotations

import os
import platform
import shutil
import socket
from pathlib import Path
from typing import Any, Optional

_UNLIMITED = 1 << 60  # cgroup v1 writes a number near 2**63 when there is no limit.


def cores(promised: int) -> int:
    """Cores that this process may use, at most `promised`."""
    return max(1, min(promised, len(os.sched_getaffinity(0))))


def memory_bytes(promised: int, root: Path = Path("/")) -> int:
    """The least of the promise, the node's memory, and every cgroup limit above this process."""
    limits = [promised, *cgroup_limits(root)]
    total = _memory_total(root / "proc/meminfo")
    if total is not None:
        limits.append(total)
    return min(limits)


def disk_bytes(directory: Path) -> int:
    return shutil.disk_usage(directory).free


def cgroup_limits(root: Path = Path("/")) -> list[int]:
    """Memory limits in bytes, from cgroup v2 and v1, of this process's group and all groups above it."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found: list[int] = []
    for line in lines:
        _, names, path = line.split(":", 2)
        if names == "":
            base, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in names.split(","):
            base, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        # In a container the path may start above what is mounted here; then only the lower part of it exists.
        inside = [part for part in path.split("/") if part and part != ".."]
        for depth in range(len(inside) + 1):
            value = _number(base.joinpath(*inside[:depth], name))
            if value is not None and value < _UNLIMITED:
                found.append(value)
    return found


def description() -> dict[str, Any]:
    """What is worth knowing about the node when a payload fails there."""
    return {
        "hostname": socket.getfqdn(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }


def _number(path: Path) -> Optional[int]:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # "max" in cgroup v2 is no limit.
        return None


def _memory_total(path: Path) -> Optional[int]:
    try:
        for line in path.read_text().splitlines():
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    return None
