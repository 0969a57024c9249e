"""Control groups of both versions: what the kernel lets this pilot limit, and one group for each payload.

The pilot finds out what works (`found`) and says what it wants (`wanted`, as plain data); the guardian, which survives
the pilot for a moment, makes the groups, reads what they counted, and removes them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Optional

PERIOD_US = 100_000
_PREFIX = "spinor-"
_OLD_S = 3600.0
_V1 = ("memory", "pids", "cpu", "cpuacct")
_V2 = ("memory", "pids", "cpu")


class Limits(NamedTuple):
    """Of one payload."""

    memory_bytes: int
    disk_bytes: int
    processes: int
    cores: int


class Controllers:
    """Where groups for payloads can be made: for each controller the directory above them, and its version."""

    def __init__(self, parents: dict[str, tuple[int, str]]) -> None:
        self.parents = parents

    def __contains__(self, name: str) -> bool:
        return name in self.parents

    def versions(self) -> dict[str, int]:
        return {name: version for name, (version, _) in self.parents.items()}

    def wanted(self, name: str, limits: Limits) -> tuple[dict[str, Any], ...]:
        """The groups of one payload: directories with the values of their files, in the order in which to write."""
        mark = f"{_PREFIX}{name}-{os.urandom(4).hex()}"
        by_directory: dict[str, dict[str, str]] = {}
        for controller, (version, parent) in self.parents.items():
            files = by_directory.setdefault(os.path.join(parent, mark), {})
            files.update(_limits(controller, version, limits))
        return tuple({"directory": directory, "files": files} for directory, files in by_directory.items())


def _limits(controller: str, version: int, limits: Limits) -> dict[str, str]:
    quota_us = PERIOD_US * limits.cores
    if controller == "memory" and version == 1:
        # Memory and swap together may not be less than memory, so it comes second; without swap it is not there.
        return {
            "memory.limit_in_bytes": str(limits.memory_bytes),
            "memory.memsw.limit_in_bytes?": str(limits.memory_bytes),
        }
    if controller == "memory":
        return {"memory.max": str(limits.memory_bytes), "memory.swap.max?": "0", "memory.oom.group?": "1"}
    if controller == "pids":
        return {"pids.max": str(limits.processes)}
    if controller == "cpu" and version == 1:
        return {"cpu.cfs_period_us": str(PERIOD_US), "cpu.cfs_quota_us": str(quota_us)}
    if controller == "cpu":
        return {"cpu.max": f"{quota_us} {PERIOD_US}"}
    return {}


def found(root: str = "/") -> Controllers:
    """Try out which controllers this process may make groups in."""
    parents: dict[str, tuple[int, str]] = {}
    mounts, own = _mounts(root), _own_paths(root)
    for name in _V1:
        if name in mounts:
            parent = _usable(mounts[name], own.get(name, "/"))
            if parent is not None:
                parents[name] = (1, parent)
    if "" in mounts and "" in own:
        for name, directory in _delegated(mounts[""], own[""]).items():
            parents.setdefault(name, (2, directory))
    _sweep({directory for _, directory in parents.values()})
    return Controllers(parents)


def _sweep(parents: set[str]) -> None:
    """Remove old groups of pilots that were killed together with their guardian. The kernel keeps those in use."""
    for parent in parents:
        with contextlib.suppress(OSError):
            for entry in os.scandir(parent):
                if entry.name.startswith(_PREFIX) and time.time() - entry.stat().st_mtime > _OLD_S:
                    with contextlib.suppress(OSError):
                        os.rmdir(entry.path)


def _mounts(root: str) -> dict[str, str]:
    """Where each controller of version 1 is mounted; "" stands for version 2."""
    mounts: dict[str, str] = {}
    try:
        with open(os.path.join(root, "proc/self/mountinfo"), encoding="utf-8", errors="replace") as lines:
            for line in lines:
                left, _, right = line.partition(" - ")
                kind, _, options = right.split()[:3]
                target = left.split()[4]
                if kind == "cgroup2":
                    mounts.setdefault("", target)
                elif kind == "cgroup":
                    mounts.update({name: target for name in options.split(",") if name in _V1})
    except OSError:
        pass  # Without /proc nothing can be limited this way, and the watch has to do.
    return mounts


def _own_paths(root: str) -> dict[str, str]:
    own: dict[str, str] = {}
    with contextlib.suppress(OSError), open(os.path.join(root, "proc/self/cgroup"), encoding="utf-8") as lines:
        for line in lines:
            _, names, path = line.rstrip("\n").split(":", 2)
            own.update(dict.fromkeys(names.split(","), path))
    return own


def _usable(mount: str, own: str) -> Optional[str]:
    """The group below which others can be made: our own one, or what a container sees as the top."""
    for parent in (os.path.join(mount, own.lstrip("/")), mount):
        trial = os.path.join(parent, f"spinor-try-{os.urandom(4).hex()}")
        try:
            os.mkdir(trial)
            os.rmdir(trial)
        except OSError:
            continue
        return parent
    return None


def _delegated(mount: str, own: str) -> dict[str, str]:
    """Controllers of version 2 that can be passed on to groups below ours. A group with processes passes none on."""
    parent = os.path.join(mount, own.lstrip("/"))
    wanted = [name for name in _V2 if name in _read(os.path.join(parent, "cgroup.controllers")).split()]
    if not wanted:
        return {}
    switch = os.path.join(parent, "cgroup.subtree_control")
    try:
        if not set(wanted) <= set(_read(switch).split()):
            leaf = os.path.join(parent, "spinor-pilot")
            with contextlib.suppress(FileExistsError):
                os.mkdir(leaf)
            for pid in _read(os.path.join(parent, "cgroup.procs")).split():
                _write(os.path.join(leaf, "cgroup.procs"), pid)
            _write(switch, " ".join(f"+{name}" for name in wanted))
    except OSError:
        return {}
    return dict.fromkeys(wanted, parent)


# ------------------------------------------------------------------------------------------- for one payload's groups


def make(groups: Sequence[dict[str, Any]]) -> list[int]:
    """Make them; one open file for each, into which a process writes "0" to join."""
    doors: list[int] = []
    try:
        for group in groups:
            directory = group["directory"]
            with contextlib.suppress(FileExistsError):
                os.mkdir(directory)
            for name, value in group["files"].items():
                try:
                    _write(os.path.join(directory, name.rstrip("?")), value)
                except OSError:
                    if not name.endswith("?"):
                        raise
            doors.append(os.open(os.path.join(directory, "cgroup.procs"), os.O_WRONLY | os.O_CLOEXEC))
    except OSError:
        for door in doors:
            os.close(door)
        remove(groups)
        raise
    return doors


def usage(groups: Iterable[dict[str, Any]]) -> dict[str, float]:
    """What they counted: cpu_s, rss_bytes (without what the kernel would drop), peak_bytes, oom_kills, where known."""
    counted: dict[str, float] = {}
    for group in groups:
        directory, files = group["directory"], group["files"]
        if "memory.limit_in_bytes" in files:
            counted.update(_memory(directory, "usage_in_bytes", "max_usage_in_bytes", "oom_control", "total_"))
        if "memory.max" in files:
            counted.update(_memory(directory, "current", "peak", "events", ""))
        if "cpu.max" in files:
            counted["cpu_s"] = _table(directory, "cpu.stat").get("usage_usec", 0) / 1e6
        if "/cpuacct" in directory:
            nanoseconds = _number(os.path.join(directory, "cpuacct.usage"))
            if nanoseconds is not None:
                counted["cpu_s"] = nanoseconds / 1e9
    return counted


def _memory(directory: str, current: str, peak: str, events: str, prefix: str) -> dict[str, float]:
    counted: dict[str, float] = {}
    used = _number(os.path.join(directory, f"memory.{current}"))
    if used is not None:
        idle = _table(directory, "memory.stat").get(f"{prefix}inactive_file", 0)
        counted["rss_bytes"] = max(0, used - idle)
    most = _number(os.path.join(directory, f"memory.{peak}"))
    if most is not None:
        counted["peak_bytes"] = most
    counted["oom_kills"] = _table(directory, f"memory.{events}").get("oom_kill", 0)
    return counted


def members(groups: Iterable[dict[str, Any]]) -> set[int]:
    return {int(pid) for group in groups for pid in _read(os.path.join(group["directory"], "cgroup.procs")).split()}


def remove(groups: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Kill who is left in them and remove them; those that would not go yet."""
    left = []
    for group in groups:
        for _ in range(20):
            for pid in members([group]):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            try:
                os.rmdir(group["directory"])
                break
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(0.002)  # A process that was killed a moment ago still counts.
        else:
            left.append(group)
    return left


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _write(path: str, value: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(value)


def _number(path: str) -> Optional[int]:
    text = _read(path).strip()
    return int(text) if text.isdigit() else None


def _table(directory: str, name: str) -> dict[str, int]:
    pairs = (line.split() for line in _read(os.path.join(directory, name)).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
