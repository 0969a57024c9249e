"""Brief jobs: a pilot has the next ones in hand, runs each once, and gives back what it could not begin."""

from collections.abc import AsyncIterator

import pytest

from spinor.jobs import service as jobs
from spinor.jobs.models import CommandJobs, JobSpec, JobStatus
from spinor.pilots.chores import submit_pilots

from .conftest import Site, until
from .test_running import pilots as pilots  # A fixture.
from .test_running import script

BEFORE = 20


@pytest.fixture
async def one_pilot(pilots: Site) -> AsyncIterator[Site]:
    """A site with a pilot that has just run enough brief jobs to look ahead."""
    await pilots.submit(pilots.world.ada, script("true"))
    await submit_pilots(pilots.context, {})
    await pilots.submit(pilots.world.ada, script("true", parameters={"n": list(range(BEFORE - 1))}))
    await ended(pilots, BEFORE)
    yield pilots


async def ended(site: Site, count: int) -> list[tuple[str, int]]:
    """State and attempt of all jobs, when so many have ended."""

    async def look() -> list[tuple[str, int]] | None:
        async with site.context.db.pool.connection() as conn:
            rows = await conn.execute("SELECT status::text, attempt FROM jobs.job")
            found = [(str(status), int(attempt)) async for status, attempt in rows]
        return found if sum(status in ("done", "failed") for status, _ in found) >= count else None

    return await until(look, 60)


async def test_every_brief_job_runs_once(one_pilot: Site) -> None:
    site = one_pilot
    await site.submit(site.world.ada, script("echo $SPINOR_JOB_ID >>/job/seen", parameters={"n": list(range(60))}))
    assert {status for status, _ in await ended(site, BEFORE + 60)} == {"done"}
    async with site.context.db.pool.connection() as conn:
        rows = await conn.execute(
            "SELECT count(*), count(DISTINCT job_id) FROM jobs.ended_attempt WHERE status = 'done'"
        )
        assert await rows.fetchone() == (BEFORE + 60, BEFORE + 60)


async def test_what_could_not_begin_goes_back_and_runs_later(one_pilot: Site) -> None:
    site, ada = one_pilot, one_pilot.world.ada
    long = await site.submit(ada, script("sleep 300", parameters={"n": list(range(8))}))

    async def given_back() -> bool:
        async with site.context.db.pool.connection() as conn:
            rows = await conn.execute(
                "SELECT count(*) FROM jobs.job_history WHERE minor_status = 'given back unused' AND status = 'waiting'"
            )
            [(count,)] = await rows.fetchall()
        return bool(count)

    await until(given_back, 60)
    found = [await site.job(ada, job_id) for job_id in long]
    assert {job.status for job in found} <= {JobStatus.WAITING, JobStatus.MATCHED, JobStatus.RUNNING}
    assert JobStatus.RUNNING in {job.status for job in found}
    await jobs.kill_jobs(site.context.db, ada, CommandJobs(job_ids=long))


async def test_a_job_in_hand_can_be_killed(one_pilot: Site) -> None:
    site, ada = one_pilot, one_pilot.world.ada
    spec: JobSpec = script("sleep 300", parameters={"n": list(range(8))})
    long = await site.submit(ada, spec)
    await site.until_job(ada, long[0], JobStatus.RUNNING)
    await jobs.kill_jobs(site.context.db, ada, CommandJobs(job_ids=long))
    (last,) = await site.submit(ada, script("true"))
    await site.until_job(ada, last, JobStatus.DONE)
    assert {(await site.job(ada, job_id)).status for job_id in long} == {JobStatus.KILLED}
