"""Figures: one JSON object a line on standard output, and everything else that there is to say on standard error."""

import statistics
import sys
from collections.abc import Sequence

import msgspec


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured value. `ratio` is value over peer_value: above 1 is better for a rate, below 1 for a time."""

    bench: str
    metric: str
    value: float | None
    unit: str
    peer: str | None = None
    peer_value: float | None = None
    ratio: float | None = None


class Report:
    """What one benchmark says."""

    def __init__(self, bench: str) -> None:
        self.bench = bench

    def figure(
        self,
        metric: str,
        value: float | None,
        unit: str,
        peer: str | None = None,
        peer_value: float | None = None,
    ) -> None:
        """Print a figure. A value of None says that it could not be taken; `say` tells why."""
        ratio = value / peer_value if value is not None and peer_value else None
        figure = Figure(
            bench=self.bench,
            metric=metric,
            value=_short(value),
            unit=unit,
            peer=peer,
            peer_value=_short(peer_value),
            ratio=_short(ratio),
        )
        print(msgspec.json.encode(figure).decode(), flush=True)

    def say(self, sentence: str) -> None:
        print(f"{self.bench}: {sentence}", file=sys.stderr, flush=True)


def _short(value: float | None) -> float | None:
    """Four significant digits: more would claim a precision that no run has."""
    return None if value is None else float(f"{value:.4g}")


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which so many percent lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


median = statistics.median
