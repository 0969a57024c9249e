"""The verbs of matching."""

import time
from collections import defaultdict
from collections.abc import Sequence

import msgspec
import numpy as np

from spinor.access import Caller
from spinor.configuration import service as configuration
from spinor.db import Tx
from spinor.jobs.matching import store
from spinor.jobs.matching.assignments import Assigner
from spinor.jobs.matching.claims import Ask, claim
from spinor.jobs.matching.elements import Elements
from spinor.jobs.matching.filling import candidates
from spinor.jobs.matching.view import COUNT, View
from spinor.jobs.models import Assignment, Demand, Requirements, ShareOfVO, Slot

_WAKE_S = 0.2


class Matcher:
    """A part of the server's state, with nothing in it that is not in SQL."""

    def __init__(self) -> None:
        self.view = View()
        self.elements = Elements()
        self.assigner = Assigner()
        self._woken_at: dict[int, float] = {}

    def may_wake(self, vo_id: int) -> bool:
        """Whether idle pilots of the VO should be told that jobs came: now and then, since each signal is written to
        the database and makes commits wait for each other. Pilots that are not told look within a second."""
        now = time.monotonic()
        if now - self._woken_at.get(vo_id, float("-inf")) < _WAKE_S:
            return False
        self._woken_at[vo_id] = now
        return True

    def forget(self) -> None:
        """Look at what waits at the next request."""
        self.view.forget()

    def forget_all(self) -> None:
        """Look at everything at the next request."""
        self.view.forget_all()


async def match_asks(tx: Tx, matcher: Matcher, asks: Sequence[Ask]) -> list[list[Assignment]]:
    """Jobs for several pilots at once, in the order asked: of each VO by share, then priority and age, as many as fit
    into each slot together. Each job is given to one pilot alone, under a lease. A job whose input is gone fails here,
    and is in no answer.
    """
    await matcher.view.look(tx)
    claimed = await claim(tx, matcher.view, asks)
    given: dict[int, list[Assignment]] = defaultdict(list)
    if claimed:
        jobs = {job.job_id: job for job in claimed}
        for assignment in await matcher.assigner.assignments(tx, claimed):
            job = jobs[assignment.job_id]
            memory_bytes = matcher.view.wants_of(job.vo_id, job.task_queue_id).memory_bytes
            if memory_bytes > assignment.memory_bytes:
                assignment = msgspec.structs.replace(assignment, memory_bytes=memory_bytes)
            given[job.pilot_id].append(assignment)
    return [given.pop(ask.slot.pilot_id, []) for ask in asks]


async def match_jobs(tx: Tx, matcher: Matcher, pilot: Caller, slot: Slot, max_jobs: int) -> list[Assignment]:
    """Jobs for one pilot."""
    [given] = await match_asks(tx, matcher, [Ask(pilot.vo_id, slot, max_jobs)])
    return given


def may_match(matcher: Matcher, ask: Ask) -> bool:
    """Whether a claim for this pilot could get something, as far as is known here."""
    board = matcher.view.boards.get(ask.vo_id)
    if board is None or not matcher.view.takes_jobs(ask.slot):
        return False
    slot = ask.slot
    rooms = matcher.view.book.at(ask.vo_id, board, (slot.ce_id, slot.site, slot.ce))
    return bool(len(candidates(board, slot, rooms)))


async def demand(tx: Tx) -> list[Demand]:
    """The task queues of every VO in which jobs wait that may start. What a queue wants is asked once: it never
    changes."""
    found = await store.read_waiting(tx)
    waiting = {int(queue_id): int(jobs) for queue_id, jobs in np.frombuffer(found.counts, COUNT)}
    known: dict[int, Requirements] = tx.memory.get("wants", {})
    known = {queue_id: known[queue_id] for queue_id in waiting.keys() & known.keys()}
    known.update(await store.list_wants(tx, sorted(waiting.keys() - known.keys())))
    tx.memory["wants"] = known
    suspended = set(found.suspended)
    return [
        Demand(task_queue_id=queue_id, wants=wants, waiting=waiting[queue_id])
        for queue_id, wants in sorted(known.items())
        if suspended.isdisjoint({(wants.owner_id, None), (wants.owner_id, wants.vo_id)})
    ]


async def charge_shares(tx: Tx) -> float:
    """Charge users for what has run since the last time; how many seconds that were."""
    return await store.charge_shares(tx, await configuration.shares_and_limits(tx))


async def shares_of_vos(tx: Tx) -> list[ShareOfVO]:
    """What each VO may have, and what it has had: whoever has used least, compared with its share, comes first."""
    return await store.list_vo_use(tx, await configuration.shares_and_limits(tx))
