"""How a peer is measured: what it was given, the middle of several calls after one that warms up, what it answered."""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def run(measure: Callable[..., dict[str, float]]) -> None:
    """Call it with what the first file of the command line has, and leave its figures in the second one."""
    given: dict[str, Any] = json.loads(Path(sys.argv[1]).read_bytes())
    found = measure(**given)
    Path(sys.argv[2]).write_text(json.dumps(found))


def say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def timed(call: Callable[[int], object], number: int) -> float:
    started = time.perf_counter()
    call(number)
    return time.perf_counter() - started


def middle_s(rounds: int, call: Callable[[int], object]) -> float:
    """The median of so many calls, numbered from 1, after call 0, which warms up and does not count."""
    call(0)
    return statistics.median(timed(call, number) for number in range(1, rounds + 1))
