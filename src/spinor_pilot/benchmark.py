"""How fast the cores are: an estimate in HS23, from a second of work on all of them at once.

The work is that of the DIRAC benchmark (DB12), random numbers of a normal distribution in plain Python, whose result
was scaled to HEP-SPEC06; HEPScore23 continues that scale. HEPiX found DB12 to favour processors since Haswell by some
45 percent, which is taken off again. It tells slow nodes from fast ones, and is no measurement of HEPScore23: the
interpreter alone can make a difference of a half. All offered cores work together, as payloads will.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import struct
import time
from pathlib import Path
from typing import Optional

_NORM = 250.0 / 12.5e6 / 1.45  # DB12's own: 12.5 million numbers in 250 s are 1.
_KEPT_S = 7 * 86_400.0
_BATCH = 5000


def hs23_per_core(cores: int, seconds: float, cache: Optional[Path]) -> float:
    """Of each core when `cores` of them work; 0 when it may not take any time. Forks: call it before any thread."""
    if seconds <= 0:
        return 0.0
    mark = f"{_boot()} {os.uname().nodename} {cores}"
    known = _kept(cache, mark)
    if known is not None:
        return known
    pipes = []
    for _ in range(cores):
        reading, writing = os.pipe()
        if os.fork() == 0:
            os.write(writing, struct.pack("d", _work(seconds)))
            os._exit(0)
        os.close(writing)
        pipes.append(reading)
    scores = []
    for reading in pipes:
        data = os.read(reading, 8)
        os.close(reading)
        if len(data) == 8:
            scores.append(struct.unpack("d", data)[0])
    for _ in pipes:
        with contextlib.suppress(ChildProcessError):
            os.wait()
    score = round(sum(scores) / len(scores), 2) if scores else 0.0
    _keep(cache, mark, score)
    return score


def _work(seconds: float) -> float:
    """The score of one process. Processor time counts, so that a busy node is not called a slow one."""
    numbers = random.Random(1)  # noqa: S311 - not a secret
    count, total, squares, began = 0, 0.0, 0.0, time.process_time()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(_BATCH):
            number = numbers.normalvariate(10, 1)
            total += number
            squares += number * number
        count += _BATCH
    used = time.process_time() - began
    return count * _NORM / used if used > 0 else 0.0


def _kept(cache: Optional[Path], mark: str) -> Optional[float]:
    """What an earlier pilot of this account found on this node, since it was started."""
    if cache is None:
        return None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        number = os.open(cache, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(number, encoding="utf-8") as file:
            status = os.fstat(number)
            if status.st_uid == os.geteuid() and time.time() - status.st_mtime < _KEPT_S:
                return float(json.load(file)[mark])
    return None


def _keep(cache: Optional[Path], mark: str, score: float) -> None:
    if cache is None or not score:
        return
    hidden = cache.with_name(f"{cache.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        with open(os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump({mark: score}, file)
        os.replace(hidden, cache)


def _boot() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""
