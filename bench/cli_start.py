"""How long a person waits for a command that has little to do. Each run is a new process; the files are warm."""

import subprocess
import sys
import time
from pathlib import Path

from bench.figures import Report, median, percentile
from bench.service import Service

DIRACX = "DiracX 0.7.0 (published figure, not this run)"
HELP_PEER_S, CALL_PEER_S = 0.73, 1.35
RUNS = {"trial": 1, "small": 15, "full": 51}
FLOOR = "an empty Python in this run"


def measure(report: Report, service: Service, size: str) -> None:
    runs = RUNS[size]
    program = _program(report)
    floor = timed(service, [sys.executable, "-c", "pass"], runs)
    report.figure("python -c pass, median", median(floor), "s")
    shown = timed(service, [*program, "--help"], runs)
    report.figure("spinor --help, median", median(shown), "s", DIRACX, HELP_PEER_S)
    report.figure("spinor --help, over the floor", median(shown), "s", FLOOR, median(floor))
    report.figure("spinor --help, 90th percentile", percentile(shown, 90), "s")
    for words in (["whoami"], ["job", "list"]):
        called = timed(service, [*program, *words], runs)
        name = f"spinor {' '.join(words)}"
        report.figure(f"{name}, median", median(called), "s", DIRACX, CALL_PEER_S)
        report.figure(f"{name}, 90th percentile", percentile(called, 90), "s")


def _program(report: Report) -> list[str]:
    """The installed command; `python -m spinor` where it is not installed, which costs a little more."""
    script = Path(sys.executable).with_name("spinor")
    if script.exists():
        return [str(script)]
    report.say("the command `spinor` is not installed beside this Python; measuring `python -m spinor`")
    return [sys.executable, "-m", "spinor"]


def timed(service: Service, words: list[str], runs: int) -> list[float]:
    """Wall time of each run in seconds, after three that are not counted."""
    times = []
    for n in range(runs + 3):
        started = time.perf_counter()
        subprocess.run(words, env=service.environ, cwd=service.work, stdout=subprocess.DEVNULL, check=True)
        if n >= 3:
            times.append(time.perf_counter() - started)
    return times
