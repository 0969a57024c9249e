"""What the computing elements could give, as read a moment ago: a warning at submission needs no fresher answer."""

import time

from spinor.access import Caller
from spinor.db import Tx
from spinor.jobs.rules import Capacity
from spinor.resources import service as resources
from spinor.resources.models import ComputingElement

_FRESH_S = 5.0


class Elements:
    """A part of the server's state. Holds nothing but a recent answer of `resources`."""

    def __init__(self) -> None:
        self._read_at = float("-inf")
        self._elements: list[ComputingElement] = []

    async def of(self, tx: Tx, caller: Caller) -> list[ComputingElement]:
        """The computing elements that the caller's VO may use."""
        if time.monotonic() - self._read_at > _FRESH_S:
            self._elements = await resources.computing_elements(tx)
            self._read_at = time.monotonic()
        return [element for element in self._elements if caller.vo_id in element.vo_ids]


def capacity_of(element: ComputingElement) -> Capacity:
    """What a pilot of this element gets. The disk is known only to the pilot itself."""
    tags = element.options.get("tags", [])
    return Capacity(
        site=element.site,
        ce=element.name,
        cores=element.cores,
        memory_bytes=element.memory_bytes,
        disk_bytes=None,
        wall_s=element.wall_s,
        tags=frozenset(tags if isinstance(tags, list) else ()),
    )
