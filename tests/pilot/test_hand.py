"""Jobs are taken before there is room for them only while payloads are brief."""

from typing import Any

import pytest

from spinor_pilot import hand
from spinor_pilot.hand import Hand
from spinor_pilot.slot import Slot


class Job:
    """As much of a payload as the hand looks at."""

    def __init__(self, cores: int) -> None:
        self.assignment = {"cores": cores, "memory_bytes": 0, "disk_bytes": 0}
        self.lost = False

    def is_lost(self) -> bool:
        return self.lost


@pytest.fixture
def slot(tmp_path: Any) -> Slot:
    found = Slot({"cores": 1, "memory_bytes": 1 << 30, "wall_s": 3600}, tmp_path)
    found.cores = 4  # Whatever this machine has.
    return found


def of_brief(wall_s: float = 0.1, count: int = 8) -> Hand:
    found = Hand(4)
    for _ in range(count):
        found.note_end(wall_s)
    return found


@pytest.mark.parametrize(
    ("kept", "running_s", "looks_ahead"),
    [
        (of_brief(), [0.2, 0.1], True),
        (of_brief(), [0.2, 5.0], False),  # Something long runs.
        (of_brief(count=7), [], False),  # Too few ended to know.
        (of_brief(wall_s=5.0), [], False),
    ],
    ids=["brief", "long one runs", "few", "long ones"],
)
def test_only_brief_payloads_let_the_pilot_look_ahead(kept: Hand, running_s: list[float], looks_ahead: bool) -> None:
    assert bool(kept.ahead(running_s)) is looks_ahead


def test_a_long_one_among_brief_ones_ends_it() -> None:
    found = of_brief()
    found.note_end(3.0)
    assert not found.ahead([])


def test_no_offer_is_larger_than_the_slot(slot: Slot) -> None:
    job = {"cores": 1, "memory_bytes": 0, "disk_bytes": 0}
    assert slot.offer([])["cores"] == slot.offer([], ahead=3)["cores"] == 4
    assert slot.offer([job] * 4)["cores"] == 0
    assert slot.offer([job] * 4, ahead=1)["cores"] == 4
    assert slot.offer([job] * 6, ahead=1)["cores"] == 2
    assert slot.offer([job] * 6, ahead=1)["memory_bytes"] <= slot.memory_bytes


def test_jobs_begin_in_their_order_when_there_is_room() -> None:
    found = Hand(4)
    large, small = Job(4), Job(1)
    found.add(large)  # type: ignore[arg-type]
    found.add(small)  # type: ignore[arg-type]
    assert found.next(lambda job: job["cores"] == 1) is None
    large.lost = True  # Nobody waits for it any more.
    assert found.next(lambda job: job["cores"] == 1) is small  # type: ignore[comparison-overlap]
    assert not found.assignments()


def test_who_waits_too_long_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Hand(4)
    assert not found.late
    found.add(Job(1))  # type: ignore[arg-type]
    assert not found.late
    monkeypatch.setattr(hand, "PATIENCE_S", -1.0)
    assert found.late
