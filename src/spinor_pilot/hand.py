"""Jobs that the server gave to the pilot before there was room for them, so that no core waits for the next answer.

They fetch their inputs and build their walls meanwhile. That is only right while payloads are brief: who has waited
for longer than a moment is better off elsewhere, and goes back to the server.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Callable, Optional

from spinor_pilot.payload import Payload

BRIEF_S = 1.0  # A payload that ends sooner is a brief one.
PATIENCE_S = 5.0  # A job that could not begin within this time goes back.
_AHEAD = 3  # Slots full of jobs, beside the one that runs.


class Hand:
    """Not safe for threads: the pilot locks it. Jobs begin in the order in which they came."""

    def __init__(self, cores: int) -> None:
        self._jobs: deque[tuple[Payload, float]] = deque()
        self._lasted_s: deque[float] = deque(maxlen=max(4, 2 * cores))

    def __len__(self) -> int:
        return len(self._jobs)

    def assignments(self) -> list[dict[str, Any]]:
        return [job.assignment for job, _ in self._jobs]

    def add(self, job: Payload) -> None:
        self._jobs.append((job, time.monotonic()))

    def next(self, fits: Callable[[dict[str, Any]], bool]) -> Optional[Payload]:
        """Take the first one out, when there is room for it."""
        self._jobs = deque(entry for entry in self._jobs if not entry[0].is_lost())
        if self._jobs and fits(self._jobs[0][0].assignment):
            return self._jobs.popleft()[0]
        return None

    def empty(self) -> list[Payload]:
        """Take all of them out."""
        jobs = [job for job, _ in self._jobs]
        self._jobs.clear()
        return jobs

    @property
    def late(self) -> bool:
        return bool(self._jobs) and time.monotonic() - self._jobs[0][1] > PATIENCE_S

    def note_end(self, wall_s: float) -> None:
        self._lasted_s.append(wall_s)

    def forget_ends(self) -> None:
        self._lasted_s.clear()

    def ahead(self, running_s: list[float]) -> int:
        """How many slots full of jobs may be asked for beside what runs; `running_s`: for how long each has run."""
        brief = len(self._lasted_s) == self._lasted_s.maxlen and max(self._lasted_s) < BRIEF_S
        return _AHEAD if brief and max(running_s, default=0.0) < BRIEF_S else 0
