"""Spinor's own background work, on a PostgreSQL queue: chores are enqueued with the change that asks for them.

A system's `chores.py` exports `CHORES: list[Chore]`; `spinor worker` gives all of them to `run_worker`.
"""

from spinor.chores.models import Chore, ChoreContext, ChoreCount, ChoreState, FailedChore, FailingChore, chore
from spinor.chores.queue import (
    OutsideTransaction,
    count_chores,
    enqueue,
    enqueue_many,
    failed_chores,
    failing_chores,
    forget_failed,
    retry_failed,
)
from spinor.chores.worker import run_worker

__all__ = [
    "Chore",
    "ChoreContext",
    "ChoreCount",
    "ChoreState",
    "FailedChore",
    "FailingChore",
    "OutsideTransaction",
    "chore",
    "count_chores",
    "enqueue",
    "enqueue_many",
    "failed_chores",
    "failing_chores",
    "forget_failed",
    "retry_failed",
    "run_worker",
]
