"""Processes of this machine as /proc tells them. A pid alone is not an identity: the kernel gives it out again."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

_PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Process(msgspec.Struct, frozen=True):
    """A process for certain: its pid, its start in clock ticks after the boot, and which boot."""

    pid: int
    start_ticks: int
    boot: str

    @property
    def is_alive(self) -> bool:
        return process(self.pid) == self

    @property
    def uptime_s(self) -> float:
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - self.start_ticks / _TICKS_PER_S)


def process(pid: int) -> Process | None:
    """The living process of this pid; a zombie counts as dead, since nobody may ever collect it in a container."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    # The name in parentheses may itself hold spaces and parentheses, so the fields are counted after the last one.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZXx" else Process(pid, int(fields[19]), boot)


def myself() -> Process:
    found = process(os.getpid())
    assert found is not None
    return found


def arguments(pid: int) -> list[str]:
    """The command line; empty when the process is gone, foreign and hidden, or a kernel thread."""
    return _fields(pid, "cmdline")


def environment(pid: int) -> dict[str, str]:
    """What the process was started with; empty when it is gone or belongs to somebody else."""
    return dict(field.partition("=")[::2] for field in _fields(pid, "environ"))


def _fields(pid: int, name: str) -> list[str]:
    try:
        content = (_PROC / str(pid) / name).read_bytes()
    except OSError:
        return []
    return [os.fsdecode(field) for field in content.rstrip(b"\0").split(b"\0")] if content else []


def pids() -> Iterator[int]:
    return (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit())


def stop(target: Process, grace_s: float = 10.0, *signals: signal.Signals) -> None:
    """Ask with each signal in turn (SIGTERM unless told), wait the grace after each, and kill at the end."""
    for number in (*(signals or (signal.SIGTERM,)), signal.SIGKILL):
        if not target.is_alive:
            return
        try:
            os.kill(target.pid, number)
        except ProcessLookupError:
            return
        wait_until_gone(target, grace_s)


def wait_until_gone(target: Process, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while target.is_alive:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def listener(port: int) -> int | None:
    """Which process listens on this TCP port; 0 when there is one whose owner we may not see."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = (_PROC / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            # 0A is LISTEN in the kernel's table of TCP states.
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    if not inodes:
        return None
    return next((pid for pid in pids() if inodes & _open_files(pid)), 0)


def _open_files(pid: int) -> set[str]:
    found = set()
    try:
        for descriptor in (_PROC / str(pid) / "fd").iterdir():
            with suppress(OSError):  # Closed meanwhile.
                found.add(str(descriptor.readlink()))
    except OSError:
        return set()
    return found


def descends_from(pid: int, ancestor: int) -> bool:
    """Whether the process is the ancestor, or a child of a child of it."""
    while pid > 1:
        if pid == ancestor:
            return True
        try:
            pid = int((_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return False
