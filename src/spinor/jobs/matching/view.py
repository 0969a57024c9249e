"""The matcher's view of the database: read again several times a second, never the truth.

Three looks, each at its own pace, and never for more than a tenth of the time: what waits; what runs, with what limits
count; and what people decide (shares, limits, elements), with the use that has been charged.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from spinor.configuration import service as configuration
from spinor.configuration.work import VOShares, WorkRules
from spinor.db import Tx
from spinor.jobs.matching import store
from spinor.jobs.matching.board import Board, head_of
from spinor.jobs.matching.book import Book
from spinor.jobs.matching.columns import Ints
from spinor.jobs.matching.limits import Owner
from spinor.jobs.matching.rows import UseRow
from spinor.jobs.matching.shares import HALF_LIFE_S, decayed
from spinor.jobs.models import Requirements, Slot
from spinor.resources import service as resources
from spinor.resources.models import ComputingElement
from spinor.resources.status.models import Status
from spinor.resources.status.rules import USABLE
from spinor.resources.status.service import status_of

COUNT = np.dtype([("queue", ">i4"), ("jobs", ">i8")])
HEAD = np.dtype([("queue", ">i4"), ("priority", ">i2"), ("job", ">i8"), ("since", ">f8")])
OCCUPANCY = np.dtype([("queue", ">i4"), ("ce", ">i4"), ("jobs", ">i8"), ("cores", ">i8")])

_HEADS_AT_ONCE = 2000


class _Pace:
    """When something is to be read again."""

    def __init__(self, every_s: float, clock: Callable[[], float]) -> None:
        self._every_s, self._clock = every_s, clock
        self.forget()

    def due(self) -> bool:
        return self._clock() >= self._next_at

    def due_in_s(self) -> float:
        return self._next_at - self._clock()

    def forget(self) -> None:
        self._next_at = float("-inf")

    def read(self, started: float) -> None:
        now = self._clock()
        self._next_at = now + max(self._every_s, 9 * (now - started))


class View:
    """What waits and what runs, as known here."""

    def __init__(self) -> None:
        self.boards: dict[int, Board] = {}
        self.work = WorkRules()
        self.book = Book()
        self.elements: dict[int, ComputingElement] = {}
        self.statuses: Mapping[str, Status] = {}  # Of sites and computing elements that are not active.
        self._vo_of: Ints = np.zeros(1024, np.int64)  # By task queue; 0: not known yet.
        self._place_of: Ints = np.zeros(1024, np.int64)
        self._use: list[UseRow] = []
        self._use_read_at = 0.0
        self._looking, self._ready = asyncio.Lock(), False
        self.watched_until = float("-inf")  # By the monotonic clock: until then somebody else looks.
        self._waiting = _Pace(0.2, time.monotonic)
        self._running = _Pace(0.5, time.monotonic)
        self._open = _Pace(1.0, time.monotonic)
        self._decided = _Pace(5.0, time.monotonic)
        self._looks = (
            (self._decided, self._look_at_decisions),
            (self._open, self._look_at_statuses),
            (self._waiting, self._look_at_waiting),
            (self._running, self._look_at_running),
        )

    def forget(self) -> None:
        """Look at what waits at the next request."""
        self._waiting.forget()

    def forget_all(self) -> None:
        """Look at everything at the next request."""
        for pace, _ in self._looks:
            pace.forget()
        for board in self.boards.values():
            board.forget_heads()

    async def look(self, tx: Tx) -> None:
        """Read again what is due, unless another does or watches. Whoever asks then goes on with what is there."""
        if self._ready and (self._looking.locked() or time.monotonic() < self.watched_until):
            return
        await self.read(tx)

    async def read(self, tx: Tx) -> None:
        """Read again what is due."""
        async with self._looking:
            for pace, look in self._looks:
                if pace.due():
                    started = time.monotonic()
                    await look(tx)
                    pace.read(started)
            self._ready = True

    def due_in_s(self) -> float:
        """How long nothing is to be read again."""
        return min(pace.due_in_s() for pace, _ in self._looks)

    async def _look_at_decisions(self, tx: Tx) -> None:
        elements = await resources.computing_elements(tx, with_retired=True)
        self.elements = {element.ce_id: element for element in elements}
        work = await configuration.shares_and_limits(tx, self.work)
        self._use, self._use_read_at = await store.list_use(tx), time.monotonic()
        if work is not self.work:
            if work.limits != self.work.limits:
                # What runs under new keys is not known before it was counted.
                self.book = Book(work.limits)
                self._running.forget()
            self.work = work
            for vo, board in self._named_boards():
                board.standing.share_out(work.shares.get(vo, VOShares()))

    async def _look_at_statuses(self, tx: Tx) -> None:
        self.statuses = await status_of(tx)

    def takes_jobs(self, slot: Slot) -> bool:
        """Whether the slot's site and element are in use. What the operations data have given up ends what it has."""
        element = self.elements.get(slot.ce_id)
        if element is not None and element.retired_at is not None:
            return False
        return all(self.statuses.get(name, Status.ACTIVE) in USABLE for name in (slot.site, slot.ce))

    async def _look_at_waiting(self, tx: Tx) -> None:
        found = await store.read_waiting(tx)
        counts = np.frombuffer(found.counts, COUNT)
        queues, jobs = counts["queue"].astype(np.int64), counts["jobs"].astype(np.int64)
        await self._learn(tx, queues)
        for vo_id, board in self.boards.items():
            here = self._vo_of[queues] == vo_id
            board.count(self._place_of[queues[here]], jobs[here])
            board.suspend({user_id for user_id, in_vo in found.suspended if in_vo in (None, vo_id)})
        now = time.monotonic()
        for board in self.boards.values():
            places = board.unread(now, _HEADS_AT_ONCE)
            if len(places):
                found_heads = await store.read_heads(tx, board.columns.queue_ids[places].tolist())
                heads = np.frombuffer(found_heads, HEAD)
                board.read(places, now)
                board.learn_heads(
                    self._place_of[heads["queue"]],
                    head_of(heads["priority"].astype(np.int64), heads["job"].astype(np.int64)),
                    heads["since"].astype(np.float64),
                )

    async def _look_at_running(self, tx: Tx) -> None:
        found = await store.read_occupied(tx)
        rows = np.frombuffer(found.counts, OCCUPANCY)
        queues, ces = rows["queue"].astype(np.int64), rows["ce"].astype(np.int64)
        jobs, cores = rows["jobs"].astype(np.int64), rows["cores"].astype(np.int64)
        await self._learn(tx, queues)
        vos, places = self._vo_of[queues], self._place_of[queues]
        for (vo_id, board), vo in zip(list(self.boards.items()), self._vo_names(), strict=True):
            here = vos == vo_id
            leaves, shares = board.leaf[places[here]], self.work.shares.get(vo)
            running = np.bincount(leaves, cores[here], len(board.standing.leaves)).astype(np.float64)
            board.standing.tell(self._used(vo_id, board, shares.half_life_s if shares else HALF_LIFE_S), running)
        if self.book.limits:
            rooms = [
                (rooms, places[here], jobs[here])
                for vo_id, board in self.boards.items()
                for ce_id in np.unique(ces[vos == vo_id]).tolist()
                if (rooms := self.book.at(vo_id, board, self.place_of_element(ce_id))) is not None
                for here in [(vos == vo_id) & (ces == ce_id)]
            ]
            totals = np.zeros(len(self.book.keys), np.int64)
            for each, where, count in rooms:
                each.counted(where, count, totals)
            self.book.tell(totals, found.states)

    def wants_of(self, vo_id: int, queue_id: int) -> Requirements:
        """What the jobs of a queue ask for. After an error of memory that is more than their description says."""
        return self.boards[vo_id].columns.wants[int(self._place_of[queue_id])]

    def place_of_element(self, ce_id: int) -> tuple[int, str, str]:
        """The id, site and name of a computing element."""
        element = self.elements.get(ce_id)
        return (ce_id, element.site, element.name) if element else (ce_id, "", "")

    def _used(self, vo_id: int, board: Board, half_life_s: float) -> NDArray[np.float64]:
        since_s = time.monotonic() - self._use_read_at
        used = np.zeros(len(board.standing.leaves))
        for row in self._use:
            leaf = board.standing.leaves.get((row.group, row.user)) if row.vo_id == vo_id else None
            if leaf is not None:
                used[leaf] = decayed(row.core_s, row.age_s + since_s, half_life_s)
        return used

    async def _learn(self, tx: Tx, queues: Ints) -> None:
        """Take up task queues that have not been met before."""
        while queues.size and queues.max() >= len(self._vo_of):
            self._vo_of = np.concatenate([self._vo_of, np.zeros_like(self._vo_of)])
            self._place_of = np.concatenate([self._place_of, np.zeros_like(self._place_of)])
        new = np.unique(queues[self._vo_of[queues] == 0]).tolist()
        if not new:
            return
        rows = await store.list_queues(tx, new)
        # Somebody else may have met them while we waited.
        unknown = [row for row in rows if self._vo_of[row.task_queue_id] == 0]
        for vo_id in sorted({row.wants.vo_id for row in unknown}):
            of_vo = [row for row in unknown if row.wants.vo_id == vo_id]
            if vo_id not in self.boards:
                self.boards[vo_id] = Board(self.work.shares.get(of_vo[0].vo))
            board = self.boards[vo_id]
            for place, row in enumerate(of_vo, len(board.columns)):
                self._vo_of[row.task_queue_id], self._place_of[row.task_queue_id] = vo_id, place
            board.add([(row.task_queue_id, row.wants, Owner(row.vo, row.group, row.user)) for row in of_vo])

    def _vo_names(self) -> Iterator[str]:
        return (board.owners[0].vo for board in self.boards.values())

    def _named_boards(self) -> Iterator[tuple[str, Board]]:
        return zip(self._vo_names(), self.boards.values(), strict=True)
