"""Matching and the life of an attempt: given once, stale reports refused, lost ones found, outputs registered."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

import pytest

from spinor.catalog import service as catalog
from spinor.db import Tx, execute, fetch_rows
from spinor.errors import SpinorError
from spinor.jobs import service
from spinor.jobs.attempts import store
from spinor.jobs.models import (
    Assignment,
    EndReport,
    FinishReport,
    Held,
    JobStatus,
    LogChunk,
    LogStream,
    OutputData,
    OutputFile,
    Reports,
    Retries,
    Slot,
)
from spinor.jobs.service import Matcher, StaleReport
from tests.pilots.conftest import until

from .workbench import GB, Workbench, echo, offer

LATER = timedelta(seconds=61)


async def test_a_job_runs_to_its_end(bench: Workbench) -> None:
    job = await bench.running()
    assert await bench.status(job.job_id) is JobStatus.RUNNING
    assert await bench.finish(job, cpu_s=1.5) is JobStatus.DONE
    assert await bench.history(job.job_id) == ["waiting", "matched", "running", "done"]
    assert await bench.rows("SELECT count(*) FROM jobs.running") == [(0,)]


async def test_higher_priority_goes_first_then_the_older_job(bench: Workbench) -> None:
    await bench.submit(echo(name="low", priority=1, cores=1), echo(name="old"), echo(name="new", cores=2))
    await bench.submit(echo(name="high", priority=9, cores=2))
    given = await bench.match(max_jobs=4)
    names = dict(await bench.rows("SELECT j.job_id, a.name FROM jobs.job j JOIN jobs.job_array a USING (array_id)"))
    assert [names[job.job_id] for job in given] == ["high", "old", "new", "low"]


async def test_a_batch_fits_into_the_slot_together(bench: Workbench) -> None:
    await bench.submit(echo(cores=2, parameters={"n": [1, 2]}), echo(cores=1, parameters={"n": [1, 2]}))
    assert [job.cores for job in await bench.match(max_jobs=9, what=offer(cores=5))] == [2, 2, 1]
    assert [job.cores for job in await bench.match(max_jobs=9, what=offer(memory_bytes=GB // 2))] == []


@pytest.mark.parametrize(
    ("fields", "fits"),
    [
        ({"cores": 9}, False),
        ({"memory_bytes": "65GB"}, False),
        ({"disk_bytes": "2TB"}, False),
        ({"wall_s": "2d"}, False),
        ({"tags": ["gpu"]}, False),
        ({"tags": ["avx2"]}, True),
        ({"site": "LOCAL"}, True),
    ],
    ids=str,
)
async def test_each_constraint_counts(bench: Workbench, fields: dict[str, object], fits: bool) -> None:
    await bench.submit(echo(**fields))
    assert bool(await bench.match(what=offer(tags=["avx2"]))) is fits


async def test_the_site_of_the_pilot_counts(bench: Workbench) -> None:
    await bench.submit(echo(site="LOCAL"))
    assert not await bench.match(site="ELSEWHERE")
    assert await bench.match(site="LOCAL")


async def test_a_pilot_gets_jobs_of_its_own_vo_only(bench: Workbench) -> None:
    await bench.submit()
    assert not await bench.match(caller=bench.world.bea)
    assert await bench.match()


async def test_many_matchers_give_each_job_once(bench: Workbench) -> None:
    await bench.submit(echo(parameters={"n": list(range(400))}), echo(cores=2, parameters={"n": list(range(100))}))

    async def pilot(number: int) -> list[Assignment]:
        matcher, taken = Matcher(), []
        slot = Slot(pilot_id=number, site="LOCAL", site_id=1, ce="local", ce_id=1, offer=offer())
        while given := await bench.run(service.match_jobs, matcher, bench.pilot(number), slot, 3):
            taken += given
            matcher.forget()
        return taken

    given = [job.job_id for taken in await asyncio.gather(*(pilot(n) for n in range(1, 13))) for job in taken]
    assert len(given) == len(set(given)) == 500
    assert await bench.rows("SELECT count(*), count(DISTINCT attempt) FROM jobs.running") == [(500, 1)]


async def test_killing_beside_matching_leaves_no_lease(bench: Workbench) -> None:
    ids = (await bench.submit(echo(parameters={"n": list(range(200))}))).arrays[0].ids

    async def kill() -> None:
        for job_id in reversed(ids):
            await bench.kill(job_id)

    async def match() -> None:
        for _ in range(150):
            await bench.match(max_jobs=2)

    await asyncio.gather(kill(), match(), match())
    assert await bench.rows("SELECT DISTINCT status::text FROM jobs.job") == [("killed",)]
    assert await bench.rows("SELECT count(*) FROM jobs.running") == [(0,)]
    assert await bench.rows("SELECT count(*) FROM jobs.waiting") == [(0,)]


async def test_a_lost_job_waits_again_and_its_old_pilot_is_refused(bench: Workbench) -> None:
    old = await bench.running()
    assert await bench.run(service.expire_leases, datetime.now(UTC)) == []
    assert await bench.run(service.expire_leases, datetime.now(UTC) + LATER) == [old.job_id]
    assert (await bench.history(old.job_id))[-3:] == ["stalled", "rescheduled", "waiting"]
    [lost] = await bench.run(service.renew_leases, bench.pilot(), [Held(job_id=old.job_id, attempt=1)])
    assert lost.job_id == old.job_id
    [new] = await bench.match(pilot_id=2)
    assert new.attempt == 2
    chunk = LogChunk(job_id=old.job_id, attempt=1, stream=LogStream.STDOUT, position=0, data=b"x")
    with pytest.raises(StaleReport):
        await bench.run(service.append_log, bench.pilot(1), chunk)
    with pytest.raises(StaleReport):
        await bench.run(service.start_job, bench.pilot(1), old.job_id, 1)
    with pytest.raises(StaleReport):
        await bench.finish(old)
    with pytest.raises(StaleReport):
        await bench.finish(new, pilot_id=1)
    assert await bench.status(old.job_id) is JobStatus.MATCHED


async def test_a_dear_look_for_leases_that_are_over_is_followed_by_a_rest(bench: Workbench) -> None:
    job = await bench.running()
    await bench.rows("UPDATE jobs.running SET lease_expires_at = now() - interval '1 hour' RETURNING 1")
    await bench.rows(
        "INSERT INTO jobs.service_mark (marked_at, rest_until) VALUES (now(), now() + interval '1 min') RETURNING 1"
    )
    assert await bench.run(service.expire_leases_when_due) == []
    await bench.rows("UPDATE jobs.service_mark SET rest_until = '-infinity' RETURNING 1")

    async def dear(tx: Tx) -> list[int]:
        await execute(tx, "SELECT pg_sleep(0.15)")
        return await service.expire_leases_when_due(tx)

    assert await bench.run(dear) == [job.job_id]
    assert await bench.rows("SELECT rest_until > '-infinity' FROM jobs.service_mark") == [(True,)]


async def test_a_renewed_lease_does_not_expire(bench: Workbench) -> None:
    job = await bench.running()
    await bench.rows("UPDATE jobs.running SET lease_expires_at = now() - interval '1 hour' RETURNING 1")
    held = Held(job_id=job.job_id, attempt=1, cpu_s=3.0)
    assert await bench.run(service.renew_leases, bench.pilot(), [held]) == []
    assert await bench.run(service.expire_leases) == []


async def test_a_heartbeat_waits_for_no_report(bench: Workbench) -> None:
    """It holds the leases when it comes to the jobs, and a report holds the jobs when it comes to the leases."""
    reported, other = await bench.running(), await bench.running()
    await bench.rows("UPDATE jobs.job SET updated_at = now() - interval '61 seconds' RETURNING 1")
    held = [Held(job_id=job.job_id, attempt=job.attempt, cpu_s=3.0) for job in (reported, other)]
    async with asyncio.timeout(30), bench.db.transaction() as report:
        await store.lock_held_jobs(report, bench.pilot(), [(reported.job_id, reported.attempt)])
        async with bench.db.transaction() as beat:
            assert await service.renew_leases(beat, bench.pilot(), held) == []
        await service.finish_job(report, bench.pilot(), reported.job_id, FinishReport(attempt=1, exit_code=0))
    assert await bench.rows("SELECT status::text, cpu_s FROM jobs.job ORDER BY job_id") == [
        ("done", None), ("running", 3.0),
    ]  # fmt: skip


async def test_a_report_takes_leases_in_the_order_of_heartbeats(bench: Workbench) -> None:
    """Whatever the order in which it tells of the ends."""
    first, second = await bench.running(), await bench.running()
    ends = [EndReport(job_id=job.job_id, attempt=job.attempt, exit_code=0) for job in (second, first)]
    lock: LiteralString = "SELECT 1 FROM jobs.running WHERE job_id = %(job_id)s FOR UPDATE NOWAIT"
    async with asyncio.timeout(30), bench.db.transaction() as beat:
        await fetch_rows(beat, lock, {"job_id": first.job_id})
        reporting = asyncio.create_task(bench.run(service.take_reports, bench.pilot(), Reports(ended=ends)))
        await until(lambda: bench.rows("SELECT 1 FROM pg_locks WHERE NOT granted"))
        await fetch_rows(beat, lock, {"job_id": second.job_id})
    assert [answer.status for answer in (await reporting).ended] == [JobStatus.DONE, JobStatus.DONE]


async def test_too_many_losses_end_a_job(bench: Workbench) -> None:
    job_id = await bench.submit_one(echo(retries=Retries(site=1)))
    for number in (1, 2):
        await bench.match(pilot_id=number)
        await bench.run(service.release_jobs_of_pilot, number, "its node broke")
    assert await bench.status(job_id) is JobStatus.FAILED
    assert await bench.history(job_id) == [
        "waiting", "matched", "stalled", "rescheduled", "waiting", "matched", "stalled", "failed",
    ]  # fmt: skip


async def test_what_a_leaving_pilot_never_began_costs_no_retry(bench: Workbench) -> None:
    begun = await bench.running(echo(retries=Retries(site=0)))
    unbegun = await bench.submit_one(echo(retries=Retries(site=0)))
    await bench.match()
    back = await bench.run(service.give_back_jobs_of_pilot, bench.pilot(), "given back by its pilot: told to end")
    assert back == [begun.job_id, unbegun]
    assert await bench.status(begun.job_id) is JobStatus.FAILED
    assert await bench.history(unbegun) == ["waiting", "matched", "rescheduled", "waiting"]
    assert await bench.rows("SELECT count(*) FROM jobs.running") == [(0,)]
    assert [job.job_id for job in await bench.match(2)] == [unbegun]


async def test_a_job_that_every_pilot_leaves_without_beginning_ends_somewhere(bench: Workbench) -> None:
    job_id = await bench.submit_one(echo(retries=Retries(site=1)))
    for number in range(1, 13):
        assert await bench.match(number)
        await bench.run(service.give_back_jobs_of_pilot, bench.pilot(number), "told to end")
    assert await bench.status(job_id) is JobStatus.FAILED
    assert await bench.rows("SELECT status::text, count(*) FROM jobs.ended_attempt GROUP BY 1 ORDER BY 1") == [
        ("rescheduled", 10), ("stalled", 2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("report", "minor"),
    [
        ({"exit_code": 3}, "application finished with errors"),
        ({"exit_code": -9}, "application finished with errors"),
        ({"exit_code": None}, "application did not run"),
        ({"exit_code": None, "error": "wall time exceeded\nmore"}, "wall time exceeded"),
    ],
)
async def test_what_fails_says_why(bench: Workbench, report: dict[str, Any], minor: str) -> None:
    job = await bench.running(echo(retries=Retries(site=0)))
    assert await bench.finish(job, **report) is JobStatus.FAILED
    assert await bench.rows("SELECT minor_status FROM jobs.job") == [(minor,)]


async def test_the_same_end_twice_is_harmless(bench: Workbench) -> None:
    job = await bench.running()
    assert [await bench.finish(job), await bench.finish(job)] == [JobStatus.DONE] * 2
    assert await bench.history(job.job_id) == ["waiting", "matched", "running", "done"]


def produced(job: Assignment, **changes: object) -> OutputFile:
    [output] = job.output_data
    [place] = output.places
    known = {"lfn": output.lfn, "se": place.se, "pfn": place.pfn, "size_bytes": 3, "adler32": "024d0127"}
    return OutputFile(**{**known, **changes})  # type: ignore[arg-type]


WITH_OUTPUT = echo(
    output_data=[OutputData(path="out", lfn="/astro/out/{job_id}", se="local-se")], retries=Retries(data=0)
)


async def test_outputs_are_registered_with_the_end(bench: Workbench) -> None:
    job = await bench.running(WITH_OUTPUT)
    assert job.output_data[0].places[0].pfn.endswith(f";{job.job_id}.1")
    assert await bench.finish(job, outputs=[produced(job)]) is JobStatus.DONE
    [file] = await bench.run(catalog.stat_files, bench.world.ada, [f"/astro/out/{job.job_id}"])
    assert (file.owner, file.size_bytes, file.adler32) == ("ada", 3, "024d0127")
    assert await bench.rows("SELECT lfn FROM jobs.output_file") == [(f"/astro/out/{job.job_id}",)]


async def test_missing_output_data_fail_the_job(bench: Workbench) -> None:
    job = await bench.running(WITH_OUTPUT)
    assert await bench.finish(job) is JobStatus.FAILED
    assert await bench.rows("SELECT minor_status FROM jobs.job") == [("output data missing",)]
    [(reason,)] = await bench.rows("SELECT reason FROM jobs.job_history WHERE status = 'failed'")
    assert f"/astro/out/{job.job_id}" in reason


async def test_refused_output_data_fail_the_job_and_register_nothing(bench: Workbench) -> None:
    job = await bench.running(WITH_OUTPUT)
    await bench.finish(job, outputs=[produced(job)])
    # As if the file had been removed from the catalog and come back with other bytes.
    await bench.rows("DELETE FROM jobs.output_file RETURNING 1")
    await bench.reschedule(job.job_id)
    [again] = await bench.match()
    await bench.run(service.start_job, bench.pilot(), again.job_id, again.attempt)
    assert await bench.finish(again, outputs=[produced(again, size_bytes=4, adler32="00000001")]) is JobStatus.FAILED
    assert await bench.rows("SELECT minor_status FROM jobs.job") == [("output data refused",)]


@pytest.mark.parametrize("changes", [{"lfn": "/astro/other"}, {"se": "second-se"}, {"pfn": "astro/out/1"}], ids=str)
async def test_a_pilot_registers_nothing_but_what_was_asked_for(bench: Workbench, changes: dict[str, str]) -> None:
    job = await bench.running(WITH_OUTPUT)
    with pytest.raises(SpinorError) as caught:
        await bench.finish(job, outputs=[produced(job, **changes)])
    assert caught.value.code == "unwanted-output"


async def test_a_job_whose_input_vanished_fails_alone(bench: Workbench) -> None:
    await bench.submit(echo(parameters={"n": [1, 2]}))
    bad = await bench.submit_one()
    await bench.rows(
        """UPDATE jobs.job_array SET spec = (spec::jsonb || '{"input_data": ["/astro/gone"]}')::text
            WHERE array_id = (SELECT array_id FROM jobs.job WHERE job_id = %(bad)s) RETURNING 1""",
        bad=bad,
    )
    assert len(await bench.match(max_jobs=3)) == 2
    assert await bench.status(bad) is JobStatus.FAILED


async def test_demand_counts_what_waits(bench: Workbench) -> None:
    await bench.submit(echo(parameters={"n": [1, 2, 3]}), echo(cores=2))
    await bench.match(what=offer(cores=1))
    assert sorted((d.wants.cores, d.waiting) for d in await bench.run(service.demand)) == [(1, 2), (2, 1)]


async def test_what_runs_for_a_suspended_user_is_taken_from_its_pilot(bench: Workbench) -> None:
    job, waiting = await bench.running(), await bench.submit_one()
    assert await bench.run(service.interrupt_suspended) == []
    suspend = (
        "INSERT INTO identity.suspension (user_id, reason, suspended_by)"
        " SELECT owner_id, 'stolen key', 'test' FROM jobs.job WHERE job_id = %(job_id)s RETURNING 1"
    )
    await bench.rows(suspend, job_id=job.job_id)
    assert await bench.run(service.interrupt_suspended) == [job.job_id]
    assert await bench.status(job.job_id) is JobStatus.WAITING
    assert await bench.run(service.interrupt_suspended) == []
    assert await bench.match() == []
    await bench.rows("UPDATE identity.suspension SET lifted_at = now() RETURNING 1")
    assert {each.job_id for each in await bench.match(max_jobs=2)} == {job.job_id, waiting}
