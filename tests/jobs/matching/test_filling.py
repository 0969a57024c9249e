"""A slot is filled with what fits together, in the right order, and never beyond what it has."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spinor.jobs.fit import Capacity, exclusions, gpu_fits
from spinor.jobs.matching.board import Board, head_of
from spinor.jobs.matching.filling import Choice, fill
from spinor.jobs.matching.limits import Owner
from spinor.jobs.models import Gpu, Offer, Requirements, Slot

from .strategies import requirements, slots
from .test_fit import wanting


def board_of(*queues: tuple[Requirements, int], now: float = 1000.0) -> Board:
    """A board with so many jobs in each queue, all waiting since second 0."""
    board = Board(clock=lambda: now)
    board.add(
        [(n, wants, Owner("astro", f"g{wants.group_id}", f"u{wants.owner_id}")) for n, (wants, _) in enumerate(queues)]
    )
    board.count(np.arange(len(queues)), np.array([count for _, count in queues], np.int64))
    for n in range(len(queues)):
        board.head[n], board.head_at[n] = head_of(4, 100 + n), 0.0
    return board


def slot(cores: int = 8, memory: int = 100, **offer: object) -> Slot:
    what = Offer(cores=cores, memory_bytes=memory, disk_bytes=100, wall_s=3600, **offer)  # type: ignore[arg-type]
    return Slot(pilot_id=1, site="LYON", site_id=1, ce="lyon-1", ce_id=1, offer=what)


def counts(chosen: list[Choice]) -> dict[int, int]:
    return dict(Counter(choice.place for choice in chosen))


def test_a_batch_fills_the_slot() -> None:
    board = board_of((wanting(cores=3, memory_bytes=10), 5), (wanting(cores=1, memory_bytes=40), 9))
    assert counts(fill(board, slot(), 100)) == {0: 2, 1: 2}


def test_no_more_than_wanted_and_no_more_than_wait() -> None:
    assert counts(fill(board_of((wanting(), 5)), slot(), 3)) == {0: 3}
    assert counts(fill(board_of((wanting(), 2)), slot(), 8)) == {0: 2}


def test_what_is_in_flight_is_not_given_again() -> None:
    board = board_of((wanting(), 3))
    assert len(fill(board, slot(), 2)) == 2
    assert len(fill(board, slot(), 2)) == 1
    assert fill(board, slot(), 2) == []


def test_the_first_job_of_all_goes_first() -> None:
    board = board_of((wanting(cores=2), 1), (wanting(), 1), (wanting(memory_bytes=1), 1))
    board.head[:] = [head_of(4, 10), head_of(3, 30), head_of(4, 20)]
    assert [choice.place for choice in fill(board, slot(), 3)] == [1, 0, 2]


def test_whoever_has_used_less_goes_first() -> None:
    board = board_of((wanting(owner_id=1), 9), (wanting(owner_id=2), 9), (wanting(owner_id=3, group_id=2), 9))
    board.standing.tell(np.array([50.0, 20.0, 60.0]), np.zeros(3))
    # The groups first: 70 stand against 60; then the users.
    assert fill(board, slot(), 1)[0].place == 2
    board.standing.tell(np.array([50.0, 20.0, 80.0]), np.zeros(3))
    assert fill(board, slot(), 1)[0].place == 1


def test_equal_users_take_turns() -> None:
    board = board_of((wanting(owner_id=1), 100), (wanting(owner_id=2), 100))
    assert counts(fill(board, slot(cores=64), 64)) == {0: 32, 1: 32}


def test_cores_that_are_left_go_to_jobs_that_can_use_them() -> None:
    board = board_of((wanting(cores=1, max_cores=4), 2), (wanting(cores=1), 1))
    chosen = fill(board, slot(cores=8), 8)
    assert sorted((choice.place, choice.cores) for choice in chosen) == [(0, 3), (0, 4), (1, 1)]


def test_work_asks_for_cores() -> None:
    board = board_of((wanting(cores=1, max_cores=8, cpu_work_hs23_s=3 * 36_000 - 1), 3))
    chosen = fill(board, slot(cores=6, hs23_per_core=10.0), 8)
    assert [choice.cores for choice in chosen] == [3, 3]


def test_a_whole_node_is_for_one_job() -> None:
    board = board_of((wanting(whole_node=True, cores=2), 2), (wanting(), 5))
    chosen = fill(board, slot(whole_node=True), 8)
    assert [(choice.place, choice.cores) for choice in chosen] == [(0, 8)]
    assert counts(fill(board, slot(), 8)) == {1: 5}


def test_gpus_are_used_up() -> None:
    gpus = [Gpu(model="A100", memory_bytes=40), Gpu(model="T4", memory_bytes=16)]
    board = board_of((wanting(gpus=1), 5), (wanting(gpus=1, gpu_memory_bytes=20), 5))
    chosen = fill(board, slot(gpus=gpus), 8)
    assert counts(chosen) in ({0: 2}, {0: 1, 1: 1})


def test_jobs_stay_near_their_data_for_a_while() -> None:
    near = wanting(near_sites=["PIC"], near_wait_s=600)
    assert fill(board_of((near, 1), now=599.0), slot(), 1) == []
    assert [choice.far for choice in fill(board_of((near, 1), now=600.0), slot(), 1)] == [True]
    here = wanting(near_sites=["LYON"], near_wait_s=600)
    assert [choice.far for choice in fill(board_of((here, 1), now=0.0), slot(), 1)] == [False]


def test_suspended_owners_wait() -> None:
    board = board_of((wanting(), 1))
    board.suspended[0] = True
    assert fill(board, slot(), 1) == []


@given(
    queues=st.lists(st.tuples(requirements(), st.integers(0, 12)), min_size=1, max_size=8),
    asking=st.lists(slots(), min_size=1, max_size=4),
    most=st.integers(1, 20),
)
def test_never_over_the_offer(queues: list[tuple[Requirements, int]], asking: list[Slot], most: int) -> None:
    board = board_of(*queues)
    given_away: Counter[int] = Counter()
    for each in asking:
        chosen = fill(board, each, most)
        assert len(chosen) <= most
        offer, wanted = each.offer, [queues[choice.place][0] for choice in chosen]
        assert sum(choice.cores for choice in chosen) <= offer.cores
        assert sum(wants.memory_bytes for wants in wanted) <= offer.memory_bytes
        assert sum(wants.disk_bytes for wants in wanted) <= offer.disk_bytes
        assert sum(wants.gpus for wants in wanted) <= len(offer.gpus)
        assert not any(wants.whole_node for wants in wanted) or len(wanted) == 1
        for model in ("a100", ""):
            asked = sum(wants.gpus for wants in wanted if wants.gpus and wants.gpu_model == model)
            assert asked <= sum(gpu_fits(wanting(gpu_model=model), gpu) for gpu in offer.gpus)
        for choice, wants in zip(chosen, wanted, strict=True):
            assert not exclusions(wants, Capacity.of(each))
            assert choice.cores >= wants.cores
            assert wants.whole_node or choice.cores <= wants.max_cores
            able = choice.cores * offer.wall_s * offer.hs23_per_core
            assert not offer.hs23_per_core or able >= wants.cpu_work_hs23_s * (1 - 1e-9)
        given_away.update(choice.place for choice in chosen)
    assert all(given_away[n] <= count for n, (_, count) in enumerate(queues))
