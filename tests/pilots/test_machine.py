"""Random operations of the factory, of elements, of pilots and of people: what must hold, holds after each of them."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, LiteralString, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from spinor.access import Caller, Scope
from spinor.db import Database, Tx, execute, fetch_rows
from spinor.identity.tokens import KeyRing
from spinor.jobs import service as jobs
from spinor.jobs.models import JobSpec
from spinor.pilots import rules, service
from spinor.pilots.models import ElementState, Ending, Enrolment, Finding, NewPilot, PilotStatus
from spinor.resources.status import service as statuses
from spinor.resources.status.models import ElementKind
from tests.conftest import World

from .test_enrolment import OFFER

T = TypeVar("T")
MAX_PILOTS = 4  # Of local-ce.
_EMPTY: LiteralString = """
    TRUNCATE jobs.job_array, jobs.job, jobs.waiting, jobs.running, jobs.job_history, jobs.tally,
             jobs.tally_live, jobs.tally_change, jobs.ended_attempt, jobs.delayed, jobs.array_parameters,
             pilots.pilot, pilots.pilot_log, pilots.tally, pilots.tally_change,
             pilots.trouble, pilots.node_mask, pilots.seen_offer, resources.element_status
             RESTART IDENTITY CASCADE;
    ALTER SEQUENCE jobs.job_id RESTART
"""
PICK = st.integers(0, 50)


class PilotsMachine(RuleBasedStateMachine):
    """Each operation is a transaction of its own."""

    def __init__(self, url: str, world: World, keys: KeyRing) -> None:
        super().__init__()
        self.world, self.keys = world, keys
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()
        opened = Database.open(url, size=2, errors={})
        self.db = self.loop.run_until_complete(self.stack.enter_async_context(opened))
        self.pilots: list[NewPilot] = []
        self.left: dict[int, PilotStatus] = {}  # Pilots that have ended, and as what.

    def teardown(self) -> None:
        self.loop.run_until_complete(self.stack.aclose())
        self.loop.close()

    def run(self, verb: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        async def once() -> T:
            async with self.db.transaction() as tx:
                return await verb(tx, *arguments)

        return self.loop.run_until_complete(once())

    def states(self) -> dict[int, PilotStatus]:
        rows = self.run(fetch_rows, "SELECT pilot_id, status::text FROM pilots.pilot ORDER BY pilot_id")
        return {pilot_id: PilotStatus(status) for pilot_id, status in rows}

    def some(self, n: int) -> NewPilot | None:
        return self.pilots[n % len(self.pilots)] if self.pilots else None

    @initialize()
    def empty(self) -> None:
        self.run(execute, _EMPTY)

    @rule(astro=st.booleans(), count=st.integers(1, 6))
    def submit_jobs(self, astro: bool, count: int) -> None:
        owner = self.world.ada if astro else self.world.bea
        spec = JobSpec(executable="true", parameters={"n": list(range(count))})
        self.run(jobs.submit_jobs, owner, jobs.Elements(), [spec])

    @rule()
    def plan(self) -> None:
        for order in self.run(service.demand_to_plan):
            self.pilots += order.pilots

    @rule(n=PICK)
    def record(self, n: int) -> None:
        if pilot := self.some(n):
            self.run(service.record_submissions, {pilot.pilot_id: f"paper-{pilot.pilot_id}"})

    @rule(n=PICK, said=st.sampled_from(ElementState))
    def follow(self, n: int, said: ElementState) -> None:
        followed = {each.pilot_id: each for _, some in self.run(service.pilots_to_follow) for each in some}
        pilot = self.some(n)
        if pilot is None or pilot.pilot_id not in followed:
            return
        verdict = rules.judge(followed[pilot.pilot_id], said, 3600)
        if verdict.becomes is PilotStatus.WAITING:
            self.run(service.note_waiting, [pilot.pilot_id])
        if verdict.ends is not None:
            self.run(service.end_pilots, [(followed[pilot.pilot_id].status, verdict.ends)])
        if verdict.settled:
            self.run(service.settle_pilots, [pilot.pilot_id])

    @rule(n=PICK, node=st.sampled_from(["n1", "n2", "n3", "n4"]))
    def enrol(self, n: int, node: str) -> None:
        pilot = self.some(n)
        if pilot is None:
            return
        before = self.states()[pilot.pilot_id]
        asked = Enrolment(pilot_id=pilot.pilot_id, secret=pilot.secret, offer=OFFER, node={"hostname": node})
        try:
            self.run(service.enrol, self.keys, "https://spinor.example.org", asked)
        except service.EnrolmentRefused:
            assert before not in rules.ON_THE_WAY
        else:
            assert before in rules.ON_THE_WAY, "a secret that was spent, or of a pilot that has ended, worked"

    @rule(n=PICK)
    def be_unfit(self, n: int) -> None:
        if pilot := self.some(n):
            self.run(service.report_unfit, self._caller(pilot), [Finding(check="disk")])

    @rule(n=PICK)
    def say_goodbye(self, n: int) -> None:
        if pilot := self.some(n):
            self.run(service.say_goodbye, self._caller(pilot), "no work")

    @rule(n=PICK)
    def cancel(self, n: int) -> None:
        if pilot := self.some(n):
            self.run(service.cancel_pilots, self.world.ada_admin, [pilot.pilot_id], "")

    @rule(n=PICK)
    def give_up(self, n: int) -> None:
        if pilot := self.some(n):
            ending = Ending(pilot_id=pilot.pilot_id, status=PilotStatus.ABORTED, reason="it was never submitted")
            self.run(service.end_pilots, [(PilotStatus.NEW, ending)])

    @rule()
    def withdraw(self) -> None:
        self.run(service.withdraw_pilots)

    @rule()
    def come_back(self) -> None:
        async def probed(tx: Tx) -> None:
            await statuses.note_probe(tx, ElementKind.CE, "local-ce", succeeded=True, reason="tests")

        self.run(probed)

    @rule()
    def fold(self) -> None:
        self.run(service.fold_tally)

    def _caller(self, pilot: NewPilot) -> Caller:
        return Caller(
            vo_id=pilot.vo_id, vo=pilot.vo, user_id=0, user="pilot", group_id=0, group="pilot",
            scopes=frozenset({Scope.PILOT_ACT}), pilot_id=pilot.pilot_id,
        )  # fmt: skip

    # -------------------------------------------------------------------------------------------- what always holds

    @invariant()
    def the_end_is_the_end(self) -> None:
        states = self.states()
        for pilot_id, status in self.left.items():
            assert states[pilot_id] is status
        self.left |= {pilot_id: status for pilot_id, status in states.items() if status in rules.FINAL}

    @invariant()
    def never_more_than_allowed(self) -> None:
        assert sum(status not in rules.FINAL for status in self.states().values()) <= MAX_PILOTS

    @invariant()
    def the_counts_are_exact(self) -> None:
        told = self.run(fetch_rows, "SELECT vo_id, status::text, pilots FROM pilots.tally_now WHERE pilots <> 0")
        rows = self.run(fetch_rows, "SELECT vo_id, status::text FROM pilots.pilot")
        assert {(vo_id, status): count for vo_id, status, count in told} == Counter(rows)

    @invariant()
    def ended_has_a_time(self) -> None:
        rows = self.run(fetch_rows, "SELECT status::text, ended_at IS NOT NULL FROM pilots.pilot")
        assert all((PilotStatus(status) in rules.FINAL) == ended for status, ended in rows)


def test_random_operations(database_url: str, world: World, tmp_path: Path) -> None:
    keys = KeyRing.create(tmp_path / "keys")
    run_state_machine_as_test(
        lambda: PilotsMachine(database_url, world, keys),  # type: ignore[arg-type]
        settings=settings(
            max_examples=20,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.reuse, Phase.generate],  # Each step is many statements: shrinking takes long.
        ),
    )
