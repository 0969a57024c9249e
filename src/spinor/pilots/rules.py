"""Pure decisions: how a pilot's state may change, how many pilots to submit where, when one counts as gone."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from spinor.jobs.models import Demand, Offer
from spinor.pilots.models import AlivePilot, ElementState, Ending, Followed, PilotStatus, Record, Wanted
from spinor.resources.models import ComputingElement

S = PilotStatus
ON_THE_WAY = frozenset({S.NEW, S.SUBMITTED, S.WAITING})
FINAL = frozenset({S.DONE, S.FAILED, S.ABORTED, S.DELETED})

# From each state, where it may go. The database compares and sets; this table says what it may set.
TRANSITIONS: Mapping[PilotStatus, frozenset[PilotStatus]] = {
    S.NEW: frozenset({S.SUBMITTED, S.RUNNING, S.ABORTED, S.DELETED}),
    S.SUBMITTED: frozenset({S.WAITING, S.RUNNING, S.ABORTED, S.DELETED}),
    S.WAITING: frozenset({S.RUNNING, S.ABORTED, S.DELETED}),
    S.RUNNING: frozenset({S.DONE, S.FAILED, S.ABORTED, S.DELETED}),
    **{state: frozenset() for state in FINAL},
}

LARGEST_ROUND = 100  # Pilots that one look of the factory asks for.
PATIENT_BATCHES = 2  # So many fruitless batches of pilots in a row are normal: others took the jobs.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 60.0
NEVER_SUBMITTED_S = 60.0  # An intent without an external id that is older was never carried out.
OVERTIME_S = 600.0  # Past its wall time, before the factory ends a pilot by force.


def pause_s(fruitless: int) -> float:
    """How long to wait after so many fruitless batches in a row, before the next pilot for that VO and element."""
    beyond = fruitless - PATIENT_BATCHES
    return 0.0 if beyond <= 0 else min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(beyond - 1, 10))


def plan(
    demand: Sequence[Demand],
    elements: Sequence[ComputingElement],
    alive: Sequence[AlivePilot],
    records: Iterable[Record] = (),
    largest: int = LARGEST_ROUND,
) -> list[Wanted]:
    """How many pilots to submit where.

    The demand is one over all elements: what pilots on the way or idle ones will take attracts no more pilots, and a
    job that attracts one on this element attracts none on the next. VOs and their queues take turns.
    """
    by_id = {element.ce_id: element for element in elements}
    room = {element.ce_id: element.max_pilots for element in elements}
    for pilot in alive:
        if pilot.ce_id in room:
            room[pilot.ce_id] -= 1
    paused = {(r.ce_id, r.vo_id) for r in records if r.since_s < pause_s(r.fruitless)}
    free = _free_slots(alive, by_id)
    waiting = [_Queue(queue) for queue in demand if queue.waiting > 0]
    for queue in waiting:
        for slot in free[queue.demand.wants.vo_id]:
            queue.left -= slot.take(queue.demand, queue.left)
    wanted: dict[tuple[int, int], int] = defaultdict(int)
    turn = _in_turns(waiting)
    while turn and sum(wanted.values()) < largest:
        left_over = []
        for queue in turn:
            if queue.left <= 0 or sum(wanted.values()) >= largest:
                continue
            vo_id = queue.demand.wants.vo_id
            for slot in free[vo_id]:  # What pilots planned a moment ago have left.
                queue.left -= slot.take(queue.demand, queue.left)
            element = _best(queue.demand, elements, room, paused)
            if queue.left <= 0 or element is None:
                continue
            wanted[element.ce_id, vo_id] += 1
            room[element.ce_id] -= 1
            slot = _Slot(_promise(element), element.site)
            queue.left -= slot.take(queue.demand, queue.left)
            free[vo_id].append(slot)
            left_over.append(queue)
        turn = left_over
    return [Wanted(ce_id=ce_id, vo_id=vo_id, count=count) for (ce_id, vo_id), count in sorted(wanted.items())]


class _Queue:
    def __init__(self, demand: Demand) -> None:
        self.demand = demand
        self.left = demand.waiting


class _Slot:
    """Room for jobs that is there or on its way, used up while the plan is made."""

    def __init__(self, offer: Offer, site: str) -> None:
        self.offer = offer
        self.site = site
        self.cores = offer.cores
        self.memory_bytes = offer.memory_bytes

    def take(self, demand: Demand, most: int) -> int:
        """Fill up with at most `most` jobs of this queue; how many it took."""
        if most <= 0 or self.cores < demand.wants.cores or not fits(demand, self.offer, self.site):
            return 0
        count = min(most, self.cores // demand.wants.cores)
        if demand.wants.memory_bytes > 0:
            count = min(count, self.memory_bytes // demand.wants.memory_bytes)
        self.cores -= count * demand.wants.cores
        self.memory_bytes -= count * demand.wants.memory_bytes
        return count


def fits(demand: Demand, offer: Offer, site: str) -> bool:
    """Whether one job of the queue could run in this offer."""
    return (
        demand.wants.cores <= offer.cores
        and demand.wants.memory_bytes <= offer.memory_bytes
        and demand.wants.disk_bytes <= offer.disk_bytes
        and demand.wants.wall_s <= offer.wall_s
        and (not demand.wants.sites or site in demand.wants.sites)
        and set(demand.wants.tags) <= set(offer.tags)
    )


def tags_of(element: ComputingElement) -> list[str]:
    """What pilots of this element may offer beside cores and memory: its option `tags`."""
    tags = element.options.get("tags", [])
    return [str(tag) for tag in tags] if isinstance(tags, list) else []


# What the pilot keeps back at the end of its slot for its last reports, and a little for its own start.
MARGIN_S = 60 + 30


def _promise(element: ComputingElement) -> Offer:
    return Offer(
        cores=element.cores,
        memory_bytes=element.memory_bytes,
        disk_bytes=1 << 62,  # Only the pilot will know.
        wall_s=max(0, element.wall_s - MARGIN_S),
        tags=tags_of(element),
    )


def _free_slots(alive: Sequence[AlivePilot], elements: Mapping[int, ComputingElement]) -> dict[int, list[_Slot]]:
    free: dict[int, list[_Slot]] = defaultdict(list)
    for pilot in alive:
        element = elements.get(pilot.ce_id)
        if element is None:
            continue
        if pilot.status in ON_THE_WAY:
            free[pilot.vo_id].append(_Slot(_promise(element), element.site))
        elif pilot.fresh and pilot.offer is not None and pilot.offer.cores > 0:
            free[pilot.vo_id].append(_Slot(pilot.offer, element.site))
    return free


def _in_turns(queues: Sequence[_Queue]) -> list[_Queue]:
    """The first queue of each VO, then the second of each, and so on."""
    seen: dict[int, int] = defaultdict(int)
    placed = []
    for queue in queues:
        placed.append((seen[queue.demand.wants.vo_id], queue))
        seen[queue.demand.wants.vo_id] += 1
    return [queue for _, queue in sorted(placed, key=lambda pair: pair[0])]


def _best(
    demand: Demand, elements: Sequence[ComputingElement], room: Mapping[int, int], paused: set[tuple[int, int]]
) -> ComputingElement | None:
    """The element with the most room among those where the job could run."""
    able = [
        element
        for element in elements
        if room[element.ce_id] > 0
        and demand.wants.vo_id in element.vo_ids
        and (element.ce_id, demand.wants.vo_id) not in paused
        and fits(demand, _promise(element), element.site)
    ]
    return max(able, key=lambda element: (room[element.ce_id], element.name), default=None)


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What follows from a computing element's word about a pilot; at most one of the three is set."""

    becomes: PilotStatus | None = None
    ends: Ending | None = None
    cancel: bool = False


def judge(pilot: Followed, said: ElementState, wall_s: int) -> Verdict:
    """What a computing element's word means for a pilot."""
    if said is ElementState.UNKNOWN:
        return Verdict()
    if pilot.status in FINAL:
        return Verdict(cancel=pilot.status is S.DELETED and said in (ElementState.WAITING, ElementState.RUNNING))
    if said is ElementState.WAITING:
        return Verdict(becomes=S.WAITING if pilot.status is S.SUBMITTED else None)
    if said is ElementState.RUNNING:
        return Verdict(cancel=pilot.running_s is not None and pilot.running_s > wall_s + OVERTIME_S)
    if pilot.status is S.RUNNING:
        # Its good-bye may be on the way: the process ends a moment after it, and we may have looked in between.
        ending = {ElementState.DONE: S.DONE, ElementState.FAILED: S.FAILED}.get(said, S.ABORTED)
        word = {S.DONE: "ended without a good-bye", S.FAILED: "ended with an error", S.ABORTED: "vanished"}[ending]
        return Verdict(ends=Ending(pilot_id=pilot.pilot_id, status=ending, reason=f"the pilot {word}"))
    return Verdict(
        ends=Ending(
            pilot_id=pilot.pilot_id,
            status=S.ABORTED,
            reason=f"the pilot ended before it enrolled (computing element: {said.value}); see its log",
        )
    )
