"""The factory's rounds: what is planned once is submitted once, whoever dies in between and however many plan."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql

from spinor.access import Caller, Scope
from spinor.jobs import service as jobs
from spinor.jobs.models import Assignment, FinishReport, JobSpec, JobStatus, Lost, Offer
from spinor.pilots import chores, launching, service
from spinor.pilots.models import ElementState, Enrolment, MatchRequest
from spinor.pilots.plugin import ElementSettings, PilotLaunch, Submitted

from .conftest import Site

SLEEP = JobSpec(executable="sleep", arguments=["60"])


class PaperElement:
    """An element that keeps books and starts nothing."""

    name = "paper"

    def __init__(self, element: ElementSettings | None = None) -> None:
        self.submitted: list[PilotLaunch] = []
        self.states: dict[str, ElementState] = {}
        self.cancelled: list[str] = []
        self.breaks: BaseException | None = None
        self.delay_s = 0.0

    async def submit(self, pilots: Sequence[PilotLaunch]) -> Sequence[Submitted]:
        await asyncio.sleep(self.delay_s)
        self.submitted.extend(pilots)
        if self.breaks:
            raise self.breaks
        return [Submitted(pilot_id=p.pilot_id, external_id=f"paper-{p.pilot_id}") for p in pilots]

    async def find(self, pilot_ids: Sequence[int]) -> Mapping[int, str]:
        known = {p.pilot_id for p in self.submitted}
        return {pilot_id: f"paper-{pilot_id}" for pilot_id in pilot_ids if pilot_id in known}

    async def status(self, external_ids: Sequence[str]) -> Mapping[str, ElementState]:
        return {each: self.states.get(each, ElementState.WAITING) for each in external_ids}

    async def cancel(self, external_ids: Sequence[str]) -> None:
        self.cancelled.extend(external_ids)

    async def output(self, external_ids: Sequence[str]) -> Mapping[str, str]:
        return {each: f"words of {each}" for each in external_ids}


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch) -> PaperElement:
    element = PaperElement()
    monkeypatch.setattr(launching, "plugin_named", lambda name: lambda settings: element)
    return element


async def rows(site: Site, columns: LiteralString) -> list[Any]:
    async with site.context.db.pool.connection() as conn:
        query = sql.SQL("SELECT {} FROM pilots.pilot ORDER BY pilot_id").format(sql.SQL(columns))
        return await (await conn.execute(query)).fetchall()


async def age(site: Site, seconds: float) -> None:
    async with site.context.db.pool.connection() as conn:
        await conn.execute("UPDATE pilots.pilot SET created_at = created_at - make_interval(secs => %s)", (seconds,))


async def test_several_workers_submit_no_more_than_one_would(site: Site, paper: PaperElement) -> None:
    paper.delay_s = 0.2
    for _ in range(5):
        await site.submit(site.world.ada, SLEEP)
    await asyncio.gather(*(chores.submit_pilots(site.context, {}) for _ in range(8)))
    await chores.submit_pilots(site.context, {})
    assert len(paper.submitted) == 3  # Five jobs of one core, two cores a pilot.
    assert await rows(site, "status::text, external_id IS NOT NULL") == [("submitted", True)] * 3


async def test_max_pilots_holds(site: Site, paper: PaperElement) -> None:
    for _ in range(30):
        await site.submit(site.world.ada, SLEEP)
        await site.submit(site.world.bea, SLEEP)
    for _ in range(3):
        await chores.submit_pilots(site.context, {})
    assert sorted(launch.vo for launch in paper.submitted) == ["astro", "astro", "bio", "bio"]


async def test_a_worker_killed_before_the_submission_leaves_nothing_stuck(site: Site, paper: PaperElement) -> None:
    await site.submit(site.world.ada, SLEEP)
    async with site.context.db.transaction() as tx:
        await service.demand_to_plan(tx)  # And the worker is gone.
    await chores.submit_pilots(site.context, {})
    assert paper.submitted == []  # The intent counts, for a minute.
    await age(site, 30)
    await chores.follow_pilots(site.context, {})
    assert await rows(site, "status::text") == [("new",)]
    await age(site, 40)
    await chores.follow_pilots(site.context, {})
    assert await rows(site, "status::text, reason") == [("aborted", "it was never submitted")]
    await chores.submit_pilots(site.context, {})
    assert len(paper.submitted) == 1


async def test_a_worker_killed_after_the_submission_is_made_up_for(site: Site, paper: PaperElement) -> None:
    await site.submit(site.world.ada, SLEEP)
    paper.breaks = asyncio.CancelledError()  # As when its process ends: what comes after is never done.
    with contextlib.suppress(asyncio.CancelledError):
        await chores.submit_pilots(site.context, {})
    assert await rows(site, "status::text, external_id") == [("new", None)]
    await age(site, 70)
    await chores.follow_pilots(site.context, {})
    (launch,) = paper.submitted
    assert await rows(site, "external_id") == [(f"paper-{launch.pilot_id}",)]
    await chores.submit_pilots(site.context, {})
    assert len(paper.submitted) == 1


async def test_a_broken_element_does_not_stop_the_factory(
    site: Site, paper: PaperElement, caplog: pytest.LogCaptureFixture
) -> None:
    await site.submit(site.world.ada, SLEEP)
    paper.breaks = RuntimeError("the batch system is upset")
    await chores.submit_pilots(site.context, {})
    assert "the batch system is upset" in caplog.text
    (launch,) = paper.submitted
    assert launch.secret not in caplog.text


async def test_no_transaction_is_open_while_an_element_is_called(site: Site, paper: PaperElement) -> None:
    open_transactions: list[int] = []

    async def submit(pilots: Sequence[PilotLaunch]) -> Sequence[Submitted]:
        async with await psycopg.AsyncConnection.connect(site.context.settings.database_url) as conn:
            row = await (
                await conn.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' "
                    "AND datname = current_database()"
                )
            ).fetchone()
        assert row is not None
        open_transactions.append(row[0])
        return [Submitted(pilot_id=p.pilot_id, error="full") for p in pilots]

    paper.submit = submit  # type: ignore[method-assign]
    await site.submit(site.world.ada, SLEEP)
    await chores.submit_pilots(site.context, {})
    assert open_transactions == [0]
    assert await rows(site, "status::text, reason") == [("aborted", "refused: full")]


async def test_an_element_that_says_waiting_then_nothing(site: Site, paper: PaperElement) -> None:
    await site.submit(site.world.ada, SLEEP)
    await chores.submit_pilots(site.context, {})
    (launch,) = paper.submitted
    await chores.follow_pilots(site.context, {})
    assert await rows(site, "status::text") == [("waiting",)]
    paper.states[f"paper-{launch.pilot_id}"] = ElementState.VANISHED
    await chores.follow_pilots(site.context, {})
    assert await rows(site, "status::text, ended_at IS NOT NULL") == [("aborted", True)]
    async with site.context.db.transaction() as tx:
        assert (
            await service.pilot_log(tx, site.world.alan, launch.pilot_id, 6) == f"of paper-{launch.pilot_id}".encode()
        )
        with pytest.raises(service.UnknownPilot):
            await service.pilot_log(tx, site.world.bea, launch.pilot_id, 0)


@pytest.mark.parametrize("hangs", [False, True])
async def test_an_element_that_cannot_tell_last_words_holds_nothing_up(
    site: Site, paper: PaperElement, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    """The ending, the pause of the factory, and what must be cancelled come before the words for people."""

    async def output(_: Sequence[str]) -> Mapping[str, str]:
        if hangs:
            await asyncio.Event().wait()
        raise OSError("the element's disk is full")

    monkeypatch.setattr(paper, "output", output)
    monkeypatch.setattr(chores, "OUTPUT_S", 0.05)
    for _ in range(3):
        await site.submit(site.world.ada, SLEEP)
    await chores.submit_pilots(site.context, {})
    dead, unwanted = paper.submitted
    async with site.context.db.transaction() as tx:
        await service.cancel_pilots(tx, site.world.ada_admin, [unwanted.pilot_id], "")
    paper.states[f"paper-{dead.pilot_id}"] = ElementState.FAILED
    await chores.follow_pilots(site.context, {})
    assert await rows(site, "status::text") == [("aborted",), ("deleted",)]
    assert paper.cancelled == [f"paper-{unwanted.pilot_id}"]
    async with site.context.db.transaction() as tx:
        (told,) = await service.pilot_stats(tx, site.world.alan, 3600, "")
    assert "ended before it enrolled" in told.trouble


async def test_of_many_mute_pilots_some_are_asked_for_their_last_words(
    site: Site, paper: PaperElement, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chores, "MUTE_PILOTS", 1)
    for _ in range(3):
        await site.submit(site.world.ada, SLEEP)
    await chores.submit_pilots(site.context, {})
    paper.states.update({f"paper-{each.pilot_id}": ElementState.FAILED for each in paper.submitted})
    await chores.follow_pilots(site.context, {})
    assert await rows(site, "status::text") == [("aborted",)] * 2
    async with site.context.db.transaction() as tx:
        logs = [await service.pilot_log(tx, site.world.alan, each.pilot_id, 0) for each in paper.submitted]
    assert sorted(bool(log) for log in logs) == [False, True]


async def test_a_cancelled_pilot_is_cancelled_until_it_is_gone(site: Site, paper: PaperElement) -> None:
    await site.submit(site.world.ada, SLEEP)
    await chores.submit_pilots(site.context, {})
    (launch,) = paper.submitted
    async with site.context.db.transaction() as tx:
        await service.cancel_pilots(tx, site.world.ada_admin, [launch.pilot_id], "")
    external_id = f"paper-{launch.pilot_id}"
    for _ in range(2):
        await chores.follow_pilots(site.context, {})
    assert paper.cancelled == [external_id, external_id]
    paper.states[external_id] = ElementState.VANISHED
    await chores.follow_pilots(site.context, {})
    assert len(paper.cancelled) == 2


async def test_a_zombies_reports_are_refused(site: Site, paper: PaperElement) -> None:
    """A pilot that was given up comes back: it gets no job, renews nothing, and reports nothing."""
    ada = site.world.ada
    (job_id,) = await site.submit(ada, SLEEP)
    await chores.submit_pilots(site.context, {})
    (launch,) = paper.submitted
    zombie = Acting(site, launch)
    await zombie.enrol()
    (assignment,) = await zombie.match()
    paper.states[f"paper-{launch.pilot_id}"] = ElementState.VANISHED
    await chores.follow_pilots(site.context, {})
    assert (await site.job(ada, job_id)).status is JobStatus.WAITING
    for act in (zombie.match, zombie.beat):
        with pytest.raises(service.PilotEnded):
            await act()
    with pytest.raises(jobs.StaleReport):
        await zombie.finish(assignment)
    assert (await site.job(ada, job_id)).status is JobStatus.WAITING


@dataclasses.dataclass
class Acting:
    """A pilot's calls, without the pilot."""

    site: Site
    launch: PilotLaunch

    offer = Offer(cores=2, memory_bytes=4_000_000_000, disk_bytes=10**12, wall_s=3000)

    async def enrol(self) -> None:
        asked = Enrolment(pilot_id=self.launch.pilot_id, secret=self.launch.secret, offer=self.offer)
        async with self.site.context.db.transaction() as tx:
            await service.enrol(tx, self.site.keys, self.site.url, asked)
        self.caller = Caller(
            vo_id=self.site.world.ada.vo_id,
            vo="astro",
            user_id=0,
            user="pilot",
            group_id=0,
            group="pilot",
            scopes=frozenset({Scope.PILOT_ACT}),
            pilot_id=self.launch.pilot_id,
        )

    async def match(self) -> list[Assignment]:
        async with self.site.context.db.transaction() as tx:
            return await service.match(tx, jobs.Matcher(), self.caller, MatchRequest(offer=self.offer, max_jobs=1))

    async def beat(self) -> list[Lost]:
        async with self.site.context.db.transaction() as tx:
            return (await service.beat(tx, self.caller, [])).lost

    async def finish(self, job: Assignment) -> None:
        async with self.site.context.db.transaction() as tx:
            await jobs.finish_job(tx, self.caller, job.job_id, FinishReport(attempt=job.attempt, exit_code=0))
