"""How many pilots to submit where: a pure decision over all queues, elements and VOs at once.

The demand is counted once: what pilots on their way or idle ones will take attracts no more pilots, and a job that
attracts one on this element attracts none on the next. Queues that differ in nothing that matters here are one, and so
are pilots; that is what makes it fast for ten thousand queues and a thousand elements.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import msgspec

from spinor.jobs.models import Demand, Gpu, Offer, Requirements
from spinor.jobs.rules import Capacity, exclusions
from spinor.pilots.models import Census, IdlePilots, Wanted
from spinor.resources.models import ComputingElement
from spinor.resources.status.models import Status
from spinor.resources.status.rules import USABLE

LARGEST_ROUND = 100  # Pilots that one look of the factory asks for.
# What the pilot keeps back at the end of its slot for its last reports, and a little for its own start.
MARGIN_S = 60 + 30
_WALL_STEP_S, _MEMORY_STEP, _DISK_STEP = 300, 100_000_000, 1_000_000_000  # Idle pilots of nearly the same are the same.


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


def plan(now: Situation, largest: int = LARGEST_ROUND) -> list[Wanted]:
    """The pilots to submit. Where room is scarce, the VO goes first that has least for its share."""
    usable = [each for each in now.elements if now.statuses.get(each.name, Status.ACTIVE) in USABLE]
    by_id = {element.ce_id: element for element in usable}
    promises = {element.ce_id: _promise(element, now.seen.get(element.ce_id)) for element in usable}
    supply = _supply(now, by_id, promises)
    pools = _pools(now.demand)
    for vo_id, queues in pools.items():
        for pool in sorted(queues, key=_Pool.is_flexible):
            _serve(pool, supply[vo_id])
        pools[vo_id] = deque(pool for pool in queues if pool.left > 0)
    rooms = _Rooms(usable, now, promises)
    used = _cores_in_use(now.census, by_id)
    wanted: dict[tuple[int, int], int] = defaultdict(int)
    while sum(wanted.values()) < largest:
        hungry = [vo_id for vo_id, queues in pools.items() if queues]
        if not hungry:
            break
        vo_id = min(hungry, key=lambda vo_id: (used[vo_id] / max(now.shares.get(vo_id, 1.0), 1e-9), vo_id))
        pool = pools[vo_id].popleft()
        _serve(pool, supply[vo_id])  # What pilots planned a moment ago have left.
        element = rooms.best(pool, vo_id) if pool.left > 0 else None
        if element is None:
            continue
        rooms.take(element, vo_id)
        wanted[element.ce_id, vo_id] += 1
        used[vo_id] += element.cores
        fresh = [_Group(rooms.promises[element.ce_id], element, 1)]
        _serve(pool, fresh)
        supply[vo_id] += fresh
        if pool.left > 0:
            pools[vo_id].append(pool)
    return [Wanted(ce_id=ce_id, vo_id=vo_id, count=count) for (ce_id, vo_id), count in sorted(wanted.items())]


# ------------------------------------------------------------------------------------------------------- the demand


class _Pool:
    """Jobs of one VO that want the same of a slot, from however many queues."""

    def __init__(self, wants: Requirements) -> None:
        self.wants = wants
        self.left = 0
        self.sites = frozenset(wants.sites)
        self.banned = frozenset(wants.banned_sites)
        self.elements = frozenset(wants.computing_elements)
        self.near = frozenset(wants.near_sites)
        self.needs = _needs(wants)
        self.where: list[ComputingElement] | None = None  # Where a pilot could take one of them, once asked.

    def is_flexible(self) -> tuple[bool, bool, int, int]:
        """The choosy ones first: they have fewer slots to go to than the others."""
        return (
            not (self.sites or self.elements),
            not self.wants.tags,
            -self.wants.cores,
            -self.wants.wall_s,
        )

    def fits(self, offer: "_Have", element: ComputingElement) -> bool:
        return (
            (not self.sites or element.site in self.sites)
            and element.site not in self.banned
            and (not self.elements or element.name in self.elements)
            and _fits(self.needs, offer)
        )


class _Needs(msgspec.Struct, frozen=True, kw_only=True):
    """What a job asks of the slot itself, wherever that is."""

    cores: int
    whole_node: bool
    memory_bytes: int
    disk_bytes: int
    wall_s: int
    cpu_work_hs23_s: float
    gpus: int
    gpu_model: str
    gpu_memory_bytes: int
    platform: str
    container: bool
    tags: tuple[str, ...]


_NEEDS = tuple(name for name in _Needs.__struct_fields__ if name != "tags")


def _needs(wants: Requirements) -> _Needs:
    return _Needs(**{name: getattr(wants, name) for name in _NEEDS}, tags=tuple(wants.tags))


def _pools(demand: Iterable[Demand]) -> dict[int, deque[_Pool]]:
    """By VO, in the order in which the queues came."""
    found: dict[tuple[object, ...], _Pool] = {}
    for each in demand:
        wants = each.wants
        key = (
            wants.vo_id, _needs(wants), tuple(wants.sites), tuple(wants.banned_sites), tuple(wants.computing_elements),
            tuple(wants.near_sites),
        )  # fmt: skip
        pool = found.get(key)
        if pool is None:
            pool = found[key] = _Pool(wants)
        pool.left += max(0, each.waiting)
    by_vo: dict[int, deque[_Pool]] = defaultdict(deque)
    for pool in found.values():
        if pool.left > 0:
            by_vo[pool.wants.vo_id].append(pool)
    return by_vo


# ------------------------------------------------------------------------------------------------------- the supply


class _Have(msgspec.Struct, frozen=True, kw_only=True):
    """What a slot offers beside its place. None: not known beforehand."""

    cores: int
    memory_bytes: int
    wall_s: int
    tags: tuple[str, ...]
    disk_bytes: int | None = None
    gpus: tuple[Gpu, ...] | None = None
    platform: str | None = None
    hs23_per_core: float | None = None
    containers: bool | None = None
    whole_node: bool | None = None


@lru_cache(maxsize=1 << 18)
def _fits(needs: _Needs, have: _Have) -> bool:
    """The same decision as the matcher's, where the place has been looked at already."""
    values = {name: getattr(needs, name) for name in _NEEDS}
    wants = Requirements(vo_id=0, owner_id=0, group_id=0, max_cores=needs.cores, tags=list(needs.tags), **values)
    there = {name: getattr(have, name) for name in have.__struct_fields__ if name != "tags"}
    return not exclusions(wants, Capacity(site="", ce="", tags=frozenset(have.tags), **there))


class _Group:
    """Slots of one kind that are there or on their way, used up while the plan is made."""

    def __init__(self, have: _Have, element: ComputingElement, count: int) -> None:
        self.have = have
        self.element = element
        self.count = count
        self.cores = have.cores
        self.memory_bytes = have.memory_bytes
        self.gpus = len(have.gpus) if have.gpus is not None else 1 << 10

    def per_slot(self, wants: Requirements) -> int:
        """How many of these jobs one slot of the group has room for."""
        if wants.whole_node:
            return int(self.cores == self.have.cores)
        count = self.cores // wants.cores
        if wants.memory_bytes > 0:
            count = min(count, self.memory_bytes // wants.memory_bytes)
        if wants.gpus > 0:
            count = min(count, self.gpus // wants.gpus)
        return count

    def rest(self, wants: Requirements, jobs: int, count: int) -> "_Group":
        """So many slots of it with so many jobs in each."""
        rest = _Group(self.have, self.element, count)
        rest.cores = 0 if wants.whole_node else self.cores - jobs * wants.cores
        rest.memory_bytes = self.memory_bytes - jobs * wants.memory_bytes
        rest.gpus = self.gpus - jobs * wants.gpus
        return rest


def _serve(pool: _Pool, groups: list[_Group]) -> None:
    """Put jobs of the pool into the slots, as long as there are any."""
    rests: list[_Group] = []
    emptied = False
    for group in groups:
        if pool.left <= 0:
            break
        most = group.per_slot(pool.wants)
        if most <= 0 or not pool.fits(group.have, group.element):
            continue
        touched = min(group.count, -(-pool.left // most))
        jobs = min(pool.left, touched * most)
        full, partly = divmod(jobs, most)
        pool.left -= jobs
        if full:
            rests.append(group.rest(pool.wants, most, full))
        if partly:
            rests.append(group.rest(pool.wants, partly, 1))
        group.count -= touched
        emptied = emptied or group.count == 0
    if emptied:
        groups[:] = [group for group in groups if group.count > 0]
    groups += [rest for rest in rests if rest.cores > 0]


def _supply(
    now: Situation, by_id: Mapping[int, ComputingElement], promises: Mapping[int, _Have]
) -> dict[int, list[_Group]]:
    found: dict[int, list[_Group]] = defaultdict(list)
    for pilots in now.idle:
        if pilots.ce_id in by_id and pilots.offer.cores > 0:
            found[pilots.vo_id].append(_Group(_have(pilots.offer), by_id[pilots.ce_id], pilots.count))
    for each in now.census:
        if each.ce_id in by_id and each.on_the_way > 0:
            found[each.vo_id].append(_Group(promises[each.ce_id], by_id[each.ce_id], each.on_the_way))
    return found


def _promise(element: ComputingElement, seen: Offer | None) -> _Have:
    """What a pilot there will offer. What only pilots know is as the last one that enrolled there said."""
    return _Have(
        cores=element.cores,
        memory_bytes=element.memory_bytes,
        wall_s=max(0, element.wall_s - MARGIN_S),
        tags=tuple(sorted(tags_of(element))),
        gpus=tuple(seen.gpus) if seen else None,
        platform=(seen.platform or None) if seen else None,
        hs23_per_core=(seen.hs23_per_core or None) if seen else None,
        containers=bool(seen.container_runtimes) if seen and seen.platform else None,
    )


def tags_of(element: ComputingElement) -> list[str]:
    """What pilots of this element may offer beside cores and memory: its option `tags`."""
    tags = element.options.get("tags", [])
    return [str(tag) for tag in tags] if isinstance(tags, list) else []


def _have(offer: Offer) -> _Have:
    return _Have(
        cores=offer.cores,
        memory_bytes=offer.memory_bytes // _MEMORY_STEP * _MEMORY_STEP,
        disk_bytes=offer.disk_bytes // _DISK_STEP * _DISK_STEP,
        wall_s=offer.wall_s // _WALL_STEP_S * _WALL_STEP_S,
        tags=tuple(sorted(offer.tags)),
        gpus=tuple(offer.gpus),
        platform=offer.platform or None,
        hs23_per_core=offer.hs23_per_core or None,
        containers=bool(offer.container_runtimes),
        whole_node=offer.whole_node,
    )


# --------------------------------------------------------------------------------------------------------- the room


class _Rooms:
    """How many more pilots each element, site and VO may have."""

    def __init__(self, elements: Sequence[ComputingElement], now: Situation, promises: Mapping[int, "_Have"]) -> None:
        self.elements = elements
        self.now = now
        self.promises = promises
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

    def best(self, pool: _Pool, vo_id: int) -> ComputingElement | None:
        """The element for another pilot: an active one before a degraded one, near the data, with the most room."""
        if pool.where is None:
            pool.where = [
                element
                for element in self.elements
                if vo_id in element.vo_ids
                and (element.ce_id, vo_id) not in self.now.paused
                and pool.fits(self.promises[element.ce_id], element)
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

    def _rank(self, pool: _Pool, element: ComputingElement, vo_id: int) -> tuple[bool, bool, int, str]:
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
