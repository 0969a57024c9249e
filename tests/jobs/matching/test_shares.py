"""Fair share, held against a simulation: a farm on which jobs of random length start and end."""

import heapq
import random
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pytest

from spinor.configuration.work import VOShares
from spinor.jobs.matching.filling import fill
from spinor.jobs.matching.limits import Owner
from spinor.jobs.matching.shares import charged, decayed
from spinor.jobs.models import Offer, Slot

from .test_filling import board_of
from .test_fit import wanting

HOUR = 3600.0
Who = tuple[str, str]  # group, user


class Farm:
    """A number of cores, and users who each have jobs of one queue waiting while `wants` says so. `people` says how
    many hours their jobs run on average."""

    def __init__(self, cores: int, people: dict[Who, float], shares: VOShares, seed: int = 1) -> None:
        self.random, self.free, self.now = random.Random(seed), cores, 0.0
        self.people = list(people)
        self.board = board_of(*((wanting(), 0) for _ in people))
        self.board.standing = type(self.board.standing)(shares)
        self.board.owners = [Owner("astro", group, user) for group, user in people]
        self.board.leaf[:] = [self.board.standing.leaf(group, user) for group, user in people]
        self.hours = list(people.values())
        self.ends: list[tuple[float, int]] = []
        self.use = [0.0] * len(people)
        self.running = [0] * len(people)
        self.core_s: dict[Who, float] = defaultdict(float)
        self.shares = shares

    def run(self, hours: float, wants: Callable[[Who, float], bool] = lambda _who, _now: True) -> dict[Who, float]:
        """The core-seconds of each in this time."""
        before, until = dict(self.core_s), self.now + hours * HOUR
        while self.now < until:
            self._advance(10.0)
            self.board.standing.tell(np.array(self.use), np.array(self.running))
            self.board.in_flight[:] = 0
            self.board.waiting[:] = [1000 if wants(who, self.now) else 0 for who in self.people]
            offer = Offer(cores=self.free, memory_bytes=10**6, disk_bytes=10**6, wall_s=10**6)
            slot = Slot(pilot_id=1, site="X", site_id=1, ce="x", ce_id=1, offer=offer)
            for choice in fill(self.board, slot, 1000):
                self.running[choice.place] += choice.cores
                self.free -= choice.cores
                heapq.heappush(
                    self.ends, (self.now + self.random.expovariate(1 / (self.hours[choice.place] * HOUR)), choice.place)
                )
        return {who: self.core_s[who] - before.get(who, 0.0) for who in self.people}

    def _advance(self, step_s: float) -> None:
        for n, cores in enumerate(self.running):
            self.use[n] = charged(self.use[n], cores, step_s, self.shares.half_life_s)
            self.core_s[self.people[n]] += cores * step_s
        self.now += step_s
        while self.ends and self.ends[0][0] <= self.now:
            place = heapq.heappop(self.ends)[1]
            self.running[place] -= 1
            self.free += 1


def parts(used: dict[Who, float]) -> dict[Who, float]:
    total = sum(used.values())
    return {who: value / total for who, value in used.items()}


def test_core_seconds_converge_to_the_shares() -> None:
    shares = VOShares(half_life_s=12 * HOUR, groups={"theory": 3.0}, users={"ada": 2.0})
    people = {("theory", "ada"): 1.0, ("theory", "bea"): 2.0, ("lab", "cid"): 4.0, ("lab", "dan"): 0.5}
    farm = Farm(64, people, shares)
    farm.run(12)
    used = parts(farm.run(96))
    # Three quarters of theory, two thirds of it for Ada; the lab's quarter in halves, although Cid's jobs are long.
    assert used["theory", "ada"] == pytest.approx(0.50, abs=0.03)
    assert used["theory", "bea"] == pytest.approx(0.25, abs=0.03)
    assert used["lab", "cid"] == pytest.approx(0.125, abs=0.02)
    assert used["lab", "dan"] == pytest.approx(0.125, abs=0.02)


def test_a_newcomer_gets_its_part_and_what_it_leaves_is_redistributed() -> None:
    people = {("g", "old"): 2.0, ("g", "other"): 2.0, ("g", "new"): 2.0}
    farm = Farm(60, people, VOShares(half_life_s=24 * HOUR))
    alone = parts(farm.run(48, lambda who, _now: who[1] != "new"))
    assert alone["g", "new"] == 0
    assert alone["g", "old"] == pytest.approx(0.5, abs=0.03)
    arrived = parts(farm.run(24))
    # It had nothing before: at first it gets at least its third.
    assert arrived["g", "new"] > 0.33
    settled = parts(farm.run(96))
    assert settled["g", "new"] == pytest.approx(1 / 3, abs=0.06)
    gone = parts(farm.run(24, lambda who, _now: who[1] != "new"))
    assert gone["g", "old"] + gone["g", "other"] > 0.85  # Its last jobs still ran for a while.
    assert sum(farm.running) == 60


def test_the_half_life_forgets() -> None:
    people = {("g", "greedy"): 2.0, ("g", "modest"): 2.0}

    def after_a_pause(half_life_s: float) -> float:
        farm = Farm(40, people, VOShares(half_life_s=half_life_s))
        farm.run(100, lambda who, _now: who[1] == "greedy")
        farm.run(48, lambda _who, _now: False)
        return parts(farm.run(24))["g", "greedy"]

    # With a short memory both are equal again after two days; with a long one, the greedy one still waits.
    assert after_a_pause(4 * HOUR) == pytest.approx(0.5, abs=0.05)
    assert after_a_pause(24 * 90 * HOUR) < 0.1


def test_charging_often_or_seldom_is_the_same() -> None:
    once = charged(1000.0, 8, 3600.0, 7200.0)
    often = 1000.0
    for _ in range(360):
        often = charged(often, 8, 10.0, 7200.0)
    assert often == pytest.approx(once)
    assert charged(0.0, 8, 10.0, 1e12) == pytest.approx(80.0)
    assert charged(100.0, 0, 3600.0, 3600.0) == pytest.approx(decayed(100.0, 3600.0, 3600.0)) == pytest.approx(50.0)
