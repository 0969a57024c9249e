"""Run payloads as a pilot does, without a server: `python -m tests.pilot.runner DIRECTORY < assignments.json`.

A process of its own, so that it can run as another account and be its payloads' pilot in every respect. It prints what
was reported, as JSON.
"""

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from spinor_pilot import cgroups, containers, isolation, kernel, limits
from spinor_pilot.children import GUARDIAN, Guardian
from spinor_pilot.payload import Payload
from spinor_pilot.reports import Reports
from spinor_pilot.workplace import Share, Workshop
from tests.pilot.recorder import Recorder

# No system call has this number.
OLD_KERNEL = (
    "import sys; sys.path.insert(0, sys.argv[1]); from spinor_pilot import kernel; kernel._MOUNT_SETATTR = 1 << 20; "
)


def main() -> None:
    asked = json.load(sys.stdin)
    base = Path(sys.argv[1])
    guardian = Guardian(OLD_KERNEL + GUARDIAN if asked.get("old_kernel") else GUARDIAN)
    kernel.set_dumpable(False)
    guardian.watch()
    site = isolation.Site(asked.get("isolation", "preferred"), (), tuple(asked.get("visible", ())))
    # What stands for the pilot's secrets: a file beside the payloads' directories, and a word in its memory.
    (base / "launch.json").write_text("the pilot's secret")
    (base / "pilot.log").touch()
    os.environ["SPINOR_PILOT_SECRET"] = "the pilot's secret"
    chosen = isolation.chosen(guardian, base, site)
    if "level" in asked:
        own_account = asked["level"] == isolation.ACCOUNT
        chosen = isolation.Isolation(asked["level"], own_account, False, base, site, "a test wants it")
        refusal = isolation._tried(guardian, chosen, base)
        if refusal:
            raise SystemExit(f"The level {chosen.level} does not work here: {refusal}")
    controllers = cgroups.found() if asked.get("cgroups", True) else cgroups.Controllers({})
    workshop = Workshop(
        base, guardian, chosen, controllers, containers.found(chosen, base) if asked.get("images") else []
    )
    server = Recorder()
    payloads = [_payload(one, server, workshop) for one in asked["jobs"]]
    threads = [threading.Thread(target=payload.run) for payload in payloads]
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(payloads, over))
    for thread in [*threads, watcher]:
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    watcher.join()
    guardian.close()
    told = {
        "level": chosen.level,
        "own_account": chosen.own_account,
        "why": chosen.why,
        "cgroups": controllers.versions(),
        "runtimes": workshop.runtimes,
        "reports": server.reports,
        "logs": {name: bytes(text).decode(errors="replace") for name, text in server.logs.items()},
        "sandboxes": [sandbox.hex() for sandbox in server.sandboxes],
        "lost": [payload.lost_because for payload in payloads],
        "left": sorted(path.name for path in base.iterdir()),
    }
    print(json.dumps(told))


def _payload(one: dict[str, Any], server: Recorder, workshop: Workshop) -> Payload:
    share = Share(limits.of(one["memory_bytes"], one["disk_bytes"], one["cores"]), (), [])
    payload = Payload(one, server, Reports(server), workshop)  # type: ignore[arg-type]
    payload.admit(share)
    return payload


def _watch(payloads: list[Payload], over: threading.Event) -> None:
    while not over.wait(0.25):
        everybody = limits.Everybody()
        for payload in payloads:
            payload.look(everybody)


if __name__ == "__main__":
    main()
