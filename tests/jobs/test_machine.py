"""The state machine: the table of transitions, and the SQL held against a model of it by random operations."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any, LiteralString, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from spinor.db import Tx, execute, fetch_rows
from spinor.errors import SpinorError
from spinor.jobs import service
from spinor.jobs.control import gates
from spinor.jobs.matching import store as matching
from spinor.jobs.models import CommandJobs, FinishReport, Held, JobStatus, Outcome, PrioritiseJobs, Retries, Slot
from spinor.jobs.rules import FINAL, HELD, TRANSITIONS, allowed, sources_of
from spinor.jobs.service import Elements, Matcher
from tests.conftest import World

from .workbench import echo, offer, pilot_of

S = JobStatus
T = TypeVar("T")


def test_every_state_is_in_the_table() -> None:
    assert set(TRANSITIONS) == set(JobStatus)
    assert {state for state, targets in TRANSITIONS.items() if not targets} == {S.DELETED}
    assert not any(allowed(state, state) for state in JobStatus)


def test_what_is_final_ends_only_by_a_person() -> None:
    for state in FINAL:
        assert TRANSITIONS[state] <= {S.RESCHEDULED, S.DELETED}
    assert set(sources_of(S.KILLED)) == {state.value for state in JobStatus} - {state.value for state in FINAL}


def test_the_comments_of_the_schema_are_the_table() -> None:
    text = files("spinor").joinpath("schema.sql").read_text()
    enum = text.partition("CREATE TYPE jobs.job_status AS ENUM (")[2].partition(");")[0]
    for value, comment in re.findall(r"'(\w+)',?\s+-- (.*)", enum):
        sources = comment.partition(f" -> {value}")[0] if " -> " in comment else ""
        if sources == "any state that is not final":
            told = set(JobStatus) - FINAL - {S(value)}
        else:
            told = {S(source) for source in sources.split("|") if source}
        assert {S(source) for source in sources_of(S(value))} == told, value


def test_the_reference_page_is_the_table() -> None:
    text = Path(__file__).parents[2].joinpath("docs/reference/job-states.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", text.partition("| from |")[2].partition("\n\n")[0], re.MULTILINE)
    assert {S(old): {S(new) for new in re.findall(r"`(\w+)`", targets)} for old, targets in rows} == TRANSITIONS


_EMPTY: LiteralString = """
    TRUNCATE jobs.job_array, jobs.job, jobs.waiting, jobs.running, jobs.job_history, jobs.tally,
             jobs.tally_live, jobs.tally_change, jobs.ended_attempt, jobs.delayed, jobs.array_parameters
             RESTART IDENTITY;
    ALTER SEQUENCE jobs.job_id RESTART
"""


def test_the_picture_of_the_reference_page_is_the_table() -> None:
    text = Path(__file__).parents[2].joinpath("docs/reference/job-states.md").read_text()
    arrows = re.findall(r"^    (\w+) --> (\w+)$", text, re.MULTILINE)
    assert [(S(old), S(new)) for old, new in arrows if S(new) not in TRANSITIONS[S(old)]] == []
    assert len(arrows) == sum(len(targets) for targets in TRANSITIONS.values())


class JobsMachine(RuleBasedStateMachine):
    """Random operations of people, pilots and time, each in its transaction, beside a plain model of their effects."""

    def __init__(self, url: str, world: World) -> None:
        super().__init__()
        self.ada = world.ada
        self.loop = asyncio.new_event_loop()
        self.conn = self.loop.run_until_complete(Tx.connect(url, autocommit=True))
        self.matcher, self.elements = Matcher(), Elements()
        self.status: dict[int, JobStatus] = {}
        self.attempt: dict[int, int] = {}
        self.holder: dict[int, int] = {}
        self.left: dict[int, int] = {}  # Retries after a lost pilot.
        self.most: dict[int, int] = {}
        self.tries: dict[int, int] = {}  # Retries after an error of the payload.
        self.held: set[int] = set()

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Tx]:
        """This object stands in for the database of commands, with its one connection."""
        async with self.conn.transaction():
            yield self.conn

    @contextlib.asynccontextmanager
    async def statements(self) -> AsyncIterator[Tx]:
        yield self.conn

    def command(self, verb: Callable[..., Awaitable[Outcome]], job_id: int) -> bool:
        """Whether the command changed the job."""
        outcome = self.loop.run_until_complete(verb(self, self.ada, CommandJobs(job_ids=[job_id])))
        assert outcome.done_ids == ([] if outcome.refused else [job_id])
        return not outcome.refused

    def teardown(self) -> None:
        self.loop.run_until_complete(self.conn.close())
        self.loop.close()

    def run(self, verb: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        async def once() -> T:
            async with self.conn.transaction():
                return await verb(self.conn, *arguments)

        return self.loop.run_until_complete(once())

    def attempted(self, verb: Callable[..., Awaitable[T]], *arguments: Any) -> T | None:
        try:
            return self.run(verb, *arguments)
        except SpinorError as error:
            assert error.code == "stale-report"
            return None

    @initialize()
    def empty(self) -> None:
        self.run(execute, _EMPTY)

    @rule(size=st.integers(1, 4), most=st.integers(0, 2))
    def submit(self, size: int, most: int) -> None:
        retries = Retries(site=most, payload=1)
        spec = echo(parameters={"x": list(range(size))}, retries=retries)
        for job_id in self.run(service.submit_jobs, self.ada, self.elements, [spec]).arrays[0].ids:
            self.status[job_id], self.attempt[job_id], self.left[job_id] = S.WAITING, 0, most
            self.most[job_id], self.tries[job_id] = most, 1

    @rule(pilot=st.integers(1, 3), most=st.integers(1, 4))
    def match(self, pilot: int, most: int) -> None:
        slot = Slot(pilot_id=pilot, site="LOCAL", site_id=1, ce="local", ce_id=1, offer=offer())
        self.matcher.forget()
        given = self.run(service.match_jobs, self.matcher, pilot_of(self.ada, pilot), slot, most)
        waiting = [job_id for job_id, status in self.status.items() if status is S.WAITING]
        assert {job.job_id for job in given} <= set(waiting)
        assert len(given) == min(most, len(waiting))
        for job in given:
            self.status[job.job_id], self.holder[job.job_id] = S.MATCHED, pilot
            self.attempt[job.job_id] += 1
            assert job.attempt == self.attempt[job.job_id]

    def holds(self, pilot: int, job_id: int, attempt: int) -> bool:
        held = self.status.get(job_id) in HELD
        return held and (self.holder[job_id], self.attempt[job_id]) == (pilot, attempt)

    @rule(pilot=st.integers(1, 3), job_id=st.integers(1, 8), attempt=st.integers(1, 3))
    def start(self, pilot: int, job_id: int, attempt: int) -> None:
        async def started(tx: Tx) -> bool:
            await service.start_job(tx, pilot_of(self.ada, pilot), job_id, attempt)
            return True

        done = self.attempted(started)
        assert bool(done) is self.holds(pilot, job_id, attempt)
        if done:
            self.status[job_id] = S.RUNNING

    @rule(
        pilot=st.integers(1, 3), job_id=st.integers(1, 8), attempt=st.integers(1, 3), code=st.sampled_from([0, 1, None])
    )
    def finish(self, pilot: int, job_id: int, attempt: int, code: int | None) -> None:
        report = FinishReport(attempt=attempt, exit_code=code)
        before = self.status.get(job_id)
        ended = self.attempted(service.finish_job, pilot_of(self.ada, pilot), job_id, report)
        if not self.holds(pilot, job_id, attempt):
            # Nothing, or the answer to the same report again.
            assert ended in (None, before, S.FAILED)
            return
        assert ended is (S.DONE if code == 0 else S.FAILED)
        self.status[job_id] = ended
        counted = {None: self.left, 1: self.tries}.get(code)
        if counted and counted[job_id]:
            counted[job_id] -= 1
            self.status[job_id] = S.CHECKING

    @rule()
    def end_pauses(self) -> None:
        self.run(execute, "UPDATE jobs.delayed SET until = now() - interval '1 second'")
        self.run(gates.end_pauses)
        for job_id, status in self.status.items():
            if status is S.CHECKING and job_id not in self.held:
                self.status[job_id] = S.WAITING

    @rule(job_id=st.integers(1, 8))
    def kill(self, job_id: int) -> None:
        possible = job_id in self.status and self.status[job_id] not in FINAL
        assert self.command(service.kill_jobs, job_id) is possible
        if possible:
            self.status[job_id] = S.KILLED
            self.held.discard(job_id)

    @rule(job_id=st.integers(1, 8))
    def delete(self, job_id: int) -> None:
        possible = self.status.get(job_id, S.DELETED) is not S.DELETED
        assert self.command(service.delete_jobs, job_id) is possible
        if possible:
            self.status[job_id] = S.DELETED
            self.held.discard(job_id)

    @rule(job_id=st.integers(1, 8))
    def hold(self, job_id: int) -> None:
        possible = job_id in self.status and self.status[job_id] not in FINAL and job_id not in self.held
        assert self.command(service.hold_jobs, job_id) is possible
        if possible:
            self.status[job_id] = S.CHECKING
            self.held.add(job_id)

    @rule(job_id=st.integers(1, 8))
    def release(self, job_id: int) -> None:
        assert self.command(service.release_jobs, job_id) is (job_id in self.held)
        if job_id in self.held:
            self.held.remove(job_id)
            self.status[job_id] = S.WAITING

    @rule(job_id=st.integers(1, 8), priority=st.integers(0, 9))
    def prioritise(self, job_id: int, priority: int) -> None:
        command = PrioritiseJobs(job_ids=[job_id], priority=priority)
        outcome = self.loop.run_until_complete(service.prioritise_jobs(self, self.ada, command))  # type: ignore[arg-type]
        possible = job_id in self.status and self.status[job_id] not in FINAL
        assert (outcome.done_ids == [job_id]) is possible

    @rule(job_id=st.integers(1, 8))
    def reschedule(self, job_id: int) -> None:
        possible = self.status.get(job_id) in {S.DONE, S.FAILED, S.KILLED, S.MATCHED, S.RUNNING}
        assert self.command(service.reschedule_jobs, job_id) is possible
        if possible:
            self.status[job_id], self.left[job_id], self.tries[job_id] = S.WAITING, self.most[job_id], 1

    @rule()
    def fold(self) -> None:
        self.run(matching.fold_tally)

    def lost(self, job_id: int) -> None:
        self.status[job_id] = S.WAITING if self.left[job_id] else S.FAILED
        self.left[job_id] = max(0, self.left[job_id] - 1)

    @rule(pilot=st.integers(1, 3))
    def lose_pilot(self, pilot: int) -> None:
        held = [job_id for job_id in self.status if self.status[job_id] in HELD and self.holder[job_id] == pilot]
        assert sorted(self.run(service.release_jobs_of_pilot, pilot, "gone")) == sorted(held)
        for job_id in held:
            self.lost(job_id)

    @rule(pilot=st.integers(1, 3))
    def leave(self, pilot: int) -> None:
        held = [job_id for job_id in self.status if self.status[job_id] in HELD and self.holder[job_id] == pilot]
        counted = self.run(
            fetch_rows, "SELECT job_id, count(*) FROM jobs.ended_attempt WHERE status = 'rescheduled' GROUP BY job_id"
        )
        often = {job_id for job_id, times in counted if times >= 10}
        given_back = self.run(service.give_back_jobs_of_pilot, pilot_of(self.ada, pilot), "told to end")
        assert given_back == sorted(held)
        for job_id in held:
            if self.status[job_id] is S.MATCHED and job_id not in often:
                self.status[job_id] = S.WAITING
            else:
                self.lost(job_id)

    @rule(late_s=st.sampled_from([0, 61]))
    def expire(self, late_s: int) -> None:
        held = [job_id for job_id, status in self.status.items() if status in HELD] if late_s else []
        assert sorted(self.run(service.expire_leases, datetime.now(UTC) + timedelta(seconds=late_s))) == sorted(held)
        for job_id in held:
            self.lost(job_id)

    @rule(pilot=st.integers(1, 3), attempts=st.lists(st.integers(1, 3), min_size=8, max_size=8))
    def renew(self, pilot: int, attempts: list[int]) -> None:
        held = [Held(job_id=n, attempt=attempt) for n, attempt in enumerate(attempts, 1)]
        lost = {each.job_id for each in self.run(service.renew_leases, pilot_of(self.ada, pilot), held)}
        assert lost == {each.job_id for each in held if not self.holds(pilot, each.job_id, each.attempt)}

    @invariant()
    def jobs_are_as_the_model_says(self) -> None:
        rows = self.run(fetch_rows, "SELECT job_id, status, attempt FROM jobs.job")
        assert {row[0]: (S(row[1]), row[2]) for row in rows} == {
            job_id: (status, self.attempt[job_id]) for job_id, status in self.status.items()
        }

    @invariant()
    def waiting_and_running_rows_agree_with_the_states(self) -> None:
        waiting = self.run(
            fetch_rows,
            "SELECT w.job_id FROM jobs.waiting w JOIN jobs.job j ON j.job_id = w.job_id "
            "AND j.task_queue_id = w.task_queue_id AND w.priority = 9 - j.priority",
        )
        assert [row[0] for row in sorted(waiting)] == sorted(j for j, s in self.status.items() if s is S.WAITING)
        running = self.run(fetch_rows, "SELECT job_id, attempt, pilot_id FROM jobs.running")
        assert sorted(running) == sorted(
            (job_id, self.attempt[job_id], self.holder[job_id])
            for job_id, status in self.status.items()
            if status in HELD
        )

    @invariant()
    def no_history_tells_of_a_forbidden_step(self) -> None:
        for job_id in self.status:
            told = self.run(service.job_history, self.ada, job_id)
            steps = [entry.status for entry in told if not entry.minor_status.startswith("priority ")]
            assert steps[0] is S.WAITING
            assert steps[-1] is self.status[job_id]
            # Holding what pauses changes only the reason.
            assert all(allowed(old, new) or old is new is S.CHECKING for old, new in pairwise(steps)), steps

    @invariant()
    def counters_are_exact(self) -> None:
        told = self.run(fetch_rows, "SELECT task_queue_id, ce_id, status, jobs, cores FROM jobs.tally_now")
        counted = self.run(
            fetch_rows,
            "SELECT j.task_queue_id, coalesce(j.ce_id, 0), j.status, count(*), coalesce(sum(r.cores), 0) "
            "FROM jobs.job j LEFT JOIN jobs.running r USING (job_id) GROUP BY 1, 2, 3",
        )
        assert sorted(told) == sorted(counted)

    @invariant()
    def every_attempt_that_ended_has_one_record(self) -> None:
        records = self.run(fetch_rows, "SELECT job_id, attempt FROM jobs.ended_attempt")
        ended = [
            (job_id, attempt)
            for job_id, newest in self.attempt.items()
            for attempt in range(1, newest + (self.status[job_id] not in HELD))
        ]
        assert sorted(records) == sorted(ended)


def test_random_operations_keep_to_the_machine(database_url: str, world: World) -> None:
    run_state_machine_as_test(
        lambda: JobsMachine(database_url, world),  # type: ignore[arg-type]
        settings=settings(
            max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
