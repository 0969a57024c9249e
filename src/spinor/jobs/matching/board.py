"""What waits in one VO, as it is known in memory: how many jobs of each queue, and which of them is first."""

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from spinor.configuration.work import VOShares
from spinor.jobs.matching.columns import Bools, Columns, Floats, Ints
from spinor.jobs.matching.limits import Owner
from spinor.jobs.matching.shares import Standing
from spinor.jobs.models import Requirements

_NEVER = -1.0
_PRIORITY_BITS = 56  # Above the job id: a job id has fewer bits, and the lower number goes first.


def head_of(priority: int, job_id: int) -> int:
    """The place of a job in its queue, as one number; `priority` is stored as 9 minus the job's."""
    return (priority << _PRIORITY_BITS) | job_id


class Board:
    """The task queues of one VO. *Places* are indices into its columns."""

    def __init__(self, shares: VOShares | None = None, clock: Callable[[], float] = time.time) -> None:
        self.columns = Columns()
        self.standing = Standing(shares)
        self.place_of: dict[int, int] = {}
        self.owners: list[Owner] = []
        self.leaf: Ints = np.empty(0, np.int64)
        self.waiting: Ints = np.empty(0, np.int64)  # As counted last.
        self.in_flight: Ints = np.empty(0, np.int64)  # Given away by claims that have not ended yet.
        self.head: Ints = np.empty(0, np.int64)  # A hint: no job of the queue comes before it.
        self.head_at: Floats = np.empty(0, np.float64)  # Since when it waits.
        self.suspended: Bools = np.empty(0, np.bool_)
        self._near_wait: Ints = np.empty(0, np.int64)
        self._near_at: dict[str, Bools] = {}
        self._clock = clock

    def add(self, queues: Sequence[tuple[int, Requirements, Owner]]) -> None:
        """Queues that were not known yet."""
        count = len(queues)
        for n, (queue_id, _, owner) in enumerate(queues, len(self.columns)):
            self.place_of[queue_id] = n
            self.owners.append(owner)
        self.columns.add([(queue_id, wants) for queue_id, wants, _ in queues])
        leaves = [self.standing.leaf(owner.group, owner.user) for _, _, owner in queues]
        self.leaf = np.concatenate([self.leaf, np.array(leaves, np.int64)])
        nothing: Ints = np.zeros(count, np.int64)
        self.waiting = np.concatenate([self.waiting, nothing])
        self.in_flight = np.concatenate([self.in_flight, nothing])
        self.head = np.concatenate([self.head, nothing])
        self.head_at = np.concatenate([self.head_at, np.full(count, _NEVER)])
        self.suspended = np.concatenate([self.suspended, np.zeros(count, np.bool_)])
        near = [wants.near_wait_s if wants.near_sites else 0 for _, wants, _ in queues]
        self._near_wait = np.concatenate([self._near_wait, np.array(near, np.int64)])
        self._near_at.clear()

    def count(self, waiting: Mapping[int, int]) -> None:
        """How many jobs wait, by queue; in the others none does."""
        self.waiting[:] = 0
        for queue_id, jobs in waiting.items():
            self.waiting[self.place_of[queue_id]] = jobs

    def ready(self, places: Ints) -> Ints:
        """How many jobs of these queues may be given now."""
        found: Ints = self.waiting[places] - self.in_flight[places]
        found[self.suspended[places]] = 0
        return found

    def far(self, places: Ints, site: str) -> Bools:
        """Which of these queues would rather run at another site, where their input data are."""
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
