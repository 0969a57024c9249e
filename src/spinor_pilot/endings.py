"""How the end of an attempt is told, and what becomes of its uploads."""

from __future__ import annotations

from typing import Any, Callable

from spinor_pilot import outputs
from spinor_pilot.reports import ENDED, Reports
from spinor_pilot.server import Refused

# Of an attempt that this pilot does not hold. A status says less: a sandbox can be gone, and the attempt still ours.
STALE = frozenset({"stale-report", "pilot-ended"})


def tell_end(
    reports: Reports, report: dict[str, Any], uploaded: list[dict[str, Any]], given_up: Callable[[], bool]
) -> str:
    """Send the last report; what the job is now. `uploaded` is taken back when the catalog surely does not know it."""
    try:
        status = reports.tell(ENDED, report, given_up)
    except Refused as refused:
        # After a broken connection nobody knows whether the try before registered the outputs: they stay then, whatever
        # becomes of the next report.
        if refused.first:
            take_back(uploaded)
        uploaded.clear()
        if refused.code in STALE or not report["outputs"]:
            raise
        # The outputs cannot be registered, for example because another job has taken an LFN: the owner must hear.
        report.update(error=f"The outputs could not be registered: {refused}", error_class="data", outputs=[])
        return reports.tell(ENDED, report, given_up)
    if status == "failed":
        take_back(uploaded)  # The catalog refused them.
    return status


def take_back(uploaded: list[dict[str, Any]]) -> None:
    """Remove uploads that will never be registered."""
    for place in uploaded:
        outputs.remove(place)
    uploaded.clear()
