"""Carry changes out through whatever speaks to the server, with a log that they can be taken back by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, islice

from spinor.catalog.fsck.changes import Change
from spinor.catalog.fsck.repairing import Left
from spinor.catalog.fsck.undoing import RepairLog

BATCH = 1000

# Asks the server for changes of one kind; gives the reasons of those that it refused, by their place in the batch.
Ask = Callable[[Sequence[Change]], dict[int, str]]
TellLeft = Callable[[Left], None]


def carry_out(changes: Iterable[Change | Left], log: RepairLog, ask: Ask, tell_left: TellLeft) -> Counter[str]:
    """Counts by kind of change (`delete-bytes`, ...), and `refused` and `left`.

    What `ask` raises ends it. The batch that was under way is in the log as one that may have been carried out, so the
    log takes back whatever was.
    """
    counts: Counter[str] = Counter()
    for batch in _batches(_without_left(changes, counts, tell_left)):
        numbers = log.asking(batch)
        reasons = ask(batch)
        log.refused({numbers[place]: reason for place, reason in reasons.items()})
        counts[_kind(batch[0])] += len(batch) - len(reasons)
        counts["refused"] += len(reasons)
    return counts


def planned(changes: Iterable[Change | Left]) -> Counter[str]:
    """What `carry_out` would do: the counts of a dry run."""
    return Counter("left" if isinstance(change, Left) else _kind(change) for change in changes)


def _without_left(changes: Iterable[Change | Left], counts: Counter[str], tell_left: TellLeft) -> Iterator[Change]:
    for change in changes:
        if isinstance(change, Left):
            counts["left"] += 1
            tell_left(change)
        else:
            yield change


def _batches(changes: Iterable[Change]) -> Iterator[list[Change]]:
    for _, same in groupby(changes, _kind):
        while batch := list(islice(same, BATCH)):
            yield batch


def _kind(change: Change) -> str:
    return str(change.__struct_config__.tag)
