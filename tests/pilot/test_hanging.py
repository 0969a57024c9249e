"""A payload that hangs in the kernel holds no job hostage."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from spinor_pilot import cgroups, children, limits
from spinor_pilot.children import GUARDIAN, Guardian
from spinor_pilot.isolation import NONE, Isolation, Site
from spinor_pilot.payload import Payload
from spinor_pilot.reports import Reports
from spinor_pilot.workplace import Share, Workshop
from tests.pilot.recorder import Recorder

JOB: dict[str, Any] = {
    "job_id": 7, "attempt": 1, "array_index": 0, "vo": "astro", "owner_id": 1, "owner": "ada",
    "executable": "/bin/sh", "arguments": ["-c", "exec sleep 60"], "environment": {}, "input_sandboxes": [],
    "input_data": [], "output_sandbox": [], "output_data": [], "cores": 1, "memory_bytes": 256 << 20,
    "disk_bytes": 64 << 20, "wall_s": 1, "stop_margin_s": 0, "token": "of 7",
}  # fmt: skip

# Signals get lost on their way, as they do when the kernel does not let go of a process.
DEAF = "import sys; sys.path.insert(0, sys.argv[1]); from spinor_pilot import system; system.kill_family = print"


def test_its_attempt_ends_as_the_sites_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "KILLED_S", 0.1)
    guardian = Guardian(f"{DEAF}\n{GUARDIAN}")
    guardian.watch()
    server = Recorder()
    chosen = Isolation(NONE, False, False, tmp_path, Site(), "")
    workshop = Workshop(tmp_path, guardian, chosen, cgroups.Controllers({}), [])
    payload = Payload(JOB, server, Reports(server), workshop)  # type: ignore[arg-type]
    payload.admit(Share(limits.of(JOB["memory_bytes"], JOB["disk_bytes"], 1), (), []))
    payload.run()
    assert payload._child is not None
    os.kill(payload._child.pid, signal.SIGKILL)
    guardian.close()
    report = server.reports["7"]
    assert report["error_class"] == "site"
    assert "still there" in report["error"]
    assert payload.site_error
