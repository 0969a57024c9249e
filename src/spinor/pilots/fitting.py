"""What waits and what is there for it, put together until they fit: the parts that a plan is made of.

Queues that differ in nothing that matters here are one pool, and pilots with the same to offer are one group.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from functools import lru_cache

import msgspec

from spinor.jobs.models import Demand, Gpu, Offer, Requirements
from spinor.jobs.rules import Capacity, exclusions
from spinor.pilots.models import Census, IdlePilots
from spinor.resources.models import ComputingElement

# So often a round compares jobs with slots or elements: some tenths of a second. The next round goes on from there.
MOST_LOOKS = 1_000_000
# What the pilot keeps back at the end of its slot for its last reports, and a little for its own start.
MARGIN_S = 60 + 30
_BLOCK = 256  # Pools that are served together, the choosy ones first.
_WALL_STEP_S, _MEMORY_STEP, _DISK_STEP = 300, 100_000_000, 1_000_000_000  # Idle pilots of nearly the same are the same.

# ------------------------------------------------------------------------------------------------------- the demand


class Fitting:
    """Remembers what fits where, and counts how often anybody asked."""

    def __init__(self) -> None:
        self.looks = 0
        self._numbers: dict[object, int] = {}
        self._known: dict[tuple[int, int], bool] = {}

    def number(self, thing: "_Needs | Have") -> int:
        return self._numbers.setdefault(thing, len(self._numbers))

    def fits(self, pool: "Pool", have: "Have", have_number: int) -> bool:
        needs = pool.needs
        if needs.cores > have.cores or needs.memory_bytes > have.memory_bytes or needs.wall_s > have.wall_s:
            return False  # Nearly all that do not fit, without a closer look.
        key = (pool.number, have_number)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = _fits(needs, have)
        return known


class Pool:
    """Jobs of one VO that want the same of a slot, from however many queues."""

    def __init__(self, wants: Requirements, needs: "_Needs", number: int) -> None:
        self.wants = wants
        self.needs = needs
        self.number = number
        self.left = 0
        self.sites = frozenset(wants.sites)
        self.banned = frozenset(wants.banned_sites)
        self.elements = frozenset(wants.computing_elements)
        self.near = frozenset(wants.near_sites)
        self.where: list[ComputingElement] | None = None  # Where a pilot could take one of them, once asked.

    def is_flexible(self) -> tuple[bool, bool, int, int]:
        """The choosy ones first: they have fewer slots to go to than the others."""
        return (
            not (self.sites or self.elements),
            not self.wants.tags,
            -self.wants.cores,
            -self.wants.wall_s,
        )

    def may_go(self, element: ComputingElement) -> bool:
        return (
            (not self.sites or element.site in self.sites)
            and element.site not in self.banned
            and (not self.elements or element.name in self.elements)
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
    return _Needs(
        cores=wants.cores,
        whole_node=wants.whole_node,
        memory_bytes=wants.memory_bytes,
        disk_bytes=wants.disk_bytes,
        wall_s=wants.wall_s,
        cpu_work_hs23_s=wants.cpu_work_hs23_s,
        gpus=wants.gpus,
        gpu_model=wants.gpu_model,
        gpu_memory_bytes=wants.gpu_memory_bytes,
        platform=wants.platform,
        container=wants.container,
        tags=tuple(wants.tags),
    )


def pools_of(demand: Iterable[Demand], fitting: Fitting) -> list[Pool]:
    """In the order in which the queues came."""
    found: dict[tuple[object, ...], Pool] = {}
    for each in demand:
        if each.waiting <= 0:
            continue
        wants = each.wants
        needs = _needs(wants)
        number = fitting.number(needs)
        key = (
            wants.vo_id, number, tuple(wants.sites), tuple(wants.banned_sites), tuple(wants.computing_elements),
            tuple(wants.near_sites),
        )  # fmt: skip
        pool = found.get(key)
        if pool is None:
            pool = found[key] = Pool(wants, needs, number)
        pool.left += each.waiting
    return list(found.values())


def turned(pools: list[Pool], turn: int) -> list[Pool]:
    """Beginning with another one each time."""
    first = turn * 997 % len(pools) if pools else 0
    return pools[first:] + pools[:first]


def served(pools: list[Pool], supply: dict[int, list["Group"]], fitting: Fitting) -> dict[int, deque[Pool]]:
    """By VO, the pools for which what is there and on its way is not enough. What there is no time to look at is left
    out: it can have all the supply the next time, so that never too many pilots are sent."""
    left: dict[int, deque[Pool]] = defaultdict(deque)
    for start in range(0, len(pools), _BLOCK):
        if fitting.looks >= MOST_LOOKS:
            break
        block = pools[start : start + _BLOCK]
        for pool in sorted(block, key=Pool.is_flexible):
            serve(pool, supply[pool.wants.vo_id], fitting)
        for pool in block:
            if pool.left > 0:
                left[pool.wants.vo_id].append(pool)
    return left


# ------------------------------------------------------------------------------------------------------- the supply


class Have(msgspec.Struct, frozen=True, kw_only=True):
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
def _fits(needs: _Needs, have: Have) -> bool:
    """The same decision as the matcher's, where the place has been looked at already."""
    values = {name: getattr(needs, name) for name in _NEEDS}
    wants = Requirements(vo_id=0, owner_id=0, group_id=0, max_cores=needs.cores, tags=list(needs.tags), **values)
    there = {name: getattr(have, name) for name in have.__struct_fields__ if name != "tags"}
    return not exclusions(wants, Capacity(site="", ce="", tags=frozenset(have.tags), **there))


class Group:
    """Slots of one kind that are there or on their way, used up while the plan is made."""

    def __init__(self, have: Have, element: ComputingElement, count: int, fitting: Fitting) -> None:
        self.fitting = fitting
        self.number = fitting.number(have)
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

    def rest(self, wants: Requirements, jobs: int, count: int) -> "Group":
        """So many slots of it with so many jobs in each."""
        rest = Group(self.have, self.element, count, self.fitting)
        rest.cores = 0 if wants.whole_node else self.cores - jobs * wants.cores
        rest.memory_bytes = self.memory_bytes - jobs * wants.memory_bytes
        rest.gpus = self.gpus - jobs * wants.gpus
        return rest


def serve(pool: Pool, groups: list[Group], fitting: Fitting) -> None:
    """Put jobs of the pool into the slots, as long as there are any."""
    rests: list[Group] = []
    emptied = False
    cores = pool.wants.cores
    for group in groups:
        if pool.left <= 0:
            break
        fitting.looks += 1
        if group.cores < cores or not pool.may_go(group.element):
            continue
        most = group.per_slot(pool.wants)
        if most <= 0 or not fitting.fits(pool, group.have, group.number):
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


def supply_of(
    census: Iterable[Census],
    idle: Iterable[IdlePilots],
    by_id: Mapping[int, ComputingElement],
    promises: Mapping[int, Have],
    fitting: Fitting,
) -> dict[int, list[Group]]:
    """By VO, the slots that idle pilots have and that those on their way will have."""
    found: dict[int, list[Group]] = defaultdict(list)
    for pilots in idle:
        if pilots.ce_id in by_id and pilots.offer.cores > 0:
            found[pilots.vo_id].append(Group(_have(pilots.offer), by_id[pilots.ce_id], pilots.count, fitting))
    for each in census:
        if each.ce_id in by_id and each.on_the_way > 0:
            found[each.vo_id].append(Group(promises[each.ce_id], by_id[each.ce_id], each.on_the_way, fitting))
    return found


def promise(element: ComputingElement, seen: Offer | None) -> Have:
    """What a pilot there will offer. What only pilots know is as the last one that enrolled there said."""
    return Have(
        cores=element.cores,
        memory_bytes=element.memory_bytes,
        wall_s=max(0, element.wall_s - _queue_s(element) - MARGIN_S),
        tags=tuple(sorted(tags_of(element))),
        gpus=tuple(seen.gpus) if seen else None,
        platform=(seen.platform or None) if seen else None,
        hs23_per_core=(seen.hs23_per_core or None) if seen else None,
        containers=bool(seen.container_runtimes) if seen and seen.platform else None,
    )


def _queue_s(element: ComputingElement) -> int:
    """What a pilot that pushes its jobs keeps of its wall time, since they may wait for their node."""
    queue_s = element.options.get("queue_s", 3600) if element.plugin == "push" else 0
    return queue_s if isinstance(queue_s, int) else 0


def tags_of(element: ComputingElement) -> list[str]:
    """What pilots of this element may offer beside cores and memory: its option `tags`."""
    tags = element.options.get("tags", [])
    return [str(tag) for tag in tags] if isinstance(tags, list) else []


def _have(offer: Offer) -> Have:
    return Have(
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
