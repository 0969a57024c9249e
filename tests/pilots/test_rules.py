"""Decisions without I/O: how many pilots to submit where, and what an element's word means."""

import itertools

import pytest

from spinor.jobs.models import Demand, Offer
from spinor.pilots import rules
from spinor.pilots.models import AlivePilot, ElementState, Followed, PilotStatus, Record
from spinor.resources.models import ComputingElement

ASTRO, BIO = 1, 2


def element(ce_id: int = 1, **changes: object) -> ComputingElement:
    facts: dict[str, object] = {
        "ce_id": ce_id,
        "name": f"ce-{ce_id}",
        "site_id": ce_id,
        "site": f"SITE{ce_id}",
        "plugin": "local",
        "cores": 2,
        "memory_bytes": 4_000,
        "wall_s": 10_000,
        "max_pilots": 10,
        "options": {},
        "vos": ["astro", "bio"],
        "vo_ids": [ASTRO, BIO],
    }
    return ComputingElement(**{**facts, **changes})  # type: ignore[arg-type]


def demand(waiting: int, **changes: object) -> Demand:
    facts: dict[str, object] = {
        "task_queue_id": 1,
        "vo_id": ASTRO,
        "cores": 1,
        "memory_bytes": 1_000,
        "disk_bytes": 1_000,
        "wall_s": 600,
        "sites": [],
        "tags": [],
        "waiting": waiting,
    }
    return Demand(**{**facts, **changes})  # type: ignore[arg-type]


def alive(status: PilotStatus, ce_id: int = 1, vo_id: int = ASTRO, cores: int | None = None) -> AlivePilot:
    offer = None
    if cores is not None:
        offer = Offer(cores=cores, memory_bytes=4_000, disk_bytes=1 << 40, wall_s=9_000)
    return AlivePilot(ce_id=ce_id, vo_id=vo_id, status=status, offer=offer, fresh=cores is not None)


NEW, RUNNING = PilotStatus.NEW, PilotStatus.RUNNING


@pytest.mark.parametrize(
    ("what", "queues", "elements", "pilots", "wanted"),
    [
        ("nothing waits", [], [element()], [], {}),
        ("one job, one pilot", [demand(1)], [element()], [], {(1, ASTRO): 1}),
        ("one job, one pilot, not one per element", [demand(1)], [element(1), element(2)], [], {(2, ASTRO): 1}),
        ("jobs share a pilot's cores", [demand(4)], [element()], [], {(1, ASTRO): 2}),
        ("and its memory", [demand(4, memory_bytes=3_000)], [element()], [], {(1, ASTRO): 4}),
        ("not beyond the limit", [demand(100)], [element(max_pilots=3)], [], {(1, ASTRO): 3}),
        ("the rest goes elsewhere", [demand(100)], [element(max_pilots=3), element(2, max_pilots=1)], [],
         {(1, ASTRO): 3, (2, ASTRO): 1}),
        ("the limit counts every VO's", [demand(9)], [element(max_pilots=3)], [alive(RUNNING, vo_id=BIO)] * 2,
         {(1, ASTRO): 1}),
        ("a pilot on its way is enough", [demand(2)], [element()], [alive(NEW)], {}),
        ("but not for three jobs", [demand(3)], [element()], [alive(NEW)], {(1, ASTRO): 1}),
        ("another VO's pilot is no help", [demand(1)], [element()], [alive(NEW, vo_id=BIO)], {(1, ASTRO): 1}),
        ("an idle pilot is enough", [demand(2)], [element()], [alive(RUNNING, cores=2)], {}),
        ("a busy one is not", [demand(2)], [element()], [alive(RUNNING, cores=0)], {(1, ASTRO): 1}),
        ("nor one that asks no more", [demand(2)], [element()], [alive(RUNNING)], {(1, ASTRO): 1}),
        ("jobs too large for every element", [demand(1, cores=3)], [element()], [], {}),
        ("too long", [demand(1, wall_s=9_950)], [element()], [], {}),
        ("only at the site", [demand(1, sites=["SITE2"])], [element(1), element(2, max_pilots=1)], [], {(2, ASTRO): 1}),
        ("only with the tag", [demand(1, tags=["gpu"])], [element(1), element(2, options={"tags": ["gpu", "x"]})], [],
         {(2, ASTRO): 1}),
        ("only where the VO may", [demand(1)], [element(1, vo_ids=[BIO]), element(2)], [], {(2, ASTRO): 1}),
        ("VOs take turns", [demand(50), demand(50, vo_id=BIO)], [element(max_pilots=4)], [],
         {(1, ASTRO): 2, (1, BIO): 2}),
        ("pilots of a retired element hold no room", [demand(1)], [element(1)], [alive(NEW, ce_id=9)], {(1, ASTRO): 1}),
        ("an element without room at all", [demand(1)], [element(max_pilots=0)], [], {}),
        ("more there than allowed now", [demand(9)], [element(max_pilots=1)], [alive(RUNNING)] * 5, {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_plan(
    what: str,
    queues: list[Demand],
    elements: list[ComputingElement],
    pilots: list[AlivePilot],
    wanted: dict[tuple[int, int], int],
) -> None:
    planned = {(each.ce_id, each.vo_id): each.count for each in rules.plan(queues, elements, pilots)}
    assert planned == wanted, what


def test_one_round_is_bounded() -> None:
    planned = rules.plan([demand(1000)], [element(max_pilots=5000)], [], largest=7)
    assert sum(each.count for each in planned) == 7


def test_fruitless_pilots_slow_the_factory_down() -> None:
    assert [rules.pause_s(n) for n in range(7)] == [0, 0, 0, 5, 10, 20, 40]
    assert rules.pause_s(1000) == 60

    def planned(fruitless: int, since_s: float) -> int:
        record = Record(ce_id=1, vo_id=ASTRO, fruitless=fruitless, since_s=since_s)
        return sum(each.count for each in rules.plan([demand(1)], [element()], [], [record]))

    assert planned(2, 0) == 1
    assert planned(3, 1) == 0
    assert planned(3, 6) == 1


def followed(status: PilotStatus, running_s: float | None = None) -> Followed:
    return Followed(
        pilot_id=7, vo_id=1, ce_id=1, status=status, external_id="pilot-7", age_s=100, running_s=running_s, silent_s=1
    )


@pytest.mark.parametrize(
    ("status", "said", "running_s", "verdict"),
    [
        (PilotStatus.SUBMITTED, ElementState.UNKNOWN, None, "nothing"),
        (PilotStatus.SUBMITTED, ElementState.WAITING, None, "waiting"),
        (PilotStatus.WAITING, ElementState.WAITING, None, "nothing"),
        (PilotStatus.SUBMITTED, ElementState.RUNNING, None, "nothing"),  # Running means enrolled.
        (PilotStatus.SUBMITTED, ElementState.DONE, None, "aborted"),
        (PilotStatus.WAITING, ElementState.VANISHED, None, "aborted"),
        (PilotStatus.RUNNING, ElementState.RUNNING, 100.0, "nothing"),
        (PilotStatus.RUNNING, ElementState.RUNNING, 3600 + 601.0, "cancel"),
        (PilotStatus.RUNNING, ElementState.DONE, 100.0, "done"),
        (PilotStatus.RUNNING, ElementState.FAILED, 100.0, "failed"),
        (PilotStatus.RUNNING, ElementState.VANISHED, 100.0, "aborted"),
        (PilotStatus.RUNNING, ElementState.UNKNOWN, 100.0, "nothing"),
        (PilotStatus.DELETED, ElementState.RUNNING, 100.0, "cancel"),
        (PilotStatus.DELETED, ElementState.VANISHED, 100.0, "nothing"),
        (PilotStatus.DELETED, ElementState.UNKNOWN, 100.0, "nothing"),
    ],
)
def test_judge(status: PilotStatus, said: ElementState, running_s: float | None, verdict: str) -> None:
    judged = rules.judge(followed(status, running_s), said, 3600)
    told = (
        "cancel" if judged.cancel else judged.ends.status.value if judged.ends else judged.becomes.value
        if judged.becomes else "nothing"
    )  # fmt: skip
    assert told == verdict


def test_every_judgement_is_an_allowed_transition() -> None:
    for status, said, running_s in itertools.product(PilotStatus, ElementState, (None, 1.0, 1e6)):
        judged = rules.judge(followed(status, running_s), said, 3600)
        for becomes in (judged.becomes, judged.ends and judged.ends.status):
            assert becomes is None or becomes in rules.TRANSITIONS[status]


def test_the_schema_names_the_same_states() -> None:
    from importlib.resources import files

    schema = files("spinor").joinpath("schema.sql").read_text()
    listed = schema.split("CREATE TYPE pilots.pilot_status AS ENUM (")[1].split(");")[0]
    assert [line.split("'")[1] for line in listed.splitlines() if "'" in line] == [s.value for s in PilotStatus]
