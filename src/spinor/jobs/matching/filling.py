"""Filling one slot: which jobs, from which queues, with how many cores each. The choice is made in memory."""

from collections.abc import Sequence
from typing import Protocol

import msgspec
import numpy as np

from spinor.jobs.fit import WITHOUT_LIMIT, gpu_fits
from spinor.jobs.matching.board import Board
from spinor.jobs.matching.columns import Ints
from spinor.jobs.models import Gpu, Requirements, Slot

# So many jobs of one queue are given before the shares are compared again.
_TURN = 8


class Choice(msgspec.Struct):
    """One job more for a slot: of which queue, and with how many cores."""

    place: int
    cores: int
    far: bool = False  # Away from its input data: only if it has waited long enough.


class Rooms(Protocol):
    """How many jobs limits still let start, by place of a board."""

    def least(self, places: Ints) -> Ints: ...
    def take(self, place: int, count: int) -> None: ...


class _Left:
    """What a slot has left while it is filled."""

    def __init__(self, slot: Slot) -> None:
        offer = slot.offer
        self.cores, self.memory, self.disk = offer.cores, offer.memory_bytes, offer.disk_bytes
        self.whole = offer.whole_node
        self.gpus: list[Gpu] = list(offer.gpus)

    def holds(self, wants: Requirements, cores: int) -> int:
        """How many such jobs there is room for."""
        if wants.whole_node:
            return int(self.whole and wants.cores <= self.cores)
        count = self.cores // max(1, cores)
        for wanted, here in ((wants.memory_bytes, self.memory), (wants.disk_bytes, self.disk)):
            if wanted > 0:
                count = min(count, here // wanted)
        if wants.gpus:
            count = min(count, sum(1 for gpu in self.gpus if gpu_fits(wants, gpu)) // wants.gpus)
        return count

    def take(self, wants: Requirements, cores: int, count: int) -> None:
        self.cores = 0 if wants.whole_node else self.cores - cores * count
        self.memory -= wants.memory_bytes * count
        self.disk -= wants.disk_bytes * count
        self.whole = False
        if wants.gpus:
            # The smallest that do: larger ones are left for those that need them.
            suited = sorted((gpu for gpu in self.gpus if gpu_fits(wants, gpu)), key=lambda gpu: gpu.memory_bytes)
            for gpu in suited[: wants.gpus * count]:
                self.gpus.remove(gpu)


def candidates(board: Board, slot: Slot, rooms: Rooms | None = None) -> Ints:
    """The queues from which something could be given to this slot now."""
    places = board.columns.fitting(slot)
    places = places[board.ready(places) > 0]
    if len(places):
        far = board.far(places, slot.site)
        if far.any():
            places = places[~far | board.patient(places)]
    if rooms is not None and len(places):
        places = places[rooms.least(places) > 0]
    return places


def fill(board: Board, slot: Slot, most: int, rooms: Rooms | None = None) -> list[Choice]:
    """Up to `most` jobs that fit into the slot together, the first first. What is chosen counts as in flight."""
    places = candidates(board, slot, rooms)
    left = _Left(slot)
    chosen: list[Choice] = []
    while len(chosen) < most and len(places):
        place = board.best(places)
        wants = board.columns.wants[place]
        cores = slot.offer.cores if wants.whole_node else int(board.columns.needed_cores(place, slot))
        one = np.array([place])
        count = min(most - len(chosen), _TURN, left.holds(wants, cores), board.ready_at(place))
        if rooms is not None:
            count = min(count, int(rooms.least(one)[0]))
        if count <= 0:
            places = places[places != place]
            continue
        left.take(wants, cores, count)
        _given(board, place, count, cores)
        if rooms is not None:
            rooms.take(place, count)
        far_away = bool(board.far(one, slot.site)[0])
        chosen += [Choice(place, cores, far_away) for _ in range(count)]
        if left.cores <= 0 or len(chosen) == most:
            break
        places = _still(board, places, left)
        if rooms is not None:
            places = places[rooms.least(places) > 0]
    _widen(board, chosen, left)
    return chosen


def _given(board: Board, place: int, count: int, cores: int) -> None:
    board.in_flight[place] += count
    board.standing.grant(int(board.leaf[place]), count * cores)


def _still(board: Board, places: Ints, left: _Left) -> Ints:
    columns = board.columns
    fits = (
        (columns.cores[places] <= left.cores)
        & (columns.memory[places] <= left.memory)
        & (columns.disk[places] <= left.disk)
        & ~columns.whole[places]
        & (board.ready(places) > 0)
    )
    return places[fits]


def _widen(board: Board, chosen: Sequence[Choice], left: _Left) -> None:
    """Cores that nobody took go to the jobs that can use more, in turns."""
    growing = [choice for choice in chosen if board.columns.most_cores[choice.place] not in (1, WITHOUT_LIMIT)]
    while left.cores > 0 and growing:
        growing = [choice for choice in growing if choice.cores < board.columns.most_cores[choice.place]]
        for choice in growing[: left.cores]:
            choice.cores += 1
            left.cores -= 1
            board.standing.grant(int(board.leaf[choice.place]), 1)
