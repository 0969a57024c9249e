"""The task queues of one VO as columns: whether a slot suits them is decided for all of them at once.

What `jobs.fit.exclusions` says of one queue, these masks say of ten thousand; a test holds them to each other.
Constraints that are no numbers come in few combinations, the *kinds*: those about the place, about tags and about the
machine each in their own. A kind is judged once for each *nature* of that side of a slot, and remembered.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from spinor.jobs.fit import WITHOUT_LIMIT, Capacity, exclusions, most_cores
from spinor.jobs.models import Requirements, Slot

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

_SHAPES_KEPT = 4096


class _Part:
    """Constraints that are no numbers and look at the same side of a slot, as columns of what was judged before."""

    def __init__(self, fields: Sequence[str], nature: Callable[[Slot], Any]) -> None:
        self._fields, self._nature = fields, nature
        self._kind: Ints = np.empty(0, np.int64)
        self._kinds: dict[bytes, int] = {}
        self._examples: list[Requirements] = []
        self._judged: dict[Any, list[bool]] = {}

    def add(self, new: Sequence[Requirements]) -> None:
        self._kind = _longer(self._kind, [self._kind_of(each) for each in new])

    def _kind_of(self, wants: Requirements) -> int:
        values = {field: getattr(wants, field) for field in self._fields}
        key = msgspec.json.encode(values)
        found = self._kinds.get(key)
        if found is None:
            found = self._kinds[key] = len(self._examples)
            self._examples.append(Requirements(vo_id=0, owner_id=0, group_id=0, cores=0, wall_s=0, **values))
        return found

    def mask(self, slot: Slot) -> Bools:
        """Which queues this side of the slot suits."""
        nature = self._nature(slot)
        judged = self._judged.get(nature)
        if judged is None:
            if len(self._judged) >= _SHAPES_KEPT:
                self._judged.clear()
            judged = self._judged[nature] = []
        if len(judged) < len(self._examples):
            capacity = Capacity.of(slot)
            judged += [not exclusions(each, capacity) for each in self._examples[len(judged) :]]
        found: Bools = np.array(judged, np.bool_)[self._kind]
        return found


def _place(slot: Slot) -> Any:
    return slot.site, slot.ce


def _tags(slot: Slot) -> Any:
    return tuple(slot.offer.tags)


def _machine(slot: Slot) -> Any:
    offer = slot.offer
    gpus = tuple((gpu.model, gpu.memory_bytes) for gpu in offer.gpus)
    return offer.platform, bool(offer.container_runtimes), gpus


class Columns:
    """Grows only: task queues never change, and are never deleted."""

    def __init__(self) -> None:
        self.queue_ids: Ints = np.empty(0, np.int64)
        self.owner_ids: Ints = np.empty(0, np.int64)
        self.wants: list[Requirements] = []
        self.cores: Ints = np.empty(0, np.int64)
        self.most_cores: Ints = np.empty(0, np.int64)
        self.memory: Ints = np.empty(0, np.int64)
        self.disk: Ints = np.empty(0, np.int64)
        self.wall: Ints = np.empty(0, np.int64)
        self.work: Floats = np.empty(0, np.float64)
        self.whole: Bools = np.empty(0, np.bool_)
        self._parts = (
            _Part(("sites", "banned_sites", "computing_elements"), _place),
            _Part(("tags",), _tags),
            _Part(("platform", "container", "gpus", "gpu_model", "gpu_memory_bytes"), _machine),
        )
        self._shapes: dict[Any, Ints] = {}

    def __len__(self) -> int:
        return len(self.wants)

    def add(self, queues: Sequence[tuple[int, Requirements]]) -> None:
        new = [wants for _, wants in queues]
        self.wants.extend(new)
        self.queue_ids = _longer(self.queue_ids, [queue_id for queue_id, _ in queues])
        self.owner_ids = _longer(self.owner_ids, [each.owner_id for each in new])
        self.cores = _longer(self.cores, [each.cores for each in new])
        self.most_cores = _longer(self.most_cores, [most_cores(each) for each in new])
        self.memory = _longer(self.memory, [each.memory_bytes for each in new])
        self.disk = _longer(self.disk, [each.disk_bytes for each in new])
        self.wall = _longer(self.wall, [each.wall_s for each in new])
        self.work = _longer(self.work, [each.cpu_work_hs23_s for each in new])
        self.whole = _longer(self.whole, [each.whole_node for each in new])
        for part in self._parts:
            part.add(new)
        self._shapes.clear()

    def fitting(self, slot: Slot) -> Ints:
        """The places, in these columns, of the queues whose jobs this slot could run; without regard to waiting jobs,
        limits, and the time for which jobs wait near their data."""
        shape = (_place(slot), _tags(slot), _machine(slot), _numbers_of(slot))
        found = self._shapes.get(shape)
        if found is None:
            if len(self._shapes) >= _SHAPES_KEPT:
                self._shapes.clear()
            mask = self._numbers(slot)
            for part in self._parts:
                mask &= part.mask(slot)
            found = self._shapes[shape] = np.flatnonzero(mask)
        return found

    def _numbers(self, slot: Slot) -> Bools:
        offer = slot.offer
        mask = (
            (self.cores <= offer.cores)
            & (self.memory <= offer.memory_bytes)
            & (self.disk <= offer.disk_bytes)
            & (self.wall <= offer.wall_s)
            & (self.needed_cores(slice(None), slot) <= np.minimum(self.most_cores, offer.cores))
        )
        return mask if offer.whole_node else mask & ~self.whole

    def needed_cores(self, which: Any, slot: Slot) -> Ints:
        """The least number of cores with which jobs of these queues can do their work here in time."""
        work = self.work[which]
        per_core = slot.offer.wall_s * slot.offer.hs23_per_core
        if not slot.offer.hs23_per_core:  # Nobody measured it.
            by_work = np.zeros_like(work, np.int64)
        elif per_core > 0:
            by_work = np.minimum(np.ceil(work / per_core), float(WITHOUT_LIMIT)).astype(np.int64)
        else:
            by_work = np.where(work > 0, WITHOUT_LIMIT, 0)
        needed: Ints = np.maximum(self.cores[which], by_work)
        return needed


def _numbers_of(slot: Slot) -> Any:
    offer = slot.offer
    return (
        offer.cores, offer.memory_bytes, offer.disk_bytes, offer.wall_s, offer.hs23_per_core, offer.whole_node,
    )  # fmt: skip


def _longer(column: NDArray[Any], values: Sequence[Any]) -> NDArray[Any]:
    return np.concatenate([column, np.array(values, column.dtype)])
