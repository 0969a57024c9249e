"""What keeps a job off a slot, in words and as masks over all queues."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinor.jobs.fit import Capacity, exclusions
from spinor.jobs.matching.columns import Columns
from spinor.jobs.models import Gpu, Offer, Requirements, Slot

from .strategies import GB, requirements, slots

OFFER = Offer(
    cores=8, memory_bytes=16 * GB, disk_bytes=100 * GB, wall_s=3600, tags=["ssd"], platform="x86_64", hs23_per_core=10,
    gpus=[Gpu(model="NVIDIA A100", memory_bytes=40 * GB), Gpu(model="NVIDIA T4", memory_bytes=16 * GB)],
    container_runtimes=["apptainer"],
)  # fmt: skip

SLOT = Slot(pilot_id=1, site="LYON", site_id=1, ce="lyon-1", ce_id=1, offer=OFFER)


def wanting(**fields: object) -> Requirements:
    given = {"vo_id": 1, "owner_id": 1, "group_id": 1, "max_cores": fields.get("cores", 1), **fields}
    return msgspec.convert(given, Requirements)


@pytest.mark.parametrize(
    ("wants", "field"),
    [
        ({"cores": 9}, "cores"),
        ({"memory_bytes": 16 * GB + 1}, "memory_bytes"),
        ({"disk_bytes": 100 * GB + 1}, "disk_bytes"),
        ({"wall_s": 3601}, "wall_s"),
        ({"cpu_work_hs23_s": 36_001}, "cpu_work_hs23_s"),
        ({"cpu_work_hs23_s": 300_000, "max_cores": 64}, "cpu_work_hs23_s"),
        ({"sites": ["PIC"]}, "site"),
        ({"banned_sites": ["LYON"]}, "banned_sites"),
        ({"computing_elements": ["lyon-2"]}, "computing_elements"),
        ({"near_sites": ["PIC"], "near_wait_s": 600}, "placement"),
        ({"tags": ["ssd", "highmem"]}, "tags"),
        ({"whole_node": True}, "whole_node"),
        ({"platform": "aarch64"}, "platform"),
        ({"gpus": 3}, "gpus"),
        ({"gpus": 2, "gpu_model": "a100"}, "gpus"),
        ({"gpus": 2, "gpu_memory_bytes": 20 * GB}, "gpus"),
    ],
)
def test_each_constraint_excludes_by_itself(wants: dict[str, object], field: str) -> None:
    assert [each.partition(":")[0] for each in exclusions(wanting(**wants), Capacity.of(SLOT), 0)] == [field]


@pytest.mark.parametrize(
    "wants",
    [
        {"cores": 8},
        {"cpu_work_hs23_s": 36_000},
        {"cpu_work_hs23_s": 288_000, "max_cores": 64},
        {"gpus": 1, "gpu_model": "a100", "gpu_memory_bytes": 40 * GB},
        {"near_sites": ["LYON"], "near_wait_s": 600},
        {"container": True, "tags": ["ssd"], "platform": "x86_64", "sites": ["LYON"], "banned_sites": ["PIC"]},
    ],
)
def test_what_is_offered_suffices(wants: dict[str, object]) -> None:
    assert exclusions(wanting(**wants), Capacity.of(SLOT), 0) == []


def test_what_is_not_known_beforehand_excludes_nothing() -> None:
    wants = wanting(gpus=1, platform="aarch64", container=True, cpu_work_hs23_s=1e9, whole_node=True, disk_bytes=GB)
    empty = Capacity(site="X", ce="x", cores=1, memory_bytes=0, disk_bytes=None, wall_s=1, tags=frozenset())
    assert exclusions(wants, empty) == []


@given(queues=st.lists(requirements(), max_size=12), asking=st.lists(slots(), min_size=1, max_size=4))
def test_masks_say_what_the_words_say(queues: list[Requirements], asking: list[Slot]) -> None:
    columns = Columns()
    half = len(queues) // 2
    columns.add(list(enumerate(queues[:half])))
    for slot in asking:
        columns.fitting(slot)  # What was judged before further queues came must not hide them.
    columns.add(list(enumerate(queues[half:], half)))
    for slot in asking:
        capacity = Capacity.of(slot)
        fit = [n for n, wants in enumerate(queues) if not exclusions(wants, capacity)]
        assert columns.fitting(slot).tolist() == fit
        # Asked again, from memory.
        assert columns.fitting(slot).tolist() == fit
