"""Which heartbeats become points of the history: as many for a job of a minute as for one of a month."""

import posixpath
from collections.abc import Iterable

from spinor.errors import BadInput
from spinor.jobs.models import Held

SLOT_S = 30
POINTS = 200  # At most, in the long run; half of them just after a thinning.
LONGEST_BEAT_S = 20  # Pilots are told to beat every 15 s, so one or two beats fall into this part of each slot.


class BadPath(BadInput):
    """A path to peek at is relative to the job's directory and stays in it."""

    code = "bad-path"


def slot_width_s(wall_s: float) -> int:
    """The span of wall time that one point stands for: it doubles whenever there would be more than 200."""
    width = SLOT_S
    while wall_s >= width * POINTS:
        width *= 2
    return width


def points(held: Iterable[Held]) -> list[tuple[Held, int]]:
    """Those that begin a slot, each with the slot's start. The others cost nothing."""
    found = []
    for each in held:
        width = slot_width_s(each.wall_s)
        start = int(each.wall_s // width) * width
        if each.wall_s - start < LONGEST_BEAT_S:
            found.append((each, start))
    return found


def thinned(points: Iterable[tuple[Held, int]]) -> list[tuple[int, int, int]]:
    """The attempts whose earlier points now stand too close, (job, attempt, width): just after each doubling."""
    found = []
    for each, _ in points:
        width = slot_width_s(each.wall_s)
        if width > SLOT_S and each.wall_s < width * (POINTS // 2 + 5):
            found.append((each.job_id, each.attempt, width))
    return found


def peek_path(path: str) -> str:
    """The path as the pilot gets it. Raises BadPath."""
    if "\0" in path or path.startswith("/") or ".." in path.split("/"):
        raise BadPath(f"{path!r} is no path below the job's directory; give one relative to it, without `..`.")
    clean = posixpath.normpath(path) if path else ""
    return "" if clean == "." else clean
