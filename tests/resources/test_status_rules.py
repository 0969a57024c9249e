"""Which status may follow which: what is banned comes back by a probe alone."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinor.resources.models import FitnessPolicy
from spinor.resources.status import rules
from spinor.resources.status.models import Decided, Present, Status


def present(status: Status, *, with_elements: bool = True, failed: int = 0) -> Present:
    return Present(
        name="x",
        site="X",
        status=status,
        administrators=[],
        failed_probes=failed,
        actor="ada",
        with_elements=with_elements,
    )


@given(st.sampled_from(Status), st.sampled_from(Status))
def test_every_decision_is_an_allowed_transition(old: Status, wanted: Status) -> None:
    try:
        decided = rules.decide(present(old), wanted, "", "ada")
    except rules.StatusRefused:
        assert old is wanted is Status.ACTIVE or wanted not in rules.TRANSITIONS[old]
        return
    assert decided.status is old or decided.status in rules.TRANSITIONS[old]
    assert (decided.probe_in_s is not None) == (decided.status is Status.PROBING)


@given(st.lists(st.sampled_from(Status)))
def test_whatever_people_wish_what_is_banned_is_not_in_use_before_a_probe(wishes: list[Status]) -> None:
    status, probed = Status.ACTIVE, True
    for wish in wishes:
        try:
            status = rules.decide(present(status), wish, "", "ada").status
        except rules.StatusRefused:
            continue
        probed = probed and status not in (Status.BANNED, Status.PROBING)
        assert probed or status not in rules.USABLE


def test_a_ban_is_lifted_into_probing() -> None:
    assert rules.decide(present(Status.BANNED), Status.ACTIVE, "", "ada").status is Status.PROBING
    assert rules.decide(present(Status.BANNED, with_elements=False), Status.ACTIVE, "", "ada").status is Status.ACTIVE
    with pytest.raises(rules.StatusRefused, match="probe"):
        rules.decide(present(Status.BANNED), Status.DRAINING, "", "ada")
    again = rules.decide(present(Status.PROBING, failed=3), Status.ACTIVE, "", "ada")
    assert (again.status, again.probe_in_s, again.failed_probes) == (Status.PROBING, 0, 3)
    with pytest.raises(rules.StatusRefused, match="already"):
        rules.decide(present(Status.ACTIVE), Status.ACTIVE, "", "ada")


def test_a_failed_probe_is_repeated_after_a_growing_pause() -> None:
    pauses = []
    for failed in range(12):
        decided = rules.after_probe(present(Status.PROBING, failed=failed), succeeded=False, reason="no", actor="a")
        assert decided is not None
        assert (decided.status, decided.failed_probes) == (Status.PROBING, failed + 1)
        pauses.append(decided.probe_in_s)
    assert pauses[:4] == [60, 120, 240, 480]
    assert pauses[-1] == rules.LONGEST_PROBE_PAUSE_S


def test_a_probe_changes_only_what_waits_for_one() -> None:
    for status in set(Status) - {Status.PROBING}:
        assert rules.after_probe(present(status), succeeded=True, reason="", actor="a") is None
    back = rules.after_probe(present(Status.PROBING, failed=3), succeeded=True, reason="", actor="a")
    assert back is not None
    assert (back.status, back.failed_probes) == (Status.ACTIVE, 0)


def test_the_end_of_a_downtime() -> None:
    assert rules.at_its_end(present(Status.DRAINING), "a").status is Status.ACTIVE
    assert rules.at_its_end(present(Status.BANNED), "a").status is Status.PROBING
    assert rules.at_its_end(present(Status.BANNED, with_elements=False), "a").status is Status.ACTIVE


def test_the_worse_one_holds() -> None:
    assert rules.worst(Status.ACTIVE, Status.DRAINING) is Status.DRAINING
    assert rules.worst(Status.BANNED, Status.DEGRADED) is Status.BANNED


def test_the_schema_names_the_same_states_in_the_same_order() -> None:
    from importlib.resources import files

    schema = files("spinor").joinpath("schema.sql").read_text()
    listed = schema.split("CREATE TYPE resources.status AS ENUM (")[1].split(");")[0]
    assert [line.split("'")[1] for line in listed.splitlines() if "'" in line.partition("--")[0]] == list(Status)


def routine(before: Present, *, succeeded: bool) -> Decided | None:
    return rules.after_routine_probe(before, FitnessPolicy(), succeeded=succeeded, reason="a reason")


def test_repeated_failure_degrades_and_success_brings_back() -> None:
    first = routine(present(Status.ACTIVE), succeeded=False)
    assert first is not None
    assert (first.status, first.failed_probes, first.probe_in_s) == (Status.ACTIVE, 1, 60)
    second = routine(present(Status.ACTIVE, failed=1), succeeded=False)
    assert second is not None
    assert (second.status, second.failed_probes, second.actor) == (Status.DEGRADED, 2, rules.SERVICE)
    degraded = msgspec.structs.replace(present(Status.DEGRADED, failed=2), actor=rules.SERVICE)
    again = routine(degraded, succeeded=False)
    assert again is not None
    assert (again.status, again.failed_probes, again.probe_in_s) == (Status.DEGRADED, 3, 240)
    back = routine(degraded, succeeded=True)
    assert back is not None
    assert (back.status, back.failed_probes) == (Status.ACTIVE, 0)
    assert routine(present(Status.ACTIVE), succeeded=True) is None


@given(st.sampled_from([Status.DEGRADED, Status.DRAINING, Status.BANNED]), st.booleans())
def test_what_a_person_set_is_left_alone(status: Status, succeeded: bool) -> None:
    assert routine(present(status), succeeded=succeeded) is None
