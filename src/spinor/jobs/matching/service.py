"""Matching: the choice is made in memory, the claim in SQL.

The view of the queues may be stale, because the claim itself is exact: a row that is gone is not given, and a short
claim only makes the next request look again. Several servers match side by side without waiting for each other.
"""

import heapq
import time
from collections.abc import Sequence

import msgspec

from spinor.access import Caller
from spinor.db import Tx
from spinor.errors import SpinorError
from spinor.jobs.attempts import store as attempts
from spinor.jobs.matching import store
from spinor.jobs.matching.assignments import assignments
from spinor.jobs.matching.elements import Elements
from spinor.jobs.models import Assignment, Demand, ErrorClass, FinishReport, JobStatus, Offer, Slot
from spinor.jobs.rows import Head, HeldJob
from spinor.jobs.rules import Capacity, Verdict, exclusions

_FRESH_S = 0.2
_WAKE_S = 0.2
_DEPTH = 32  # Jobs that are seen at the head of each queue.


class Matcher:
    """A view of the task queues in which jobs wait: a part of the server's state, with nothing that is not in SQL."""

    def __init__(self) -> None:
        self._heads: list[Head] = []
        self._longer: set[int] = set()  # Queues with more jobs than were seen.
        self._read_at = float("-inf")
        self._fresh_s = _FRESH_S
        self._woken_at: dict[int, float] = {}
        self.elements = Elements()

    async def heads(self, tx: Tx, vo_id: int) -> list[Head]:
        """The queues of the VO, at most a fifth of a second old (more when reading them takes long)."""
        started = time.monotonic()
        if started - self._read_at > self._fresh_s:
            self._heads = await store.list_waiting_heads(tx, _DEPTH)
            self._longer = {head.task_queue_id for head in self._heads if len(head.job_ids) == _DEPTH}
            self._read_at = time.monotonic()
            self._fresh_s = max(_FRESH_S, 10 * (self._read_at - started))
        return [head for head in self._heads if head.wants.vo_id == vo_id]

    def may_wake(self, vo_id: int) -> bool:
        """Whether idle pilots of the VO should be told that jobs came: now and then, since each signal is written to
        the database and makes commits wait for each other. Pilots that are not told look within a second."""
        now = time.monotonic()
        if now - self._woken_at.get(vo_id, float("-inf")) < _WAKE_S:
            return False
        self._woken_at[vo_id] = now
        return True

    def forget(self) -> None:
        """Look again at the next request: what was seen is not there any more."""
        self._read_at = float("-inf")

    def given(self, wishes: Sequence[tuple[int, int, int]]) -> None:
        """These many jobs left the heads of these queues."""
        counts = {queue: count for queue, count, _ in wishes}
        if any(
            counts.get(head.task_queue_id, 0) >= len(head.job_ids)
            for head in self._heads
            if head.task_queue_id in self._longer
        ):
            self.forget()
        self._heads = [
            _without(head, counts[head.task_queue_id]) if head.task_queue_id in counts else head
            for head in self._heads
            if counts.get(head.task_queue_id, 0) < len(head.job_ids)
        ]


def _without(head: Head, count: int) -> Head:
    return msgspec.structs.replace(head, priorities=head.priorities[count:], job_ids=head.job_ids[count:])


async def match_jobs(tx: Tx, matcher: Matcher, pilot: Caller, slot: Slot, max_jobs: int) -> list[Assignment]:
    """Up to `max_jobs` jobs that fit into the slot together, each given to this pilot alone under a lease.

    Higher priority goes first, then the older job. A job whose input is gone fails here, and is not in the answer.
    """
    for _ in range(2):
        wishes = chosen(await matcher.heads(tx, pilot.vo_id), slot, max_jobs)
        if not wishes:
            return []
        # Before the claim, so that a request that comes meanwhile looks at what is left.
        matcher.given(wishes)
        claimed = await store.claim_jobs(tx, pilot.vo_id, slot, wishes)
        if len(claimed) < sum(count for _, count, _ in wishes):
            matcher.forget()
        if claimed:
            return await _assigned(tx, pilot, claimed)
    return []


def chosen(heads: Sequence[Head], slot: Slot, max_jobs: int) -> list[tuple[int, int, int]]:
    """How many jobs to take from which queues, and the cores for each: the best first, as long as they fit."""
    left = slot.offer
    capacity = Capacity.of(slot)
    fitting = [head for head in heads if not exclusions(head.wants, capacity)]
    best = [(head.priorities[0], head.job_ids[0], n, 0) for n, head in enumerate(fitting)]
    heapq.heapify(best)
    counts: dict[int, int] = {}
    while best and sum(counts.values()) < max_jobs:
        _, _, n, taken = heapq.heappop(best)
        head = fitting[n]
        if exclusions(head.wants, Capacity.of(slot, left)):
            continue
        left = _reduced(left, head)
        counts[head.task_queue_id] = taken + 1
        if taken + 1 < len(head.job_ids):
            heapq.heappush(best, (head.priorities[taken + 1], head.job_ids[taken + 1], n, taken + 1))
    cores = {head.task_queue_id: head.wants.cores for head in fitting}
    return [(queue, count, cores[queue]) for queue, count in counts.items()]


def _reduced(offer: Offer, head: Head) -> Offer:
    return msgspec.structs.replace(
        offer,
        cores=offer.cores - head.wants.cores,
        gpus=offer.gpus[head.wants.gpus :],
        whole_node=False,
        memory_bytes=offer.memory_bytes - head.wants.memory_bytes,
        disk_bytes=offer.disk_bytes - head.wants.disk_bytes,
    )


async def _assigned(tx: Tx, pilot: Caller, claimed: Sequence[HeldJob]) -> list[Assignment]:
    """The claimed jobs in full. Where one of them cannot be put together, that one fails and the rest is given."""
    try:
        async with tx.transaction():
            return await assignments(tx, pilot, claimed)
    except SpinorError as error:
        if error.retry:
            raise
        if len(claimed) > 1:
            return [each for job in claimed for each in await _assigned(tx, pilot, [job])]
        report = FinishReport(attempt=claimed[0].attempt, error_class=ErrorClass.DATA)
        verdict = Verdict(status=JobStatus.FAILED, minor_status="inputs or outputs not available", reason=error.message)
        await attempts.end_job(tx, pilot.vo_id, claimed[0], report, verdict, "matcher", None)
        return []


async def demand(tx: Tx) -> list[Demand]:
    """The task queues of every VO in which jobs wait."""
    return await store.count_demand(tx)
