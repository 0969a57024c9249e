"""What waits in one VO, as it is known in memory: how many jobs of each queue, and which of them is first."""

import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import TypeVar

import numpy as np

from spinor.configuration.work import VOShares
from spinor.jobs.matching.columns import Bools, Columns, Floats, Ints
from spinor.jobs.matching.limits import Owner
from spinor.jobs.matching.shares import Standing
from spinor.jobs.models import Requirements

_NEVER = -1.0
DIRTY_S, MOVED_S = 2.0, 5.0  # So old may the place of a first job be, after jobs came, and after jobs were claimed.
_PRIORITY_BITS = 56  # Above the job id: a job id has fewer bits, and the lower number goes first.


N = TypeVar("N", int, Ints)


def head_of(priority: N, job_id: N) -> N:
    """The place of a job in its queue, as one number; `priority` is stored as 9 minus the job's."""
    return (priority << _PRIORITY_BITS) | job_id


def parts_of(head: int) -> tuple[int, int]:
    """Priority and job id out of a place."""
    return head >> _PRIORITY_BITS, head & ((1 << _PRIORITY_BITS) - 1)


class Board:
    """The task queues of one VO. *Places* are indices into its columns."""

    def __init__(self, shares: VOShares | None = None, clock: Callable[[], float] = time.time) -> None:
        self.columns = Columns()
        self.standing = Standing(shares)
        self.owners: list[Owner] = []
        self.leaf: Ints = np.empty(0, np.int64)
        self.waiting: Ints = np.empty(0, np.int64)  # As counted last.
        self.in_flight: Ints = np.empty(0, np.int64)  # Given away by claims that have not ended yet.
        self.head: Ints = np.empty(0, np.int64)  # A hint: no job of the queue comes before it.
        self.head_at: Floats = np.empty(0, np.float64)  # Since when it waits.
        self.suspended: Bools = np.empty(0, np.bool_)
        self.dirty: Bools = np.empty(0, np.bool_)  # Jobs came since the head was looked up.
        self.moved: Bools = np.empty(0, np.bool_)  # Jobs were claimed since then.
        self.head_read_at: Floats = np.empty(0, np.float64)
        self._near_wait: Ints = np.empty(0, np.int64)
        self._near_at: dict[str, Bools] = {}
        self._clock = clock

    def add(self, queues: Sequence[tuple[int, Requirements, Owner]]) -> None:
        """Queues that were not known yet."""
        count = len(queues)
        self.owners += [owner for _, _, owner in queues]
        self.columns.add([(queue_id, wants) for queue_id, wants, _ in queues])
        leaves = [self.standing.leaf(owner.group, owner.user) for _, _, owner in queues]
        self.leaf = np.concatenate([self.leaf, np.array(leaves, np.int64)])
        nothing: Ints = np.zeros(count, np.int64)
        self.waiting = np.concatenate([self.waiting, nothing])
        self.in_flight = np.concatenate([self.in_flight, nothing])
        self.head = np.concatenate([self.head, nothing])
        self.head_at = np.concatenate([self.head_at, np.full(count, _NEVER)])
        self.head_read_at = np.concatenate([self.head_read_at, np.full(count, _NEVER)])
        self.suspended, self.dirty, self.moved = (
            np.concatenate([column, np.zeros(count, np.bool_)]) for column in (self.suspended, self.dirty, self.moved)
        )
        near = [wants.near_wait_s if wants.near_sites else 0 for _, wants, _ in queues]
        self._near_wait = np.concatenate([self._near_wait, np.array(near, np.int64)])
        self._near_at.clear()

    def count(self, places: Ints, jobs: Ints) -> None:
        """How many jobs wait in these queues; in the others none does. Where there are more than before, some came,
        and one of them may go before those that were seen."""
        before = self.waiting
        self.waiting = np.zeros(len(self.columns), np.int64)
        self.waiting[places] = jobs
        self.dirty |= self.waiting > before

    def claimed(self, place: int, chosen: int, claimed: int, last: int) -> None:
        """A claim has ended: of the jobs that were chosen it got so many, the last of them at this place of the queue
        (see `head_of`). They are not in flight any more."""
        self.waiting[place] = max(0, self.waiting[place] - claimed)
        if claimed < chosen:
            # Others took them, or hold them: nothing more is given before the next count, and then from the front.
            self.waiting[place] = self.in_flight[place]
            self.head[place], self.head_read_at[place] = 0, _NEVER
            self.standing_back(place, chosen - claimed)
        elif last >= self.head[place]:
            self.head[place], self.moved[place] = last + 1, True

    def standing_back(self, place: int, jobs: int) -> None:
        """What was chosen and not claimed does not count as running."""
        self.standing.grant(int(self.leaf[place]), -jobs * self.columns.wants[place].cores)

    def unread(self, now: float, most: int) -> Ints:
        """Queues whose first job is to be looked up: those that are new, where jobs came, and now and then those from
        which jobs were claimed, because some may have come back."""
        age = now - self.head_read_at
        due = (self.head_read_at == _NEVER) | (self.dirty & (age > DIRTY_S)) | (self.moved & (age > MOVED_S))
        return np.flatnonzero(due & (self.waiting > 0))[:most]

    def read(self, places: Ints, now: float) -> None:
        """The first jobs of these queues are being looked up."""
        self.dirty[places] = self.moved[places] = False
        self.head_read_at[places] = now

    def learn_heads(self, places: Ints, heads: Ints, since: Floats) -> None:
        """The first jobs of these queues: where they stand (see `head_of`) and since when they wait."""
        self.head[places], self.head_at[places] = heads, since

    def suspend(self, user_ids: AbstractSet[int]) -> None:
        """Jobs of these users may not start; those of others may."""
        self.suspended = np.isin(self.columns.owner_ids, list(user_ids)) if user_ids else np.zeros_like(self.suspended)

    def forget_heads(self) -> None:
        """Look every first job up again."""
        self.head_read_at[:] = _NEVER
        self.head[:] = 0

    def ready(self, places: Ints) -> Ints:
        """How many jobs of these queues may be given now."""
        found: Ints = (self.waiting - self.in_flight)[places]
        if self.suspended.any():
            found[self.suspended[places]] = 0
        return found

    def ready_at(self, place: int) -> int:
        """How many jobs of this queue may be given now."""
        return 0 if self.suspended[place] else int(self.waiting[place] - self.in_flight[place])

    def far(self, places: Ints, site: str) -> Bools:
        """Which of these queues would rather run at another site, where their input data are."""
        if not self._near_wait.any():
            return np.zeros(len(places), np.bool_)
        if site not in self._near_at:
            near = [not wants.near_sites or site in wants.near_sites for wants in self.columns.wants]
            self._near_at[site] = np.array(near, np.bool_)
        found: Bools = (self._near_wait[places] > 0) & ~self._near_at[site][places]
        return found

    def patient(self, places: Ints) -> Bools:
        """Whose first job has waited so long that it may run far from its data."""
        since = self.head_at[places]
        found: Bools = (since != _NEVER) & (self._clock() - since >= self._near_wait[places])
        return found

    def best(self, places: Ints) -> int:
        """The queue whose job goes first: by share, then by priority and age of its first job."""
        standing = self.standing
        leaves = self.leaf[places]
        groups = standing.group_keys[standing.group_of[leaves]]
        first = groups <= groups.min()
        leaves, places = leaves[first], places[first]
        users = standing.leaf_keys[leaves]
        places = places[users <= users.min()]
        return int(places[self.head[places].argmin()])
