"""How much room the limits leave, as known in memory; what is exact is checked under the lock of a claim.

Of each key the database keeps how many jobs have ever been started under it. A look at the view counts, in one
snapshot, the jobs that run under it; the difference of the two is its *base*. At any later moment, base + started is no
less than what runs: every start is counted, and jobs that ended meanwhile only make it less. So a limit is never
exceeded, however old the view is, and a place that became free is seen at the next look.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from spinor.configuration.work import Limit
from spinor.jobs.matching.board import Board
from spinor.jobs.matching.columns import Ints
from spinor.jobs.matching.limits import Bucket, Key, keys_of, refilled, room
from spinor.jobs.matching.rows import KeyState

_UNLIMITED = 1 << 40


class SlotRooms:
    """The keys of each queue of a board on one computing element: a few columns of key numbers; 0 is none."""

    def __init__(self, book: "Book") -> None:
        self._book = book
        self._columns: list[Ints] = []
        self._size = 0

    def extend(self, keys: Sequence[Sequence[int]]) -> None:
        """The keys of further places."""
        while len(self._columns) < max(map(len, keys), default=0):
            self._columns.append(np.zeros(self._size, np.int64))
        for n, column in enumerate(self._columns):
            more = [each[n] if n < len(each) else 0 for each in keys]
            self._columns[n] = np.concatenate([column, np.array(more, np.int64)])
        self._size += len(keys)

    def __len__(self) -> int:
        return self._size

    def least(self, places: Ints) -> Ints:
        found: Ints = np.full(len(places), _UNLIMITED, np.int64)
        for column in self._columns:
            found = np.minimum(found, self._book.rooms[column[places]])
        return found

    def take(self, place: int, count: int) -> None:
        for key in self.keys(place):
            self._book.rooms[key] -= count

    def keys(self, place: int) -> list[int]:
        """The numbers of the keys under which a queue's jobs fall here."""
        return [int(column[place]) for column in self._columns if column[place]]

    def counted(self, places: Ints, jobs: Ints, totals: Ints) -> None:
        """Add jobs that run here to the totals of their keys."""
        for column in self._columns:
            np.add.at(totals, column[places], jobs)


class Book:
    """The limits in force, and the keys that have been met."""

    def __init__(self, limits: Sequence[Limit] = ()) -> None:
        self.limits = list(limits)
        self.keys: list[Key] = [Key("", "")]
        self.limit_of: list[Limit] = [Limit(name="")]
        self.rooms: Ints = np.array([_UNLIMITED], np.int64)
        self.base: Ints = np.zeros(1, np.int64)
        self._numbers: dict[Key, int] = {}
        self._slots: dict[tuple[int, int], SlotRooms] = {}

    def at(self, vo_id: int, board: Board, place: tuple[int, str, str]) -> SlotRooms | None:
        """The rooms on a computing element (its id, site and name); None when there are no limits at all."""
        if not self.limits:
            return None
        ce_id, site, ce = place
        rooms = self._slots.get((vo_id, ce_id))
        if rooms is None:
            rooms = self._slots[vo_id, ce_id] = SlotRooms(self)
        if len(rooms) < len(board.columns):
            unknown = range(len(rooms), len(board.columns))
            rooms.extend(
                [
                    [
                        self._number(limit, key)
                        for limit, key in keys_of(self.limits, board.owners[n], board.columns.wants[n], site, ce)
                    ]
                    for n in unknown
                ]
            )
        return rooms

    def _number(self, limit: Limit, key: Key) -> int:
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = len(self.keys)
            self.keys.append(key)
            self.limit_of.append(limit)
            self.rooms = np.append(
                self.rooms, room(limit, 0, refilled(limit.burst, None, 0.0) if limit.burst else None)
            )
            self.base = np.append(self.base, 0)
        return found

    def number_of(self, state: KeyState) -> int:
        return self._numbers[Key(state.limit, state.key)]

    def tell(self, running: Ints, states: Iterable[KeyState]) -> None:
        """What runs, by key number, and what the database keeps of keys: both as of one snapshot."""
        self.base = running.copy()
        buckets: dict[int, Bucket] = {}
        for state in states:
            number = self._numbers.get(Key(state.limit, state.key))
            if number is not None:
                self.base[number] -= state.started
                buckets[number] = self._bucket(number, state)
        for number in range(1, len(self.keys)):
            limit = self.limit_of[number]
            bucket = buckets.get(number) or (refilled(limit.burst, None, 0.0) if limit.burst else None)
            self.rooms[number] = room(limit, int(running[number]), bucket)

    def _bucket(self, number: int, state: KeyState) -> Bucket:
        burst = self.limit_of[number].burst
        kept = Bucket(state.tokens, state.refilled_at) if state.tokens is not None else None
        return refilled(burst, kept, state.at) if burst else Bucket(0.0, state.at)

    def exact(self, number: int, state: KeyState) -> tuple[int, Bucket | None]:
        """How many jobs may start under a key whose row is locked, and its tokens as they are now."""
        limit = self.limit_of[number]
        bucket = self._bucket(number, state) if limit.burst else None
        return room(limit, int(self.base[number]) + state.started, bucket), bucket

    def learn(self, found: Mapping[int, int]) -> None:
        """The rooms that were found under the lock, until the next look."""
        for number, left in found.items():
            self.rooms[number] = left
