"""What the slot really has: the least of what the computing element promised and what the node allows."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import socket
from pathlib import Path
from typing import Any, Optional

_UNLIMITED = 1 << 60  # cgroup v1 writes a number near 2**63 when there is no limit.


def cores(promised: int, root: Path = Path("/")) -> int:
    """Cores that this process may use, at most `promised`: by its affinity and by every processor quota above it."""
    limits = [promised, len(os.sched_getaffinity(0)), *(int(quota) for quota in _cpu_quotas(root))]
    return max(1, min(limits))


def cpu_model(root: Path = Path("/")) -> str:
    try:
        for line in (root / "proc/cpuinfo").read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "cpu model", "Hardware", "cpu"):
                return value.strip()
    except OSError:
        pass
    return ""


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
    found: list[int] = []
    for version, group in _groups(root, "memory"):
        value = _number(group / ("memory.max" if version == 2 else "memory.limit_in_bytes"))
        if value is not None and value < _UNLIMITED:
            found.append(value)
    # Without a limit of its own a process is bound by the soft limit of its address space too.
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    return found if soft == resource.RLIM_INFINITY or root != Path("/") else [*found, soft]


def _cpu_quotas(root: Path) -> list[float]:
    """Processor time per time, in cores."""
    found = []
    for version, group in _groups(root, "cpu"):
        if version == 2:
            words = _text(group / "cpu.max").split()
            quota, period = (int(words[0]), int(words[1])) if len(words) == 2 and words[0].isdigit() else (0, 0)
        else:
            quota, period = _number(group / "cpu.cfs_quota_us") or 0, _number(group / "cpu.cfs_period_us") or 0
        if quota > 0 and period > 0:
            found.append(quota / period)
    return found


def _groups(root: Path, controller: str) -> list[tuple[int, Path]]:
    """The directories of this process's group and of all above it that may limit this; with the cgroup version."""
    found = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        if names == "":
            version, base = 2, root / "sys/fs/cgroup"
        elif controller in names.split(","):
            version, base = 1, root / "sys/fs/cgroup" / controller
        else:
            continue
        # In a container the path may start above what is mounted here; then only the lower part of it exists.
        inside = [part for part in path.split("/") if part and part != ".."]
        found += [(version, base.joinpath(*inside[:depth])) for depth in range(len(inside) + 1)]
    return found


def description() -> dict[str, Any]:
    """What is worth knowing about the node when a payload fails there."""
    return {
        "hostname": socket.getfqdn(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "cpu_model": cpu_model(),
        "node_cores": os.cpu_count(),
    }


def _number(path: Path) -> Optional[int]:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # "max" in cgroup v2 is no limit.
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _memory_total(path: Path) -> Optional[int]:
    try:
        for line in path.read_text().splitlines():
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    return None
