"""The pilot's entry point: `spinor-pilot.pyz launch.json` in the directory it may use."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Callable

from spinor_pilot import (
    __version__,
    benchmark,
    cgroups,
    containers,
    fitness,
    isolation,
    kernel,
    node,
    streams,
)
from spinor_pilot.children import Guardian
from spinor_pilot.faults import SiteFault, told
from spinor_pilot.pilot import Pilot
from spinor_pilot.server import Refused, Server, Unreachable, Untrusted
from spinor_pilot.slot import Slot
from spinor_pilot.workplace import Workshop

ENROLMENT_PATIENCE_S = 600.0
BENCHMARK_S = 1.0

_log = logging.getLogger("pilot")


def connected(launch: dict[str, Any]) -> Server:
    """The server that the launch names."""
    return Server(launch["url"], launch.get("ca_pem", ""))


def main(connect: Callable[[dict[str, Any]], Server] = connected) -> int:
    """Exit codes: 0 well, 1 something could not be reported, 2 wrong usage, 4 not accepted, 5 the node is unfit."""
    parser = argparse.ArgumentParser(prog="spinor-pilot", description="Run payloads for a Spinor server in this slot.")
    parser.add_argument("launch", type=Path, help="JSON file of mode 0600, written by the computing-element plugin")
    parser.add_argument("--directory", type=Path, default=Path.cwd(), help="where to work (default: here)")
    parser.add_argument("--version", action="version", version=f"spinor-pilot {__version__}")
    asked = parser.parse_args()
    base = asked.directory.absolute()
    guardian = Guardian()  # Before the secret is read, and before there is any thread.
    kernel.set_dumpable(False)
    try:
        launch = _read(asked.launch)
        log_file = _log_to(base / "pilot.log")
    except (OSError, ValueError) as error:
        print(f"spinor-pilot: {told(f'reading {asked.launch}', error)}", file=sys.stderr)
        return 2
    try:
        return _serve(launch, asked.launch, base, log_file, guardian, connect)
    finally:
        guardian.close()


def _serve(
    launch: dict[str, Any],
    launch_file: Path,
    base: Path,
    log_file: Path,
    guardian: Guardian,
    connect: Callable[[dict[str, Any]], Server],
) -> int:
    options = launch.get("node", {})
    slot = Slot(launch, base)
    cache = Path(tempfile.gettempdir(), f"spinor-hs23-{os.geteuid()}")
    slot.hs23_per_core = benchmark.hs23_per_core(slot.cores, float(options.get("benchmark_s", BENCHMARK_S)), cache)
    guardian.watch()
    workshop, unfit = _equip(options, base, guardian)
    slot.runtimes = workshop.runtimes
    facts = _facts(slot, workshop)
    _log.info("pilot %s, version %s, on %s", launch["pilot_id"], __version__, json.dumps(facts))
    server = connect(launch)
    who = {"pilot_id": launch["pilot_id"], "secret": launch.pop("secret")}
    what = {"offer": slot.offer([]), "node": facts}
    try:
        enrolled = server.json("POST", "/api/pilot/enrol", {**who, **what}, patience_s=ENROLMENT_PATIENCE_S)
    except (Refused, Unreachable, Untrusted) as error:
        _log.error("not enrolled: %s", error)
        return 4
    finally:
        with contextlib.suppress(OSError):
            launch_file.unlink()  # Spent or refused: in neither case may a payload find it.
    server.token = enrolled["token"]
    pilot = Pilot(server, workshop, slot, enrolled["heartbeat_s"], options)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _: pilot.interrupt(signal.Signals(got).name))
    stream = streams.Stream(log_file, streams.to_pilot_log(server, lambda: False), whole=True)
    sending = streams.Follower([stream], "pilot-log")
    sending.begin()
    _log.info("enrolled; %s cores, %s bytes of memory, %.0f s", slot.cores, slot.memory_bytes, slot.left_s)
    pilot.unfit = unfit + fitness.diagnosis(base, options, server.ahead_s)
    if pilot.unfit:
        pilot.draining = "the node is unfit"
    threading.Thread(target=_try_runtimes, args=(slot, workshop), name="runtimes", daemon=True).start()
    code = pilot.work()
    sending.finish(timeout_s=10)
    return 5 if pilot.unfit else code


def _equip(options: dict[str, Any], base: Path, guardian: Guardian) -> tuple[Workshop, list[dict[str, str]]]:
    """What payloads are run with on this node; and what is wrong with it, when they cannot be isolated as they must."""
    site = isolation.Site(
        options.get("isolation", isolation.PREFERRED),
        tuple(options.get("hidden", ())),
        tuple(options.get("visible", ())),
    )
    unfit = []
    try:
        chosen = isolation.chosen(guardian, base, site)
    except SiteFault as fault:
        unfit.append({"check": "isolation", "detail": str(fault)})
        chosen = isolation.Isolation(isolation.NONE, False, False, base, site, str(fault))
    if chosen.why:
        _log.warning("payloads are isolated by %s only: %s", chosen.level, chosen.why)
    return Workshop(base, guardian, chosen, cgroups.found(), containers.at_once(chosen)), unfit


def _try_runtimes(slot: Slot, workshop: Workshop) -> None:
    """Try container runtimes while the first jobs run, since that takes seconds; offers name those that work."""
    workshop.runtimes = slot.runtimes = containers.found(workshop.isolation, workshop.base)
    if len(slot.runtimes) > 1:
        _log.info("images can be run by %s", ", ".join(slot.runtimes))


def _facts(slot: Slot, workshop: Workshop) -> dict[str, Any]:
    return {
        **node.description(),
        "batch_system": slot.batch.system,
        "hs23_per_core": slot.hs23_per_core,
        "isolation": workshop.isolation.level,
        "own_account": workshop.isolation.own_account,
        "isolation_refused": workshop.isolation.why,
        "cgroups": workshop.controllers.versions(),
        "gpus": [gpu.told() for gpu in slot.gpus],
    }


def _read(path: Path) -> dict[str, Any]:
    launch = json.loads(path.read_text(encoding="utf-8"))
    needed = {"url", "pilot_id", "secret", "cores", "memory_bytes", "wall_s"}
    if not isinstance(launch, dict) or not needed <= set(launch):
        raise ValueError(f"it must be an object with {', '.join(sorted(needed))}")
    return launch


def _log_to(path: Path) -> Path:
    """The log goes to a file, from where it is sent to the server, and to stderr, which the computing element keeps."""
    lines = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    lines.converter = time.gmtime
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for target in (os.fdopen(number, "a", encoding="utf-8"), sys.stderr):
        writer = logging.StreamHandler(target)
        writer.setFormatter(lines)
        _log.addHandler(writer)
    _log.setLevel(logging.INFO)
    _log.propagate = False
    return path
