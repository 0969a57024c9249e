"""Whether the matcher stays as fast while jobs come and go, for half an hour of it while an old snapshot is held open.

Ten million jobs wait in ten thousand task queues; as many come as are given away, and each ends some seconds later. The
windows follow each other: first without a snapshot, then with one that is held all the time, then without it again.
"""

import contextlib

from bench import match_farm
from bench.figures import Report
from bench.jobs_match import PILOTS, inside
from bench.service import Service

WAITING = {"trial": (400, 40), "small": (300_000, 10_000), "full": (10_000_000, 10_000)}
WINDOW_S = {"trial": 0.3, "small": 10.0, "full": 60.0}
BEFORE, HELD, AFTER = "before", "with a snapshot held", "after"
WINDOWS = {
    "trial": {BEFORE: 1, HELD: 1, AFTER: 1},
    "small": {BEFORE: 2, HELD: 6, AFTER: 2},
    "full": {BEFORE: 5, HELD: 30, AFTER: 10},
}


def measure(report: Report, service: Service, size: str) -> None:
    service.apply(match_farm.document(service))
    pilots = match_farm.enrolled(service, PILOTS[size])
    waiting, queues = WAITING[size]
    match_farm.fill(service, waiting, queues)
    with match_farm.tide(service, waiting) as check_tide:
        for part, windows in WINDOWS[size].items():
            with match_farm.old_snapshot(service) if part == HELD else contextlib.nullcontext():
                for n in range(windows):
                    name = f"{waiting:,} waiting in {queues:,} queues, {part}, {n + 1} of {windows}"
                    inside(report, service, name, pilots, WINDOW_S[size])
                    check_tide()
