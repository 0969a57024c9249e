"""Decisions without I/O: what an element's word means, and when to pause."""

import itertools

import pytest

from spinor.pilots import rules
from spinor.pilots.models import ElementState, Followed, PilotStatus


def test_fruitless_pilots_slow_the_factory_down() -> None:
    assert [rules.pause_s(n) for n in range(7)] == [0, 0, 0, 5, 10, 20, 40]
    assert rules.pause_s(1000) == 60


def test_a_black_hole_is_told_from_bad_luck() -> None:
    assert rules.is_black_hole(5, 5, 5)
    assert rules.is_black_hole(20, 22, 5)
    assert not rules.is_black_hole(4, 4, 5), "too few to say"
    assert not rules.is_black_hole(5, 20, 5), "others ended well there"


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
        (PilotStatus.DELETED, ElementState.VANISHED, 100.0, "settled"),
        (PilotStatus.DELETED, ElementState.UNKNOWN, 100.0, "nothing"),
        (PilotStatus.ABORTED, ElementState.RUNNING, None, "cancel"),  # Given up here, and there all the same.
        (PilotStatus.DONE, ElementState.WAITING, None, "cancel"),
        (PilotStatus.DONE, ElementState.DONE, 100.0, "settled"),
    ],
)
def test_judge(status: PilotStatus, said: ElementState, running_s: float | None, verdict: str) -> None:
    judged = rules.judge(followed(status, running_s), said, 3600)
    told = (
        "cancel" if judged.cancel else judged.ends.status.value if judged.ends else judged.becomes.value
        if judged.becomes else "settled" if judged.settled else "nothing"
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
