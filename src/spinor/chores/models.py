"""What a chore is, what it is given to work with, and what an operator sees of the queue."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from spinor.db import Database
from spinor.settings import Settings


@dataclass(frozen=True, kw_only=True)
class ChoreContext:
    """What every chore may use. `log` already carries the chore's name, and its id if it was enqueued, on each line."""

    db: Database
    settings: Settings
    log: logging.Logger


Run = Callable[[ChoreContext, dict[str, Any]], Awaitable[None]]


class Chore(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of background work. Make it with `chore`."""

    name: str
    run: Run
    every_s: float | None
    timeout_s: float
    retries: int
    concurrency: int


def chore(
    name: str, run: Run, *, every_s: float | None = None, timeout_s: float, retries: int, concurrency: int
) -> Chore:
    """Declare a kind of chore.

    `run` may be called more than once for the same chore (its worker was killed, or the database was away when it
    ended), so it calls verbs that are idempotent. It must not block the event loop: a worker that is silent for
    15 seconds counts as dead, and its chores run elsewhere; use `asyncio.to_thread` for what computes.
    `every_s` makes it periodic as well, once per period over all workers. A period of up to 15 s is kept without the
    queue: such a turn is not tried again before the next one. `concurrency` is the number that may run at a time over
    all workers, and for the turns of a short period that number again; a kind finishes at most ten times that number of
    enqueued chores each second.
    """
    if not name or len(name) > 100:
        raise ValueError(f"the name of a chore has 1 to 100 characters, not {len(name)}")
    if timeout_s <= 0 or retries < 0 or concurrency < 1 or (every_s is not None and every_s < 1):
        raise ValueError(f"chore {name}: timeout_s > 0, retries >= 0, concurrency >= 1 and every_s >= 1 are needed")
    return Chore(name=name, run=run, every_s=every_s, timeout_s=timeout_s, retries=retries, concurrency=concurrency)


class ChoreState(StrEnum):
    """Where a chore of the queue stands; one that succeeded is no longer there."""

    WAITING = "waiting"  # to running; also while it waits for its next attempt
    RUNNING = "running"  # to (gone), waiting, failed; to running when its worker died
    FAILED = "failed"  # to waiting, by an operator


class ChoreCount(msgspec.Struct, frozen=True, kw_only=True):
    """How many chores of a kind are in a state, and since when the oldest of them is in the queue."""

    name: str
    state: ChoreState
    count: int
    oldest_at: datetime


class FailedChore(msgspec.Struct, frozen=True, kw_only=True):
    """A chore that used up its retries, kept with its last error until an operator decides."""

    id: int
    name: str
    attempts: int
    enqueued_at: datetime
    failed_at: datetime
    error: str


class FailingChore(msgspec.Struct, frozen=True, kw_only=True):
    """A chore of a short period whose last turns failed; it stands here until one succeeds."""

    name: str
    failures: int
    since: datetime
    failed_at: datetime
    error: str
