"""How long the pilot factory thinks: ten thousand task queues, a thousand elements, fifty thousand pilots on their way.

In process, on one core, without the database. The peer is the same decision made anew for each pair of a queue and an
element.
"""

import random
import time
from collections.abc import Sequence

from bench.figures import Report, median
from bench.service import Service
from spinor.jobs.models import Demand, Requirements
from spinor.jobs.rules import Capacity, exclusions
from spinor.pilots.models import Census
from spinor.pilots.planning import Situation, plan
from spinor.resources.models import ComputingElement

SIZES = {"trial": (1_000, 100), "small": (10_000, 1_000), "full": (10_000, 1_000)}
ROUNDS = 5
VOS = [1, 2, 3, 4]
GB = 10**9


def measure(report: Report, _: Service, size: str) -> None:
    queues, elements = SIZES[size]
    chance = random.Random(7)
    ways = [_element(n, chance) for n in range(1, elements + 1)]
    demand = [_demand(n, chance, elements) for n in range(queues)]
    sent = [Census(ce_id=way.ce_id, vo_id=vo_id, alive=12, on_the_way=4) for way in ways for vo_id in VOS]
    peer = ("each pair by itself", _each_pair(demand, ways))
    words = f"{queues:,} queues, {elements:,} elements"
    report.figure(f"{words}, nothing there", _seconds(demand, ways, []) * 1000, "ms", *peer)
    pilots = 12 * len(sent)
    report.figure(f"{words}, {pilots:,} pilots there", _seconds(demand, ways, sent) * 1000, "ms", *peer)


def _seconds(demand: Sequence[Demand], ways: Sequence[ComputingElement], sent: Sequence[Census]) -> float:
    times = []
    for turn in range(ROUNDS):
        began = time.process_time()
        plan(Situation(demand=demand, elements=ways, census=sent, turn=turn))
        times.append(time.process_time() - began)
    return median(times)


def _each_pair(demand: Sequence[Demand], ways: Sequence[ComputingElement]) -> float:
    """Milliseconds, from a hundredth of the queues."""
    capacities = [
        Capacity(
            site=way.site, ce=way.name, cores=way.cores, memory_bytes=way.memory_bytes, disk_bytes=None,
            wall_s=way.wall_s, tags=frozenset(way.options["tags"]),
        )
        for way in ways
    ]  # fmt: skip
    some = demand[:: max(1, len(demand) // 100)]
    began = time.process_time()
    for each in some:
        for capacity in capacities:
            exclusions(each.wants, capacity)
    return (time.process_time() - began) * 1000 * len(demand) / len(some)


def _element(n: int, chance: random.Random) -> ComputingElement:
    return ComputingElement(
        ce_id=n, name=f"ce-{n}", site_id=n // 4, site=f"S{n // 4}", plugin="local",
        cores=chance.choice([1, 2, 4, 8, 16]),
        memory_bytes=chance.choice([2, 4, 8, 16, 32]) * GB, wall_s=chance.choice([3600, 43_200, 86_400, 172_800]),
        max_pilots=200, max_waiting=20, options={"tags": chance.choice([[], ["gpu"], ["ssd"]])},
        vos=["a", "b", "c", "d"], vo_ids=VOS,
    )  # fmt: skip


def _demand(n: int, chance: random.Random, elements: int) -> Demand:
    sites = {f"S{chance.randrange(1 + elements // 4)}" for _ in range(chance.choice([0, 0, 0, 1, 3]))}
    wants = Requirements(
        vo_id=chance.choice(VOS), owner_id=chance.randrange(500), group_id=1, cores=chance.choice([1, 1, 1, 2, 4, 8]),
        memory_bytes=chance.choice([1, 2, 3, 4, 8]) * GB, disk_bytes=GB,
        wall_s=chance.choice([600, 1800, 3600, 7200, 40_000, 80_000]),
        tags=chance.choice([[], [], [], ["gpu"], ["ssd"]]), sites=sorted(sites),
    )  # fmt: skip
    return Demand(task_queue_id=n, wants=wants, waiting=chance.choice([1, 10, 1000]))
