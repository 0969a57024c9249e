"""Random operations of users, pilots, several servers and time, held against what must never happen: a job given twice,
a slot given more than it has, a limit passed, a counter that is wrong."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from psycopg import sql

from spinor.configuration import service as configuration
from spinor.db import Tx, execute, fetch_rows
from spinor.jobs import service
from spinor.jobs.models import FinishReport, JobSpec, Offer, Slot
from spinor.jobs.service import Elements, Matcher
from tests.conftest import WORLD, World
from tests.jobs.workbench import GB, echo, pilot_of

T = TypeVar("T")
LIMIT, LABELLED = 6, 2

specs = st.builds(
    lambda cores, more, memory, labels, priority, size: echo(
        cores=cores, max_cores=cores + more, memory_bytes=memory * GB, labels=labels, priority=priority,
        parameters={"x": list(range(size))},
    ),
    st.integers(1, 3), st.sampled_from([0, 0, 3]), st.integers(1, 4), st.sampled_from([[], [], ["licence"]]),
    st.integers(4, 6), st.integers(1, 5),
)  # fmt: skip
offers = st.builds(
    Offer,
    cores=st.integers(0, 8),
    memory_bytes=st.integers(0, 12).map(lambda gb: gb * GB),
    disk_bytes=st.just(10**12),
    wall_s=st.sampled_from([60, 86_400]),
)


class MatchingMachine(RuleBasedStateMachine):
    def __init__(self, url: str, world: World) -> None:
        super().__init__()
        self.users = (world.ada, world.alan)
        self.loop = asyncio.new_event_loop()
        self.conn = self.loop.run_until_complete(Tx.connect(url, autocommit=True))
        self.servers, self.elements, self.pilots = [Matcher(), Matcher()], Elements(), 0
        self.given: Counter[tuple[int, int]] = Counter()

    def teardown(self) -> None:
        self.loop.run_until_complete(self.conn.close())
        self.loop.close()

    def run(self, verb: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        async def once() -> T:
            async with self.conn.transaction():
                return await verb(self.conn, *arguments)

        return self.loop.run_until_complete(once())

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self.run(fetch_rows, query)

    @initialize()
    def empty(self) -> None:
        tables = (
            "job", "job_array", "waiting", "running", "job_history", "tally", "tally_change", "ended_attempt",
            "delayed", "limit_state",
        )  # fmt: skip
        self.run(execute, sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(sql.Identifier("jobs", t) for t in tables)))

    @rule(spec=specs, user=st.integers(0, 1))
    def submit(self, spec: JobSpec, user: int) -> None:
        self.run(service.submit_jobs, self.users[user], self.elements, [spec])

    @rule(server=st.integers(0, 1), asking=st.lists(offers, min_size=1, max_size=4), most=st.integers(1, 6))
    def ask(self, server: int, asking: list[Offer], most: int) -> None:
        asks = []
        for offer in asking:
            self.pilots += 1
            slot = Slot(pilot_id=self.pilots, site="LOCAL", site_id=1, ce="local-ce", ce_id=1, offer=offer)
            asks.append(service.Ask(self.users[0].vo_id, slot, most))
        answers = self.run(service.match_asks, self.servers[server], asks)
        for offer, given in zip(asking, answers, strict=True):
            self.given.update((job.job_id, job.attempt) for job in given)
            assert len(given) <= most
            assert sum(job.cores for job in given) <= offer.cores
            assert sum(job.memory_bytes for job in given) <= offer.memory_bytes
            assert all(job.wall_s <= offer.wall_s for job in given)
        assert set(self.given.values()) <= {1}

    @rule(server=st.integers(0, 1))
    def look(self, server: int) -> None:
        self.servers[server].forget_all()

    @rule(number=st.integers(0, 20), exit_code=st.sampled_from([0, 1, None]))
    def finish(self, number: int, exit_code: int | None) -> None:
        held = self.rows("SELECT job_id, attempt, pilot_id FROM jobs.running ORDER BY job_id")
        if held:
            job_id, attempt, pilot_id = held[number % len(held)]
            report = FinishReport(attempt=attempt, exit_code=exit_code)
            self.run(service.finish_job, pilot_of(self.users[0], pilot_id), job_id, report)

    @rule()
    def lose_all(self) -> None:
        self.run(service.expire_leases, datetime.now(UTC) + timedelta(seconds=61))

    @invariant()
    def no_limit_is_passed(self) -> None:
        by_user = self.rows("SELECT owner_id, count(*) FROM jobs.running JOIN jobs.job USING (job_id) GROUP BY 1")
        assert all(count <= LIMIT for _, count in by_user)
        [(labelled,)] = self.rows(
            "SELECT count(*) FROM jobs.running JOIN jobs.job USING (job_id)"
            " JOIN jobs.task_queue q USING (task_queue_id) WHERE q.wants -> 'labels' ? 'licence'"
        )
        assert labelled <= LABELLED

    @invariant()
    def the_counters_are_true(self) -> None:
        counted = self.rows(
            "SELECT task_queue_id, status, sum(jobs)::integer, sum(cores)::integer FROM jobs.tally_now GROUP BY 1, 2"
        )
        true = self.rows(
            "SELECT j.task_queue_id, j.status, count(*)::integer, coalesce(sum(r.cores), 0)::integer"
            " FROM jobs.job j LEFT JOIN jobs.running r USING (job_id) GROUP BY 1, 2"
        )
        assert sorted(counted) == sorted(true)
        assert self.rows("SELECT count(*) FROM jobs.waiting") == self.rows(
            "SELECT count(*) FROM jobs.job WHERE status = 'waiting'"
        )

    @invariant()
    def nothing_stays_in_flight(self) -> None:
        for server in self.servers:
            assert all(not board.in_flight.any() for board in server.view.boards.values())


async def test_random_operations_never_do_what_must_not_be(database_url: str, world: World) -> None:
    limits = (
        f'limits:\n  - {{name: few, per: {{user: "*"}}, running: {LIMIT}}}\n'
        f"  - {{name: licence, per: {{label: licence}}, running: {LABELLED}}}\n"
    )
    async with world.db.transaction() as tx:
        await configuration.apply(tx, WORLD.format(root=world.storage_root.parent) + limits, author="tests")
    await asyncio.to_thread(
        run_state_machine_as_test,
        lambda: MatchingMachine(database_url, world),  # type: ignore[arg-type]
        settings=settings(
            max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
