"""Which limits jobs fall under, and how many may start."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinor.configuration.work import Burst, Limit
from spinor.jobs.matching.limits import Bucket, Key, Owner, keys_of, next_token_s, refilled, room

from .test_fit import wanting

ADA = Owner("astro", "astro_users", "ada")


def keys(per: dict[str, str], labels: list[str] | None = None) -> list[str]:
    wants = wanting(labels=labels or [])
    return [key.values for _, key in keys_of([Limit(name="x", per=per)], ADA, wants, "LYON", "lyon-1")]


@pytest.mark.parametrize(
    ("per", "expected"),
    [
        ({}, [""]),
        ({"user": "*"}, ["user=ada"]),
        ({"user": "ada"}, ["user=ada"]),
        ({"user": "bea"}, []),
        ({"group": "astro_users", "site": "*"}, ["group=astro_users,site=LYON"]),
        ({"vo": "astro", "ce": "lyon-1"}, ["vo=astro,ce=lyon-1"]),
        ({"ce": "pic-1"}, []),
        ({"label": "*"}, ["label=prod", "label=test"]),
        ({"label": "prod", "user": "*"}, ["user=ada,label=prod"]),
        ({"label": "other"}, []),
    ],
)
def test_a_job_falls_under_the_keys_of_a_limit(per: dict[str, str], expected: list[str]) -> None:
    assert keys(per, ["prod", "test"]) == expected


def test_without_labels_no_label_counts() -> None:
    assert keys({"label": "*"}) == []


def test_room_is_what_running_jobs_and_bursts_leave() -> None:
    burst = Burst(starts=10, per_s=60)
    assert room(Limit(name="x", running=5), 3, None) == 2
    assert room(Limit(name="x", running=5), 9, None) == 0
    assert room(Limit(name="x", burst=burst), 10**6, Bucket(2.9, 0.0)) == 2
    assert room(Limit(name="x", running=5, burst=burst), 4, Bucket(2.9, 0.0)) == 1


def test_tokens_come_back_evenly() -> None:
    burst = Burst(starts=10, per_s=60)
    assert refilled(burst, None, 5.0).tokens == 10
    spent = Bucket(0.0, 100.0)
    assert refilled(burst, spent, 106.0).tokens == pytest.approx(1.0)
    assert refilled(burst, spent, 10_000.0).tokens == 10
    assert refilled(burst, spent, 50.0).tokens == 0.0  # A clock that went back gives nothing.
    assert next_token_s(burst, spent) == pytest.approx(6.0)


@given(
    starts=st.integers(1, 20),
    per_s=st.floats(0.5, 100),
    steps=st.lists(st.tuples(st.floats(0, 10), st.integers(0, 30)), max_size=40),
)
def test_no_window_sees_more_starts_than_the_burst_allows(
    starts: int, per_s: float, steps: list[tuple[float, int]]
) -> None:
    burst, bucket, now, started = Burst(starts=starts, per_s=per_s), None, 0.0, []
    for wait_s, wanted in steps:
        now += wait_s
        bucket = refilled(burst, bucket, now)
        count = min(wanted, room(Limit(name="x", burst=burst), 0, bucket))
        bucket = Bucket(bucket.tokens - count, bucket.at)
        started.append((now, count))
    for n, (begin, _) in enumerate(started):
        for end, _ in started[n:]:
            within = sum(count for at, count in started if begin <= at <= end)
            assert within <= starts + (end - begin) * starts / per_s + 1e-6


def test_keys_sort_so_that_locks_are_taken_in_one_order() -> None:
    assert sorted([Key("b", "x"), Key("a", "y"), Key("a", "x")]) == [Key("a", "x"), Key("a", "y"), Key("b", "x")]
