"""Claims on a real database: never twice, never past a limit, whoever else claims at the same time."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from spinor.configuration import service as configuration
from spinor.db import Tx, execute
from spinor.jobs import service
from spinor.jobs.matching.service import Matcher
from spinor.jobs.models import Assignment, JobSpec, Offer, Slot
from tests.conftest import WORLD, World
from tests.jobs.workbench import GB, Workbench, echo, offer


@pytest.fixture
async def bench(world: World) -> AsyncIterator[Workbench]:
    yield Workbench(world)


async def configure(bench: Workbench, more: str) -> None:
    """The operations data of the tests' world, and more."""
    root = bench.world.storage_root.parent
    async with bench.db.transaction() as tx:
        await configuration.apply(tx, WORLD.format(root=root) + more, author="tests")
    bench.matcher.forget_all()


async def ask(
    bench: Workbench, pilots: Sequence[int], most: int = 1, matcher: Matcher | None = None, what: Offer | None = None,
    site: str = "LOCAL", ce: str = "local-ce", ce_id: int = 1,
) -> list[list[Assignment]]:  # fmt: skip
    """What these pilots of the world's first VO get, asking in one group."""
    slots = [Slot(pilot_id=pilot, site=site, site_id=1, ce=ce, ce_id=ce_id, offer=what or offer()) for pilot in pilots]
    asks = [service.Ask(bench.world.ada.vo_id, slot, most) for slot in slots]
    async with bench.db.transaction() as tx:
        return await service.match_asks(tx, matcher or bench.matcher, asks)


def ids(given: Sequence[Sequence[Assignment]]) -> list[int]:
    return [job.job_id for each in given for job in each]


async def running(bench: Workbench) -> int:
    [(count,)] = await bench.rows("SELECT count(*) FROM jobs.running")
    return int(count)


def many(size: int, **fields: Any) -> JobSpec:
    return echo(parameters={"x": list(range(size))}, **fields)


async def test_a_group_is_served_by_one_claim(bench: Workbench) -> None:
    await bench.submit(many(10), many(5, memory_bytes=2 * GB))
    given = await ask(bench, [1, 2, 3, 4], 3)
    assert [len(each) for each in given] == [3, 3, 3, 3]
    assert len(set(ids(given))) == 12
    rows = await bench.rows("SELECT job_id, pilot_id, attempt FROM jobs.running ORDER BY job_id")
    assert rows == sorted((job.job_id, pilot, 1) for pilot, each in enumerate(given, 1) for job in each)
    # What each got is what it was given by the database too.
    assert {job.cores for each in given for job in each} == {1}
    assert ids(await ask(bench, [5], 8)) and await running(bench) == 15
    assert await ask(bench, [6], 8) == [[]]


async def test_each_vo_gets_its_own(bench: Workbench) -> None:
    await bench.submit(many(3))
    [theirs] = (await bench.submit(many(2), caller=bench.world.bea)).arrays
    slot = Slot(pilot_id=7, site="LOCAL", site_id=1, ce="local-ce", ce_id=1, offer=offer())
    asks = [service.Ask(bench.world.ada.vo_id, slot, 8)]
    asks.append(
        service.Ask(
            bench.world.bea.vo_id, Slot(pilot_id=8, site="LOCAL", site_id=1, ce="local-ce", ce_id=1, offer=offer()), 8
        )
    )
    async with bench.db.transaction() as tx:
        mine, other = await service.match_asks(tx, bench.matcher, asks)
    assert len(mine) == 3
    assert [job.job_id for job in other] == theirs.ids


async def test_several_matchers_never_give_a_job_twice(bench: Workbench) -> None:
    await bench.submit(many(150), many(150, memory_bytes=2 * GB), many(100, priority=8))
    taken: list[int] = []

    async def server(number: int) -> None:
        matcher = Matcher()
        for turn in range(100):
            first = 100 * number + 10 * turn
            got = ids(await ask(bench, range(first, first + 5), 4, matcher))
            if not got and turn and not await bench.rows("SELECT FROM jobs.waiting LIMIT 1"):
                return
            taken.extend(got)
            if not got:
                matcher.forget()

    await asyncio.gather(*(server(number) for number in range(1, 5)))
    assert sorted(taken) == sorted(set(taken))
    assert len(taken) == 400 == await running(bench)
    [(folded,)] = await bench.rows("SELECT sum(jobs) FROM jobs.tally_now WHERE status = 'matched'")
    assert folded == 400


async def test_a_claim_that_is_rolled_back_gives_nothing_away(bench: Workbench) -> None:
    await bench.submit(many(4))

    class Crash(Exception):
        pass

    with pytest.raises(Crash):
        async with bench.db.transaction() as tx:
            slot = Slot(pilot_id=1, site="LOCAL", site_id=1, ce="local-ce", ce_id=1, offer=offer())
            assert len(await service.match_jobs(tx, bench.matcher, bench.pilot(), slot, 3)) == 3
            raise Crash
    bench.matcher.forget()
    assert len(ids(await ask(bench, [2], 8))) == 4


async def test_what_comes_back_is_found_behind_the_watermark(bench: Workbench) -> None:
    await bench.submit(many(6))
    first = ids(await ask(bench, [1], 4))
    assert await bench.run(service.release_jobs_of_pilot, 1, "gone")
    bench.matcher.forget()
    again = ids(await ask(bench, [2], 8))
    assert sorted(again) == sorted({*first, *again}) and len(again) == 6


async def test_a_job_of_higher_priority_that_comes_later_goes_first(bench: Workbench) -> None:
    await bench.submit(many(5))
    assert len(ids(await ask(bench, [1], 2))) == 2
    late = await bench.submit_one(echo(priority=9))
    bench.matcher.forget_all()
    assert ids(await ask(bench, [2], 1)) == [late]


async def test_granted_cores_are_recorded(bench: Workbench) -> None:
    await bench.submit(echo(cores=2, max_cores=6), echo())
    [given] = await ask(bench, [1], 4, what=offer(cores=8))
    assert sorted(job.cores for job in given) == [1, 6]
    assert await bench.rows("SELECT sum(cores)::integer FROM jobs.tally_now WHERE status = 'matched'") == [(7,)]
    assert sorted(row[0] for row in await bench.rows("SELECT cores FROM jobs.running")) == [1, 6]


# ------------------------------------------------------------------------------------------------------------ limits


async def test_a_limit_holds_and_opens_again(bench: Workbench) -> None:
    await configure(bench, 'limits: [{name: few, per: {user: "*"}, running: 3}]\n')
    await bench.submit(many(5))
    await bench.submit(many(5), caller=bench.world.alan)
    given = await ask(bench, [1, 2], 8)
    assert len(ids(given)) == 6  # Three of each user.
    assert ids(await ask(bench, [3], 8)) == []
    [job, *_] = given[0]
    await bench.run(service.start_job, bench.pilot(1), job.job_id, job.attempt)
    await bench.finish(job)
    bench.matcher.forget_all()
    assert len(ids(await ask(bench, [3], 8))) == 1


async def test_limits_of_elements_and_labels(bench: Workbench) -> None:
    await configure(
        bench,
        "limits:\n  - {name: here, per: {ce: local-ce}, running: 2}\n"
        '  - {name: licence, per: {label: "*"}, running: 1}\n',
    )
    await bench.submit(many(4, labels=["matlab"]), many(4))
    first = await ask(bench, [1], 8)
    assert len(ids(first)) == 2
    elsewhere = await ask(bench, [2], 8, site="ELSEWHERE", ce="other-ce", ce_id=99)
    assert len(ids(elsewhere)) == 3  # All that are left without the label.
    labels = await bench.rows(
        "SELECT count(*) FROM jobs.running JOIN jobs.job USING (job_id) JOIN jobs.task_queue q USING (task_queue_id)"
        " WHERE q.wants -> 'labels' ? 'matlab'"
    )
    assert labels == [(1,)]


async def test_no_server_passes_a_limit(bench: Workbench) -> None:
    await configure(bench, "limits: [{name: few, per: {user: ada}, running: 17}]\n")
    await bench.submit(many(300))
    most = 0

    async def server(number: int) -> None:
        matcher = Matcher()
        for turn in range(12):
            pilots = range(1000 * number + 10 * turn, 1000 * number + 10 * turn + 5)
            given = await ask(bench, pilots, 4, matcher)
            nonlocal most
            most = max(most, await running(bench))
            for pilot, jobs in zip(pilots, given, strict=True):
                for job in jobs[::2]:
                    await bench.finish(job, pilot)
            matcher.forget_all()

    await asyncio.gather(*(server(number) for number in range(1, 5)))
    assert most <= 17
    ended = await bench.rows("SELECT count(*) FROM jobs.ended_attempt")
    assert ended[0][0] > 17  # Places that became free were used again.


async def test_bursts_are_spread_over_all_servers(bench: Workbench) -> None:
    await configure(bench, "limits: [{name: slowly, burst: {starts: 5, per_s: 3600}}]\n")
    await bench.submit(many(40))
    servers = [Matcher() for _ in range(3)]
    given = [await ask(bench, [10 * turn + n], 4, matcher) for turn in range(3) for n, matcher in enumerate(servers, 1)]
    assert sum(len(ids(each)) for each in given) == 5
    async with bench.db.transaction() as tx:
        await execute(tx, "UPDATE jobs.limit_state SET refilled_at = refilled_at - interval '1500 seconds'")
    bench.matcher.forget_all()
    assert len(ids(await ask(bench, [99], 8))) == 2


async def test_a_limit_of_nothing_lets_none_start(bench: Workbench) -> None:
    await configure(bench, "limits: [{name: closed, per: {vo: astro}, running: 0}]\n")
    await bench.submit(many(3))
    assert ids(await ask(bench, [1], 8)) == []
    await configure(bench, "")
    assert len(ids(await ask(bench, [1], 8))) == 3


async def test_a_limit_that_comes_counts_what_runs_already(bench: Workbench) -> None:
    await bench.submit(many(9))
    assert len(ids(await ask(bench, [1], 4))) == 4
    await configure(bench, "limits: [{name: few, per: {user: ada}, running: 6}]\n")
    assert len(ids(await ask(bench, [2], 8))) == 2


# ------------------------------------------------------------------------------------------------------------ shares


async def charge_for(bench: Workbench, seconds: float) -> None:
    """As if what runs now had run for so long."""
    async with bench.db.transaction() as tx:
        await service.charge_shares(tx)
        await execute(
            tx, "UPDATE jobs.share_clock SET charged_at = charged_at - make_interval(secs => %(s)s)", {"s": seconds}
        )
        await service.charge_shares(tx)
    bench.matcher.forget_all()


async def test_whoever_has_used_less_goes_first(bench: Workbench) -> None:
    await bench.submit(many(20, cores=2))
    await ask(bench, [1], 4)
    await charge_for(bench, 3600)
    [(core_s, total)] = await bench.rows("SELECT core_s, total_core_s FROM jobs.share_usage")
    assert total == pytest.approx(8 * 3600, abs=60)
    assert core_s == pytest.approx(total, rel=0.01)
    mine = (await bench.submit(many(10), caller=bench.world.alan)).arrays[0].ids
    assert set(ids(await ask(bench, [2], 8))) <= set(mine)


async def test_shares_decide_between_users(bench: Workbench) -> None:
    world = WORLD.replace("  bio:", "    shares: {{users: {{alan: 3}}}}\n  bio:", 1)
    root = bench.world.storage_root.parent
    async with bench.db.transaction() as tx:
        await configuration.apply(tx, world.format(root=root), author="tests")
    ada = set((await bench.submit(many(100))).arrays[0].ids)
    await bench.submit(many(100), caller=bench.world.alan)
    given: Counter[bool] = Counter()
    for n in range(10):
        given.update(job in ada for job in ids(await ask(bench, [n + 1], 8)))
    assert given[True] == pytest.approx(20, abs=8)
    assert given[False] == pytest.approx(60, abs=8)


async def test_charges_agree_with_the_accounting(bench: Workbench) -> None:
    await bench.submit(many(6))
    [given] = await ask(bench, [1], 3)
    async with bench.db.transaction() as tx:
        await service.charge_shares(tx)
    for job in given:
        await bench.run(service.start_job, bench.pilot(), job.job_id, job.attempt)
    # Two hours in six looks, in the middle of which two of the three end.
    for step in range(6):
        if step == 3:
            for job in given[:2]:
                await bench.finish(job, wall_s=3600.0)
        await charge_for_more(bench, 1200)
    await bench.finish(given[2], wall_s=7200.0)
    [(charged,)] = await bench.rows("SELECT sum(total_core_s) FROM jobs.share_usage")
    [(accounted,)] = await bench.rows("SELECT sum(cores * wall_s) FROM jobs.ended_attempt")
    assert charged == pytest.approx(accounted, rel=0.02)


async def charge_for_more(bench: Workbench, seconds: float) -> None:
    async with bench.db.transaction() as tx:
        await execute(
            tx, "UPDATE jobs.share_clock SET charged_at = charged_at - make_interval(secs => %(s)s)", {"s": seconds}
        )
        await service.charge_shares(tx)


async def test_vos_are_told_apart_for_the_factory(bench: Workbench) -> None:
    await configure(bench, "shares: {astro: 3}\n")
    await bench.submit(many(4))
    await ask(bench, [1], 4)
    await charge_for(bench, 1000)
    shares = {each.vo: each for each in await bench.run(service.shares_of_vos)}
    assert (shares["astro"].share, shares["bio"].share) == (3.0, 1.0)
    assert shares["astro"].running_cores == 4
    assert shares["astro"].core_s == pytest.approx(4000, rel=0.05)
    assert (shares["bio"].core_s, shares["bio"].running_cores) == (0, 0)


async def test_jobs_of_suspended_users_wait(bench: Workbench) -> None:
    await bench.submit(many(2))
    async with bench.db.transaction() as tx:
        await suspend(tx, bench.world.ada.user_id)
    bench.matcher.forget()
    assert ids(await ask(bench, [1], 8)) == []


async def suspend(tx: Tx, user_id: int) -> None:
    await execute(
        tx,
        "INSERT INTO identity.suspension (user_id, reason, suspended_by) VALUES (%(user_id)s, 'test', 'test')",
        {"user_id": user_id},
    )


async def test_far_from_its_data_a_job_runs_only_after_a_while(bench: Workbench) -> None:
    await bench.submit(many(3))
    async with bench.db.transaction() as tx:
        await execute(
            tx,
            """UPDATE jobs.task_queue SET wants = wants || '{"near_sites": ["PIC"], "near_wait_s": 600}'""",
        )
        # The first has waited long enough, the others have not.
        await execute(
            tx,
            "UPDATE jobs.job SET updated_at = updated_at - interval '700 seconds'"
            " WHERE job_id = (SELECT min(job_id) FROM jobs.job)",
        )
    assert len(ids(await ask(bench, [1], 8))) == 1
    bench.matcher.forget()
    assert ids(await ask(bench, [2], 8)) == []
    bench.matcher.forget()
    assert len(ids(await ask(bench, [3], 8, site="PIC", ce="pic", ce_id=5))) == 2


async def test_an_element_that_was_given_up_gets_no_more_jobs(bench: Workbench) -> None:
    await bench.submit(many(2))
    [(ce_id, name)] = await bench.rows("SELECT ce_id, name FROM resources.computing_element WHERE name = 'local-ce'")
    assert ids(await ask(bench, [1], ce=name, ce_id=ce_id))
    await bench.run(execute, "UPDATE resources.computing_element SET retired_at = now() WHERE name = 'local-ce'")
    bench.matcher.forget_all()
    assert not ids(await ask(bench, [1], ce=name, ce_id=ce_id))
