"""How many pilots go where: never more than allowed, never twice for the same job, never where nothing may go."""

from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinor.jobs.models import Demand, Gpu, Offer, Requirements
from spinor.jobs.rules import Capacity, exclusions
from spinor.pilots.fitting import MARGIN_S
from spinor.pilots.models import Census, IdlePilots
from spinor.pilots.planning import Situation, plan
from spinor.resources.models import ComputingElement
from spinor.resources.status.models import Status

ASTRO, BIO = 1, 2


def element(ce_id: int = 1, **changes: object) -> ComputingElement:
    facts: dict[str, object] = {
        "ce_id": ce_id,
        "name": f"ce-{ce_id}",
        "site_id": ce_id,
        "site": f"SITE{ce_id}",
        "plugin": "local",
        "cores": 2,
        "memory_bytes": 4_000_000_000,
        "wall_s": 10_000,
        "max_pilots": 10,
        "options": {},
        "vos": ["astro", "bio"],
        "vo_ids": [ASTRO, BIO],
    }
    return ComputingElement(**{**facts, **changes})  # type: ignore[arg-type]


def demand(waiting: int, **changes: object) -> Demand:
    facts: dict[str, object] = {
        "vo_id": ASTRO, "owner_id": 1, "group_id": 1, "cores": 1, "memory_bytes": 1_000_000_000,
        "disk_bytes": 1_000, "wall_s": 600,
    }  # fmt: skip
    wants = Requirements(**{**facts, **changes})  # type: ignore[arg-type]
    return Demand(task_queue_id=1, wants=wants, waiting=waiting)


def there(alive: int, on_the_way: int = 0, ce_id: int = 1, vo_id: int = ASTRO, lately: int = 0) -> Census:
    return Census(ce_id=ce_id, vo_id=vo_id, alive=alive, on_the_way=on_the_way, submitted_lately=lately)


def idle(cores: int, count: int = 1, ce_id: int = 1, vo_id: int = ASTRO) -> IdlePilots:
    offer = Offer(cores=cores, memory_bytes=4_000_000_000, disk_bytes=1 << 40, wall_s=9_000)
    return IdlePilots(ce_id=ce_id, vo_id=vo_id, offer=offer, count=count)


def planned(now: Situation, **more: int) -> dict[tuple[int, int], int]:
    return {(each.ce_id, each.vo_id): each.count for each in plan(now, **more)}


TWO = [element(1), element(2)]
GPU = Offer(
    cores=2, memory_bytes=1, disk_bytes=1, wall_s=1, platform="aarch64", gpus=[Gpu(model="A100", memory_bytes=40)]
)


@pytest.mark.parametrize(
    ("what", "now", "wanted"),
    [
        ("nothing waits", {}, {}),
        ("one job, one pilot", {"demand": [demand(1)]}, {(1, ASTRO): 1}),
        ("one job, one pilot, not one per element", {"demand": [demand(1)], "elements": TWO},
         {(2, ASTRO): 1}),
        ("queues of several people are one demand", {"demand": [demand(1), demand(1, owner_id=2)]}, {(1, ASTRO): 1}),
        ("jobs share a pilot's cores", {"demand": [demand(4)]}, {(1, ASTRO): 2}),
        ("and its memory", {"demand": [demand(4, memory_bytes=3_000_000_000)]}, {(1, ASTRO): 4}),
        ("different jobs share a pilot", {"demand": [demand(1), demand(1, wall_s=700)]}, {(1, ASTRO): 1}),
        ("a whole node is one job's", {"demand": [demand(2, whole_node=True)]}, {(1, ASTRO): 2}),
        ("not beyond the limit", {"demand": [demand(100)], "elements": [element(max_pilots=3)]}, {(1, ASTRO): 3}),
        ("the rest goes elsewhere",
         {"demand": [demand(100)], "elements": [element(max_pilots=3), element(2, max_pilots=1)]},
         {(1, ASTRO): 3, (2, ASTRO): 1}),
        ("the limit counts every VO's",
         {"demand": [demand(9)], "elements": [element(max_pilots=3)], "census": [there(2, vo_id=BIO)]},
         {(1, ASTRO): 1}),
        ("a limit of those that wait",
         {"demand": [demand(99)], "elements": [element(max_waiting=4)], "census": [there(5, 3)]}, {(1, ASTRO): 1}),
        ("a limit of a VO", {"demand": [demand(99), demand(3, vo_id=BIO)],
                             "elements": [element(max_pilots_of_vos={"astro": 2})], "census": [there(1)]},
         {(1, ASTRO): 1, (1, BIO): 2}),
        ("a limit of a site", {"demand": [demand(99)], "census": [there(1)],
                               "elements": [element(n, site_id=7, site_max_pilots=3) for n in (1, 2)]},
         {(2, ASTRO): 2}),
        ("a limit of a minute", {"demand": [demand(99)], "elements": [element(max_submissions_per_minute=4)],
                                 "census": [there(0, lately=3)]}, {(1, ASTRO): 1}),
        ("a pilot on its way is enough", {"demand": [demand(2)], "census": [there(1, 1)]}, {}),
        ("but not for three jobs", {"demand": [demand(3)], "census": [there(1, 1)]}, {(1, ASTRO): 1}),
        ("another VO's pilot is no help", {"demand": [demand(1)], "census": [there(1, 1, vo_id=BIO)]}, {(1, ASTRO): 1}),
        ("an idle pilot is enough", {"demand": [demand(2)], "idle": [idle(2)], "census": [there(1)]}, {}),
        ("a busy one is not", {"demand": [demand(1)], "census": [there(1)]}, {(1, ASTRO): 1}),
        ("jobs too large for every element", {"demand": [demand(1, cores=3)]}, {}),
        ("too long", {"demand": [demand(1, wall_s=9_950)]}, {}),
        ("too long where the queue takes its part",
         {"demand": [demand(1, wall_s=8_000)], "elements": [element(plugin="push", options={"queue_s": 2_000})]}, {}),
        ("only at the site", {"demand": [demand(1, sites=["SITE2"])], "elements": TWO}, {(2, ASTRO): 1}),
        ("not at the banned one", {"demand": [demand(1, banned_sites=["SITE2"])], "elements": TWO},
         {(1, ASTRO): 1}),
        ("only on the element", {"demand": [demand(1, computing_elements=["ce-1"])], "elements": TWO},
         {(1, ASTRO): 1}),
        ("near its data", {"demand": [demand(1, near_sites=["SITE1"])], "elements": TWO},
         {(1, ASTRO): 1}),
        ("only with the tag",
         {"demand": [demand(1, tags=["gpu"])], "elements": [element(1), element(2, options={"tags": ["gpu", "x"]})]},
         {(2, ASTRO): 1}),
        ("where the last pilot had a GPU", {"demand": [demand(1, gpus=1, gpu_model="a100")], "seen": {
            1: GPU, 2: Offer(cores=1, memory_bytes=1, disk_bytes=1, wall_s=1)}, "elements": TWO},
         {(1, ASTRO): 1}),
        ("of the right machine", {"demand": [demand(1, platform="x86_64")], "seen": {1: GPU}}, {}),
        ("only where the VO may",
         {"demand": [demand(1)], "elements": [element(1, vos=["bio"], vo_ids=[BIO]), element(2)]}, {(2, ASTRO): 1}),
        ("VOs take turns", {"demand": [demand(50), demand(50, vo_id=BIO)], "elements": [element(max_pilots=4)]},
         {(1, ASTRO): 2, (1, BIO): 2}),
        ("by their shares", {"demand": [demand(50), demand(50, vo_id=BIO)], "elements": [element(max_pilots=4)],
                             "shares": {ASTRO: 3.0, BIO: 1.0}}, {(1, ASTRO): 3, (1, BIO): 1}),
        ("who has much waits", {"demand": [demand(50), demand(50, vo_id=BIO)], "elements": [element(max_pilots=8)],
                                "census": [there(4)]}, {(1, BIO): 4}),
        ("pilots of a retired element hold no room", {"demand": [demand(1)], "census": [there(9, 9, ce_id=9)]},
         {(1, ASTRO): 1}),
        ("an element without room at all", {"demand": [demand(1)], "elements": [element(max_pilots=0)]}, {}),
        ("more there than allowed now", {"demand": [demand(9)], "elements": [element(max_pilots=1)],
                                         "census": [there(5)]}, {}),
        ("not where it is paused", {"demand": [demand(1)], "paused": frozenset({(1, ASTRO)})}, {}),
        ("not where it is banned, and what is on its way there is no help",
         {"demand": [demand(2)], "statuses": {"ce-2": Status.BANNED}, "elements": TWO,
          "census": [there(1, 1, ce_id=2)], "idle": [idle(2, ce_id=2)]}, {(1, ASTRO): 1}),
        ("a degraded one comes last", {"demand": [demand(1)], "statuses": {"ce-2": Status.DEGRADED},
                                       "elements": [element(1, max_pilots=1), element(2)]}, {(1, ASTRO): 1}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_plan(what: str, now: Mapping[str, object], wanted: dict[tuple[int, int], int]) -> None:
    facts: dict[str, object] = {"demand": [], "elements": [element()], **now}
    assert planned(Situation(**facts)) == wanted, what  # type: ignore[arg-type]


def test_one_round_is_bounded() -> None:
    now = Situation(demand=[demand(1000)], elements=[element(max_pilots=5000)])
    assert sum(planned(now, largest=7).values()) == 7


# --------------------------------------------------------------------------------------------- whatever the situation

SITES = ["SITE1", "SITE2", "SITE3", "SITE4"]
demands = st.lists(
    st.builds(
        demand,
        st.integers(0, 30),
        vo_id=st.sampled_from([ASTRO, BIO]),
        owner_id=st.integers(1, 3),
        cores=st.integers(1, 4),
        memory_bytes=st.sampled_from([0, 10**9, 3 * 10**9]),
        wall_s=st.sampled_from([60, 600, 9_920]),
        whole_node=st.booleans(),
        sites=st.lists(st.sampled_from(SITES), unique=True, max_size=2).map(sorted),
        banned_sites=st.lists(st.sampled_from(SITES), unique=True, max_size=2).map(sorted),
        computing_elements=st.lists(st.sampled_from(["ce-1", "ce-2"]), unique=True, max_size=1),
        tags=st.lists(st.sampled_from(["gpu", "ssd"]), unique=True, max_size=1),
        near_sites=st.lists(st.sampled_from(SITES), unique=True, max_size=1),
    ),
    max_size=8,
)
limit = st.none() | st.integers(0, 6)
tags = st.sampled_from([[], ["gpu"], ["gpu", "ssd"]])
elements = st.builds(
    lambda *facts: [
        element(
            n, cores=cores, max_pilots=most, max_waiting=waiting, site_max_pilots=site, site=f"SITE{1 + n % 2}",
            site_id=1 + n % 2, max_pilots_of_vos={} if vo is None else {"astro": vo},
            max_submissions_per_minute=rate or None, options={"tags": tags},
        )
        for n, (cores, most, waiting, vo, rate, tags) in enumerate(facts[1:], 1)
        for site in [facts[0]]
    ],
    limit,
    *[st.tuples(st.integers(1, 4), st.integers(0, 8), limit, limit, limit, tags)] * 4,
)  # fmt: skip
census = st.lists(
    st.builds(
        lambda alive, way, ce_id, vo_id, lately: there(alive + way, way, ce_id, vo_id, lately),
        st.integers(0, 4), st.integers(0, 3), st.integers(1, 4), st.sampled_from([ASTRO, BIO]), st.integers(0, 3),
    ),
    max_size=6,
    unique_by=lambda each: (each.ce_id, each.vo_id),
)  # fmt: skip
situations = st.builds(
    Situation,
    demand=demands,
    elements=elements,
    census=census,
    statuses=st.dictionaries(st.sampled_from(["ce-1", "ce-2", "ce-3"]), st.sampled_from(Status), max_size=3),
    paused=st.frozensets(st.tuples(st.integers(1, 4), st.sampled_from([ASTRO, BIO])), max_size=2),
)


def capacity(each: ComputingElement) -> Capacity:
    return Capacity(
        site=each.site, ce=each.name, cores=each.cores, memory_bytes=each.memory_bytes, disk_bytes=None,
        wall_s=each.wall_s - MARGIN_S, tags=frozenset(each.options["tags"]),
    )  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(situations)
def test_no_limit_is_passed_and_nothing_goes_where_it_may_not(now: Situation) -> None:
    new = planned(now)
    by_id = {each.ce_id: each for each in now.elements}
    alive, way, lately = Counter[int](), Counter[int](), Counter[int]()
    of_site, of_vo = Counter[int](), Counter[tuple[int, int]]()
    for each in now.census:
        alive[each.ce_id] += each.alive
        way[each.ce_id] += each.on_the_way
        lately[each.ce_id] += each.submitted_lately
        of_site[by_id[each.ce_id].site_id] += each.alive
        of_vo[each.ce_id, each.vo_id] += each.alive
    of_element, new_of_site = Counter[int](), Counter[int]()
    for (ce_id, vo_id), count in new.items():
        of_element[ce_id] += count
        new_of_site[by_id[ce_id].site_id] += count
        there = by_id[ce_id]
        assert (ce_id, vo_id) not in now.paused
        assert now.statuses.get(there.name, Status.ACTIVE) in (Status.ACTIVE, Status.DEGRADED)
        fitting = [d for d in now.demand if d.wants.vo_id == vo_id and not exclusions(d.wants, capacity(there))]
        assert count <= sum(d.waiting for d in fitting), "a pilot for nobody"
        most = there.max_pilots_of_vos.get("astro") if vo_id == ASTRO else None
        assert most is None or of_vo[ce_id, vo_id] + count <= most
    for ce_id, count in of_element.items():
        there = by_id[ce_id]
        assert alive[ce_id] + count <= there.max_pilots
        assert there.max_waiting is None or way[ce_id] + count <= there.max_waiting
        rate = there.max_submissions_per_minute
        assert rate is None or lately[ce_id] + count <= rate
    for site_id, count in new_of_site.items():
        (most,) = {each.site_max_pilots for each in now.elements if each.site_id == site_id}
        assert most is None or of_site[site_id] + count <= most


@settings(deadline=None, max_examples=300)
@given(situations)
def test_demand_is_counted_once(now: Situation) -> None:
    new = planned(now)
    for vo_id in (ASTRO, BIO):
        waiting = sum(each.waiting for each in now.demand if each.wants.vo_id == vo_id)
        assert sum(count for (_, vo), count in new.items() if vo == vo_id) <= waiting


def unlimited(now: Situation) -> list[ComputingElement]:
    return [
        element(each.ce_id, site=each.site, cores=each.cores, options=each.options, max_pilots=1000)
        for each in now.elements
    ]


@settings(deadline=None, max_examples=200)
@given(situations)
def test_what_is_on_its_way_is_not_asked_for_again(now: Situation) -> None:
    """Each queue for itself: planning again at once, with the pilots of the first plan on their way, asks for none."""
    for queue in now.demand:
        wanted = planned(Situation(demand=[queue], elements=unlimited(now)), largest=1000)
        sent = [there(count, count, ce_id, vo_id) for (ce_id, vo_id), count in wanted.items()]
        assert planned(Situation(demand=[queue], elements=unlimited(now), census=sent), largest=1000) == {}


@settings(deadline=None, max_examples=200)
@given(situations)
def test_planning_again_and_again_comes_to_an_end(now: Situation) -> None:
    """Together, queues may take slots that others were counting on; never are there more pilots than jobs."""
    total = Counter[tuple[int, int]]()
    waiting = sum(each.waiting for each in now.demand)
    for _ in range(waiting + 1):
        sent = [there(count, count, ce_id, vo_id) for (ce_id, vo_id), count in total.items()]
        new = planned(Situation(demand=now.demand, elements=unlimited(now), census=sent), largest=1000)
        if not new:
            break
        total.update(new)
    assert sum(total.values()) <= waiting
