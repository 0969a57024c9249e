"""The claim for a group of pilots: what was chosen in memory, held against limits, and taken in one statement."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import msgspec

from spinor.db import Tx
from spinor.jobs.matching import store
from spinor.jobs.matching.board import Board, head_of, parts_of
from spinor.jobs.matching.book import Book, SlotRooms
from spinor.jobs.matching.filling import Choice, fill
from spinor.jobs.matching.limits import Bucket
from spinor.jobs.matching.rows import ClaimedJob, Deal, Wish
from spinor.jobs.matching.view import View
from spinor.jobs.models import Slot


class Ask(msgspec.Struct, frozen=True):
    """A pilot of a VO asks for up to `most` jobs."""

    vo_id: int
    slot: Slot
    most: int


class _Chosen(msgspec.Struct):
    """What was chosen for one pilot."""

    ask: Ask
    board: Board
    rooms: SlotRooms | None
    choices: list[Choice]


class _Started(msgspec.Struct, frozen=True):
    """A key of a limit whose row is locked: its tokens, and the moment of that by the database's clock."""

    bucket: Bucket | None
    at: float


async def claim(tx: Tx, view: View, asks: Sequence[Ask]) -> list[ClaimedJob]:
    """Jobs for these pilots, in the order in which they waited. An ask that gets nothing because others were faster is
    tried once more."""
    claimed = await _claim_once(tx, view, asks)
    served = {job.pilot_id for job in claimed}
    unserved = [ask for ask in asks if ask.slot.pilot_id not in served]
    if unserved:
        claimed += await _claim_once(tx, view, unserved)
    return claimed


async def _claim_once(tx: Tx, view: View, asks: Sequence[Ask]) -> list[ClaimedJob]:
    book = view.book
    chosen = [each for ask in asks if (each := _choose(view, ask)) is not None and each.choices]
    if not chosen:
        return []
    taken: list[ClaimedJob] = []
    planned = [(each, list(each.choices)) for each in chosen]
    try:
        locked = await _hold_to_limits(tx, book, chosen)
        wishes, deals = _dealt(chosen)
        if deals:
            taken = await store.claim_jobs(tx, wishes, deals)
            wishes, deals = _still_wanted(wishes, deals, taken)
            if deals:
                # Some may have come back and stand before the place where we looked.
                taken += await store.claim_jobs(tx, wishes, deals)
        if locked:
            await _count_starts(tx, book, locked, chosen, taken)
    finally:
        _settle(planned, taken)
    return taken


def _still_wanted(
    wishes: Sequence[Wish], deals: Sequence[Deal], taken: Sequence[ClaimedJob]
) -> tuple[list[Wish], list[Deal]]:
    """What a claim did not get of queues that it looked at from another place than the front: from there, now."""
    got: Counter[tuple[int, int]] = Counter((job.task_queue_id, job.pilot_id) for job in taken)
    inside = {wish.task_queue_id for wish in wishes if (wish.priority, wish.job_id) != (0, 0)}
    counts: Counter[int] = Counter()
    left = []
    for deal in deals:
        whose = deal.task_queue_id, deal.pilot_id
        if deal.task_queue_id not in inside:
            continue
        if got[whose]:
            got[whose] -= 1
            continue
        counts[deal.task_queue_id] += 1
        left.append(msgspec.structs.replace(deal, n=counts[deal.task_queue_id]))
    return [Wish(queue, count, 0, 0) for queue, count in sorted(counts.items())], left


def _choose(view: View, ask: Ask) -> _Chosen | None:
    board = view.boards.get(ask.vo_id)
    if board is None or not view.takes_jobs(ask.slot):
        return None
    slot = ask.slot
    rooms = view.book.at(ask.vo_id, board, (slot.ce_id, slot.site, slot.ce))
    return _Chosen(ask, board, rooms, fill(board, slot, ask.most, rooms))


async def _hold_to_limits(tx: Tx, book: Book, chosen: Sequence[_Chosen]) -> dict[int, _Started]:
    """Strike what the limits do not let start. Their rows stay locked: no other server counts on the same room."""
    numbers = {
        number
        for each in chosen
        if each.rooms is not None
        for place in {choice.place for choice in each.choices}
        for number in each.rooms.keys(place)
    }
    if not numbers:
        return {}
    left: dict[int, int] = {}
    locked: dict[int, _Started] = {}
    for state in await store.lock_limits(tx, sorted(book.keys[number] for number in numbers)):
        number = book.number_of(state)
        left[number], bucket = book.exact(number, state)
        locked[number] = _Started(bucket, state.at)
    for each in chosen:
        if each.rooms is not None:
            each.choices = [choice for choice in each.choices if _has_room(each.rooms.keys(choice.place), left)]
    book.learn(left)
    return locked


def _has_room(keys: Sequence[int], left: dict[int, int]) -> bool:
    if any(left[key] <= 0 for key in keys):
        return False
    for key in keys:
        left[key] -= 1
    return True


def _dealt(chosen: Sequence[_Chosen]) -> tuple[list[Wish], list[Deal]]:
    """The sum for each queue, since rows that one's own transaction has locked are not skipped; and whose is which.
    Pilots near the data come first: what has not waited long enough for the others is then at the end."""
    counts: Counter[int] = Counter()
    boards: dict[int, tuple[Board, int]] = {}
    deals = []
    for far in (False, True):
        for each in chosen:
            slot, columns = each.ask.slot, each.board.columns
            for choice in each.choices:
                if choice.far is not far:
                    continue
                queue = int(columns.queue_ids[choice.place])
                counts[queue] += 1
                boards[queue] = each.board, choice.place
                waited_s = float(columns.wants[choice.place].near_wait_s) if far else 0.0
                deals.append(
                    Deal(
                        queue, counts[queue], slot.pilot_id, each.ask.vo_id, slot.site_id, slot.ce_id, choice.cores,
                        waited_s,
                    )
                )  # fmt: skip
    wishes = [
        Wish(queue, count, *parts_of(int(board.head[place])))
        for queue, count in sorted(counts.items())
        for board, place in [boards[queue]]
    ]
    return wishes, deals


async def _count_starts(
    tx: Tx, book: Book, locked: Mapping[int, _Started], chosen: Sequence[_Chosen], taken: Sequence[ClaimedJob]
) -> None:
    jobs: Counter[tuple[int, int]] = Counter((job.pilot_id, job.task_queue_id) for job in taken)
    started: Counter[int] = Counter()
    for each in chosen:
        for place in {choice.place for choice in each.choices}:
            count = jobs[each.ask.slot.pilot_id, int(each.board.columns.queue_ids[place])]
            for number in each.rooms.keys(place) if each.rooms is not None else ():
                started[number] += count
    rows = []
    for number, count in started.items():
        bucket, at = locked[number].bucket, locked[number].at
        if count:
            left = Bucket(bucket.tokens - count, at) if bucket else None
            rows.append((book.keys[number], count, left, at))
    if rows:
        await store.count_starts(tx, rows)


def _settle(planned: Sequence[tuple[_Chosen, list[Choice]]], taken: Sequence[ClaimedJob]) -> None:
    """Tell the boards what came of the choices. `planned` are those from before the limits struck some."""
    got: Counter[int] = Counter(job.task_queue_id for job in taken)
    last: dict[int, int] = defaultdict(int)
    for job in taken:
        last[job.task_queue_id] = max(last[job.task_queue_id], head_of(job.priority, job.job_id))
    asked: Counter[int] = Counter()
    where: dict[int, tuple[Board, int]] = {}
    for each, choices in planned:
        queues = each.board.columns.queue_ids
        for choice in choices:
            queue = int(queues[choice.place])
            asked[queue] += 1
            where[queue] = each.board, choice.place
            each.board.in_flight[choice.place] -= 1
        if len(each.choices) < len(choices):
            for choice in _struck(choices, each.choices):
                asked[int(queues[choice.place])] -= 1
                each.board.standing_back(choice.place, 1)
    for queue, (board, place) in where.items():
        if asked[queue]:
            board.claimed(place, asked[queue], got[queue], last[queue])


def _struck(before: Sequence[Choice], after: Sequence[Choice]) -> list[Choice]:
    kept = {id(choice) for choice in after}
    return [choice for choice in before if id(choice) not in kept]
