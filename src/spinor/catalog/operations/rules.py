"""Pure decisions: how large a slice is, which files it takes, when a state may change."""

from collections.abc import Iterable, Sequence
from enum import StrEnum

import msgspec

from spinor.catalog.operations.models import OperationState
from spinor.catalog.store import Directory

KEPT_REFUSALS = 10_000
TARGET_S = 0.1
TARGET_ALONE_S = 0.04  # While nobody else may put names into the VO's directories.
LEAST, FIRST, MOST = 50, 2000, 100_000
MOST_DIRECTORIES = 4000
BREATH = 0.1  # Of the time that the slice took.
LAST_NAME = "\U0010ffff" * 64  # No name comes after it: names have at most 255 bytes.
_MEMORY_S = 3.0  # The rate is that of about so many seconds.

CHANGES: dict[OperationState, frozenset[OperationState]] = {
    OperationState.PAUSED: frozenset({OperationState.WAITING, OperationState.RUNNING}),
    OperationState.WAITING: frozenset({OperationState.PAUSED}),
    OperationState.CANCELLED: frozenset({OperationState.WAITING, OperationState.RUNNING, OperationState.PAUSED}),
}


class Phase(StrEnum):
    """Of an operation: its files first; then, for some kinds, its directories from the deepest up."""

    FILES = "files"
    DIRECTORIES = "directories"


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """How far an operation is: all before this is done. `top` counts the paths that were asked for.

    Files are taken from `path` on, in its directory from `name` on; directories before `path`, from the deepest up.
    """

    top: int = 0
    phase: Phase = Phase.FILES
    path: str = ""
    name: str = ""
    size: int = FIRST
    closed: str = ""  # The last directory that was refused with all that is behind it.
    rate: float | None = None


class Range(msgspec.Struct, frozen=True):
    """Names of one directory, both ends included."""

    directory: Directory
    first: str = ""
    last: str = LAST_NAME
    own_only: bool = False


def after(text: str) -> str:
    """The first name or path that comes after this one, since none contains NUL."""
    return text + "\x01"


def whole_directories(walked: Sequence[Directory], cursor: Cursor) -> list[Directory]:
    """How many of the directories, in their order, are taken at once: about `size` files, and never none."""
    taken: list[Directory] = []
    files = 0
    for directory in walked:
        if taken and files + directory.file_count > cursor.size:
            break
        taken.append(directory)
        files += directory.file_count
    return taken


def next_size(size: int, took_s: float, target_s: float) -> int:
    """A slice should take about the target; one measurement may be wrong, so it at most doubles or halves."""
    return int(min(MOST, max(LEAST, size * min(2.0, max(0.5, target_s / max(took_s, 1e-4))))))


def next_rate(rate: float | None, count: int, passed_s: float) -> float | None:
    """Files (or directories) a second, smoothed. A gap is a pause, and says nothing."""
    if not 0 < passed_s < 10 * _MEMORY_S:
        return rate
    now = count / passed_s
    weight = min(1.0, passed_s / _MEMORY_S)
    return now if rate is None else rate + weight * (now - rate)


def outermost(paths: Iterable[str]) -> list[str]:
    """The paths that are not below another of them, each once, in the order given."""
    wanted = list(dict.fromkeys(paths))
    known = set(wanted)

    def covered(path: str) -> bool:
        while path := path.rpartition("/")[0]:
            if path in known:
                return True
        return False

    return [path for path in wanted if not covered(path)]
