"""What a payload may use, and what happens when it uses more.

The kernel enforces as much as it lets this pilot ask for (control groups, resource limits); the rest is watched. Either
way a payload that goes too far is ended as a whole, and its report says what it used and what it had asked for.
"""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import stat
import time
from typing import NamedTuple, Optional

from spinor_pilot import beneath, cgroups, system
from spinor_pilot.cgroups import Limits
from spinor_pilot.children import Child
from spinor_pilot.faults import Fault

PROCESSES_PER_CORE = 512
OPEN_FILES = 65_536
LEAST_MEMORY_BYTES = 32 << 20
LEAST_DISK_BYTES = 16 << 20
RESERVE_BYTES = 256 << 20  # With less than this left on the disk, the largest payload goes before the node fails.
DISK_PERIOD_S = 2.0
_PIDS_PER_NAMESPACE = (5, 14)  # Since this Linux, RLIMIT_NPROC counts per user namespace.


class Excess(NamedTuple):
    """Why a payload had to be ended."""

    error_class: str
    text: str


def of(memory_bytes: int, disk_bytes: int, cores: int) -> Limits:
    """What a job asks for, but never so little that not even a shell script could run and write its log."""
    least = (max(memory_bytes, LEAST_MEMORY_BYTES), max(disk_bytes, LEAST_DISK_BYTES))
    return Limits(*least, PROCESSES_PER_CORE * cores, cores)


def for_kernel(limits: Limits, controllers: cgroups.Controllers, private_account: bool) -> dict[str, tuple[int, int]]:
    """Resource limits, soft and hard: for each process, except RLIMIT_NPROC."""
    asked = {
        "RLIMIT_CORE": (0, resource.RLIM_INFINITY),  # A core file is for those who ask for it.
        "RLIMIT_NOFILE": (OPEN_FILES, OPEN_FILES),
        "RLIMIT_FSIZE": (limits.disk_bytes, limits.disk_bytes),
    }
    if private_account and _release() >= _PIDS_PER_NAMESPACE:
        asked["RLIMIT_NPROC"] = (limits.processes, limits.processes)
    if "memory" not in controllers:
        # The watch sees real use but looks only now and then; this stops a single process that runs away in between.
        most = 2 * limits.memory_bytes + (1 << 30)
        asked["RLIMIT_DATA"] = (most, most)
    return asked


def _release() -> tuple[int, ...]:
    numbers = os.uname().release.split("-")[0].split(".")[:2]
    return tuple(int(number) for number in numbers if number.isdigit())


class Everybody:
    """The processes of the node, looked for when somebody asks, and then once for all who do."""

    @functools.cached_property
    def processes(self) -> list[system.Process]:
        return list(system.processes())


class Watch:
    """Looks at one payload again and again, and keeps what it has seen."""

    def __init__(self, limits: Limits, home: str, tops: list[str]) -> None:
        self.limits = limits
        self.cpu_s = 0.0
        self.rss_bytes = 0
        self.peak_bytes = 0
        self.used_bytes = 0  # On disk.
        self.read_bytes = 0
        self.written_bytes = 0
        self._home = home
        self._tops = tops  # Directories that the payload may write to.
        self._disk_at = time.monotonic()
        self._disk_took_s = 0.0

    def look(self, child: Child, everybody: Everybody) -> Optional[Excess]:
        """Look at use of memory, processes and disk."""
        try:
            return self._looked(child, everybody)
        except OSError:  # It has ended meanwhile, or too many files are open just now: the next look tells.
            return None

    def _looked(self, child: Child, everybody: Everybody) -> Optional[Excess]:
        counted = cgroups.usage(child.start.cgroups)
        files = {name for group in child.start.cgroups for name in group["files"]}
        kernel_counts = "rss_bytes" in counted and "pids.max" in files
        members = [] if kernel_counts else family(child, everybody)
        excess = self._memory(counted, members)
        if not kernel_counts and len(members) > self.limits.processes:
            excess = excess or Excess(
                "payload", f"The payload had {len(members)} processes at once; {self.limits.processes} are allowed."
            )
        return excess or self._disk(child, everybody)

    def measure(self, child: Child, everybody: Everybody) -> None:
        """For a heartbeat: processor time and what was read and written, too. What cannot be seen just now stays."""
        with contextlib.suppress(OSError):
            self._measured(child, everybody)

    def _measured(self, child: Child, everybody: Everybody) -> None:
        counted = cgroups.usage(child.start.cgroups)
        # Control groups know whom they hold; without them every process of the node has to be looked at.
        members = [] if {"rss_bytes", "cpu_s"} <= counted.keys() else family(child, everybody)
        self._memory(counted, members)
        pids = cgroups.members(child.start.cgroups) or [member.pid for member in members]
        read, written = (sum(column) for column in zip((0, 0), *(system.io_of(pid) for pid in pids)))
        self.read_bytes, self.written_bytes = max(self.read_bytes, read), max(self.written_bytes, written)

    def _memory(self, counted: dict[str, float], members: list[system.Process]) -> Optional[Excess]:
        limit = self.limits.memory_bytes
        self.cpu_s = max(self.cpu_s, counted.get("cpu_s", sum(member.cpu_s for member in members)))
        if "rss_bytes" in counted:
            self.rss_bytes = int(counted["rss_bytes"])
            self.peak_bytes = max(self.peak_bytes, self.rss_bytes)
            needed = int(counted.get("peak_bytes", self.peak_bytes))
            return memory_excess(needed, limit) if counted.get("oom_kills") else None
        self.rss_bytes = sum(member.rss_bytes for member in members)
        if self.rss_bytes > limit:  # Memory that processes share was counted for each; look closer before a kill.
            self.rss_bytes = sum(system.pss_of(member.pid, member.rss_bytes) for member in members)
        self.peak_bytes = max(self.peak_bytes, self.rss_bytes)
        return memory_excess(self.rss_bytes, limit) if self.rss_bytes > limit else None

    def _disk(self, child: Child, everybody: Everybody) -> Optional[Excess]:
        # A tree with a million files takes long to look at: then it is looked at less often.
        began = time.monotonic()
        if began - self._disk_at < max(DISK_PERIOD_S, 20 * self._disk_took_s):
            return None
        device = os.stat(self._home).st_dev
        members = family(child, everybody)
        try:
            in_trees = sum(tree_bytes(top) for top in self._tops)
        except Fault as fault:
            return Excess("payload", str(fault))
        self.used_bytes = in_trees + _unlinked_bytes(members, device)
        self._disk_at = time.monotonic()
        self._disk_took_s = self._disk_at - began
        if self.used_bytes > self.limits.disk_bytes:
            return Excess("payload", disk_text(self.used_bytes, self.limits.disk_bytes))
        return None


def family(child: Child, everybody: Everybody) -> list[system.Process]:
    """The payload's living processes."""
    if child.start.cell is not None:
        return system.descendants(child.pid, everybody.processes)
    grouped = cgroups.members(child.start.cgroups)
    return [
        one for one in everybody.processes if one.pid in grouped or system.belongs(one, child.pid, child.start.mark)
    ]


def memory_excess(used: int, limit: int) -> Excess:
    return Excess(
        "memory",
        f"The payload needed {used:,} bytes of memory or more, and it had asked for {limit:,}: it was ended. "
        "Ask for more with memory_bytes.",
    )


def disk_text(used: int, limit: int) -> str:
    return (
        f"The payload left {used:,} bytes on disk, and it had asked for {limit:,}: it was ended. "
        "Ask for more with disk_bytes."
    )


def tree_bytes(top: str) -> int:
    """What a tree takes on disk; a file with several names counts once."""
    seen: set[int] = set()
    total = 0
    with contextlib.suppress(OSError):
        for entry in beneath.walk(top):
            status = entry.status
            if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                if status.st_ino in seen:
                    continue
                seen.add(status.st_ino)
            total += status.st_blocks * 512
    return total


def _unlinked_bytes(members: list[system.Process], device: int) -> int:
    """What files without a name take, as long as a process keeps them open."""
    seen: dict[int, int] = {}
    for member in members:
        directory = f"/proc/{member.pid}/fd"
        with contextlib.suppress(OSError):
            for name in os.listdir(directory):
                with contextlib.suppress(OSError):
                    status = os.stat(f"{directory}/{name}")
                    if status.st_nlink == 0 and status.st_dev == device and stat.S_ISREG(status.st_mode):
                        seen[status.st_ino] = status.st_blocks * 512
    return sum(seen.values())
