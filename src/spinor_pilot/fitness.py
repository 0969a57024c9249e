"""Whether this node is fit for payloads at all. What is wrong is told by check, finding and wish."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import urllib.parse
from pathlib import Path
from typing import Any, Optional

from spinor_pilot import gpus
from spinor_pilot.faults import told

LEAST_DISK_BYTES = 100 << 20
LEAST_MEMORY_BYTES = 64 << 20
MOST_SKEW_S = 60.0
IN_A_ROW = 3  # Payloads that failed at once of the node itself: it swallows jobs.
_REACH_S = 10.0


def diagnosis(base: Path, wanted: dict[str, Any], ahead_s: Optional[float]) -> list[dict[str, str]]:
    """Everything that is wrong; empty on a fit node.

    `wanted`: `cvmfs`, the repositories that must be there, and `reach`, addresses of storages that must answer.
    """
    found = [_disk(base), _memory(), _clock(ahead_s), _shell(), *map(_cvmfs, wanted.get("cvmfs", []))]
    found += [_reach(address) for address in wanted.get("reach", [])]
    broken = gpus.unusable()
    if broken and wanted.get("gpus"):
        found.append(_problem("gpus", broken, "GPUs that answer"))
    return [problem for problem in found if problem]


def _problem(check: str, found: str, wanted: str) -> dict[str, str]:
    return {"check": check, "detail": f"{found}; wanted: {wanted}"}


def _disk(base: Path) -> dict[str, str]:
    try:
        free = shutil.disk_usage(base).free
        if free < LEAST_DISK_BYTES:
            return _problem("disk", f"{free:,} bytes are free at {base}", f"{LEAST_DISK_BYTES:,}")
        with tempfile.NamedTemporaryFile(dir=base) as file:
            file.write(b"\0" * 65_536)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return _problem("disk", told(f"writing to {base}", error), "a directory that can be written")
    return {}


def _memory() -> dict[str, str]:
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/meminfo", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) * 1024
                if free < LEAST_MEMORY_BYTES:
                    return _problem("memory", f"{free:,} bytes are available", f"{LEAST_MEMORY_BYTES:,}")
    return {}


def _clock(ahead_s: Optional[float]) -> dict[str, str]:
    if ahead_s is None or abs(ahead_s) <= MOST_SKEW_S:
        return {}
    way = "behind" if ahead_s > 0 else "ahead of"
    return _problem("clock", f"it is {abs(ahead_s):.0f} s {way} the server's", f"at most {MOST_SKEW_S:.0f} s")


def _shell() -> dict[str, str]:
    try:
        done = subprocess.run(["/bin/sh", "-c", "exit 0"], timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return _problem("processes", told("starting /bin/sh", error), "a program that starts")
    return {} if done.returncode == 0 else _problem("processes", f"/bin/sh ended with {done.returncode}", "0")


def _cvmfs(repository: str) -> dict[str, str]:
    # In a process of its own: a broken mount may never answer.
    path = f"/cvmfs/{repository}"
    try:
        done = subprocess.run(["ls", path], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return _problem("cvmfs", f"{path}: {error}", "a repository that answers")
    if done.returncode or not done.stdout.strip():
        return _problem("cvmfs", f"{path}: {done.stderr.strip() or 'it is empty'}", "a repository that answers")
    return {}


def _reach(address: str) -> dict[str, str]:
    parts = urllib.parse.urlsplit(address if "://" in address else f"//{address}")
    port = parts.port or {"http": 80, "https": 443, "davs": 443, "root": 1094, "roots": 1094}.get(parts.scheme, 443)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=_REACH_S).close()
    except OSError as error:
        return _problem("storage", f"{parts.hostname}:{port}: {error}", "a storage that can be reached")
    return {}
