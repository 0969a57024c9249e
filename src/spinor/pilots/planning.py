"""How many pilots to submit where: a pure decision over all queues, elements and VOs at once.

The demand is counted once: what pilots on their way or idle ones will take attracts no more pilots, and a job that
attracts one on this element attracts none on the next. Queues that differ in nothing that matters here are one, and so
are pilots; that is what makes it fast for ten thousand queues and a thousand elements.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from spinor.jobs.models import Demand, Offer
from spinor.pilots.fitting import (
    MOST_LOOKS,
    Fitting,
    Group,
    Have,
    Pool,
    pools_of,
    promise,
    serve,
    served,
    supply_of,
    turned,
)
from spinor.pilots.models import Census, IdlePilots, Wanted
from spinor.resources.models import ComputingElement
from spinor.resources.status.models import Status
from spinor.resources.status.rules import USABLE

LARGEST_ROUND = 100  # Pilots that one look of the factory asks for.


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a plan is made from."""

    demand: Sequence[Demand]
    elements: Sequence[ComputingElement]
    census: Sequence[Census] = ()
    idle: Sequence[IdlePilots] = ()
    statuses: Mapping[str, Status] = {}  # Of computing elements by name; the others are active.
    paused: frozenset[tuple[int, int]] = frozenset()  # (element, VO): no pilots now.
    shares: Mapping[int, float] = {}  # Of VOs; equal without.
    seen: Mapping[int, Offer] = {}  # By element, what the last pilot that enrolled there had to offer.
    turn: int = 0  # Which of very many queues come first: another one each time.


def plan(now: Situation, largest: int = LARGEST_ROUND) -> list[Wanted]:
    """The pilots to submit. Where room is scarce, the VO goes first that has least for its share."""
    usable = [each for each in now.elements if now.statuses.get(each.name, Status.ACTIVE) in USABLE]
    by_id = {element.ce_id: element for element in usable}
    promises = {element.ce_id: promise(element, now.seen.get(element.ce_id)) for element in usable}
    fitting = Fitting()
    rooms = _Rooms(usable, now, promises, fitting)
    if rooms.are_full():
        return []  # What is usual on a busy day need not be thought over.
    supply = supply_of(now.census, now.idle, by_id, promises, fitting)
    pools = served(turned(pools_of(now.demand, fitting), now.turn), supply, fitting)
    used = _cores_in_use(now.census, by_id)
    fresh: dict[int, list[Group]] = defaultdict(list)
    wanted: dict[tuple[int, int], int] = defaultdict(int)
    while sum(wanted.values()) < largest and fitting.looks < 2 * MOST_LOOKS:
        hungry = [vo_id for vo_id, queues in pools.items() if queues]
        if not hungry:
            break
        vo_id = min(hungry, key=lambda vo_id: (used[vo_id] / max(now.shares.get(vo_id, 1.0), 1e-9), vo_id))
        pool = pools[vo_id].popleft()
        serve(pool, fresh[vo_id], fitting)  # What pilots planned a moment ago have left.
        element = rooms.best(pool, vo_id) if pool.left > 0 else None
        if element is None:
            continue
        rooms.take(element, vo_id)
        wanted[element.ce_id, vo_id] += 1
        used[vo_id] += element.cores
        new = [Group(promises[element.ce_id], element, 1, fitting)]
        serve(pool, new, fitting)
        fresh[vo_id] += new
        if pool.left > 0:
            pools[vo_id].append(pool)
    return [Wanted(ce_id=ce_id, vo_id=vo_id, count=count) for (ce_id, vo_id), count in sorted(wanted.items())]


# --------------------------------------------------------------------------------------------------------- the room


class _Rooms:
    """How many more pilots each element, site and VO may have."""

    def __init__(
        self, elements: Sequence[ComputingElement], now: Situation, promises: Mapping[int, "Have"], fitting: Fitting
    ) -> None:
        self.elements = elements
        self.now = now
        self.promises = {ce_id: (have, fitting.number(have)) for ce_id, have in promises.items()}
        self.fitting = fitting
        self.at_site: dict[str, list[ComputingElement]] = defaultdict(list)
        for element in elements:
            self.at_site[element.site].append(element)
        self.of_element = {element.ce_id: element.max_pilots for element in elements}
        self.waiting = {e.ce_id: e.max_waiting for e in elements if e.max_waiting is not None}
        self.of_site = {e.site_id: e.site_max_pilots for e in elements if e.site_max_pilots is not None}
        self.rate = {e.ce_id: rate for e in elements if (rate := e.max_submissions_per_minute) is not None}
        self.of_vo = {
            (element.ce_id, vo_id): element.max_pilots_of_vos[vo]
            for element in elements
            for vo, vo_id in zip(element.vos, element.vo_ids, strict=True)
            if vo in element.max_pilots_of_vos
        }
        sites = {element.ce_id: element.site_id for element in now.elements}
        for each in now.census:
            self._less(self.of_element, each.ce_id, each.alive)
            self._less(self.waiting, each.ce_id, each.on_the_way)
            self._less(self.rate, each.ce_id, each.submitted_lately)
            self._less(self.of_site, sites.get(each.ce_id, -1), each.alive)
            self._less(self.of_vo, (each.ce_id, each.vo_id), each.alive)

    def are_full(self) -> bool:
        return all(left <= 0 for left in self.of_element.values())

    def best(self, pool: Pool, vo_id: int) -> ComputingElement | None:
        """The element for another pilot: an active one before a degraded one, near the data, with the most room."""
        if pool.where is None:
            near = [e for site in sorted(pool.sites) for e in self.at_site[site]] if pool.sites else self.elements
            self.fitting.looks += len(near)
            pool.where = [
                element
                for element in near
                if pool.may_go(element)
                and self.fitting.fits(pool, *self.promises[element.ce_id])
                and vo_id in element.vo_ids
                and (element.ce_id, vo_id) not in self.now.paused
            ]
        able = [element for element in pool.where if self._left(element, vo_id) > 0]
        return max(able, key=lambda element: self._rank(pool, element, vo_id), default=None)

    def take(self, element: ComputingElement, vo_id: int) -> None:
        for counts in (self.of_element, self.waiting, self.rate):
            self._less(counts, element.ce_id, 1)
        self._less(self.of_site, element.site_id, 1)
        self._less(self.of_vo, (element.ce_id, vo_id), 1)

    def _left(self, element: ComputingElement, vo_id: int) -> int:
        unlimited = element.max_pilots
        return min(
            self.of_element[element.ce_id],
            self.waiting.get(element.ce_id, unlimited),
            self.rate.get(element.ce_id, unlimited),
            self.of_site.get(element.site_id, unlimited),
            self.of_vo.get((element.ce_id, vo_id), unlimited),
        )

    def _rank(self, pool: Pool, element: ComputingElement, vo_id: int) -> tuple[bool, bool, int, str]:
        active = self.now.statuses.get(element.name, Status.ACTIVE) is Status.ACTIVE
        return (active, element.site in pool.near, self._left(element, vo_id), element.name)

    @staticmethod
    def _less(counts: dict, key: object, by: int) -> None:  # type: ignore[type-arg]
        if key in counts:
            counts[key] -= by


def _cores_in_use(census: Iterable[Census], by_id: Mapping[int, ComputingElement]) -> dict[int, float]:
    used: dict[int, float] = defaultdict(float)
    for each in census:
        if each.ce_id in by_id:
            used[each.vo_id] += each.alive * by_id[each.ce_id].cores
    return used
