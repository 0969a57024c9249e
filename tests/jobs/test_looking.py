"""Lists, counts, waiting, and the answer to "why?"."""

import asyncio
import time

import pytest

from spinor.errors import SpinorError
from spinor.jobs import service
from spinor.jobs.looking import service as looking
from spinor.jobs.models import JobIds, LogChunk, LogStream, Retries, SummariseJobs
from spinor.search.models import Search
from tests.asgi import Http

from .workbench import Workbench, echo


async def test_lists_are_paged_from_the_newest(bench: Workbench) -> None:
    ids = (await bench.submit(echo(name="many", parameters={"n": list(range(25))}))).arrays[0].ids
    found: list[int] = []
    after = None
    while True:
        page = await bench.run(service.search_jobs, bench.world.ada, Search(limit=10, after=after))
        found += [row["job_id"] for row in page.rows]
        after = page.next
        if after is None:
            break
    assert found == ids[::-1]


@pytest.mark.parametrize(
    ("where", "count"),
    [
        ("", 4),
        ("status=waiting", 3),
        ("status=matched site=LOCAL attempt=1", 1),
        ("owner=alan", 1),
        ("group=astro_users", 4),
        ("name=a*", 3),
        ("array_index=2", 1),
        ("submitted>-1h exists started", 0),
        ("missing exit_code", 4),
    ],
)
async def test_filters(bench: Workbench, where: str, count: int) -> None:
    await bench.submit(echo(name="abc", parameters={"n": [1, 2, 3]}))
    await bench.submit(echo(name="z"), caller=bench.world.alan)
    await bench.match()
    page = await bench.run(service.search_jobs, bench.world.ada, Search(where=where))
    assert len(page.rows) == count
    summary = await bench.run(service.summarise_jobs, bench.world.ada, SummariseJobs(where=where))
    assert summary.total == count


async def test_every_field_can_be_shown_sorted_and_summed_as_declared(bench: Workbench) -> None:
    await bench.finish(await bench.running(), wall_s=1.5)
    for name in looking.FIELDS.names:
        page = await bench.run(service.search_jobs, bench.world.ada, Search(sort=[name], fields=[name]))
        assert list(page.rows[0]) == [name]
    summary = await bench.run(service.summarise_jobs, bench.world.ada, SummariseJobs(by=["status", "site", "owner"]))
    assert summary.groups == [{"status": "done", "site": "LOCAL", "owner": "ada", "count": 1}]


async def test_a_bad_filter_is_explained(bench: Workbench) -> None:
    with pytest.raises(SpinorError, match="status"):
        await bench.run(service.search_jobs, bench.world.ada, Search(where="stauts=failed"))


async def test_waiting_ends_with_the_jobs(bench: Workbench, http: Http) -> None:
    job = await bench.running()
    path, ids = "/api/jobs/wait", {"job_ids": [job.job_id]}
    early = await http(bench.world.ada, "POST", path, {**ids, "wait_s": 0})
    assert early.json == {"counts": {"running": 1}, "total": 1, "ended": 0, "all_ended": False}
    changed = await http(bench.world.ada, "POST", path, {**ids, "wait_s": 30, "seen": {"waiting": 1}})
    assert changed.json["counts"] == {"running": 1}
    started = time.monotonic()
    waiting = asyncio.create_task(http(bench.world.ada, "POST", path, {**ids, "wait_s": 30}))
    await asyncio.sleep(0.2)
    await bench.finish(job, exit_code=1)
    assert (await waiting).json == {"counts": {"failed": 1}, "total": 1, "ended": 1, "all_ended": True}
    assert time.monotonic() - started < 5


async def test_unknown_ids_are_not_waited_for(bench: Workbench) -> None:
    with pytest.raises(SpinorError, match="no job 7, 8"):
        await bench.run(service.arrays_of, bench.world.ada, JobIds(job_ids=[7, 8]))
    with pytest.raises(SpinorError, match="no array 7"):
        await bench.run(service.arrays_of, bench.world.ada, JobIds(array_ids=[7]))


async def told(bench: Workbench, job_id: int) -> str:
    return "\n".join((await bench.run(service.explain_job, bench.world.ada, job_id)).sentences)


async def test_a_waiting_job_is_explained(bench: Workbench) -> None:
    await bench.submit(echo(parameters={"n": [1, 2]}), echo(cores=2, priority=9))
    text = await told(bench, await bench.submit_one())
    assert "waits for a pilot" in text
    assert "Before it go 2 jobs of the same requirements, and 1 job in 1 other task queue of ada." in text
    assert "It can run on local-ce (site LOCAL)." in text
    assert "No pilot of VO astro is alive" in text


async def test_each_constraint_that_excludes_is_named(bench: Workbench) -> None:
    text = await told(bench, await bench.submit_one(echo(cores=64, memory_bytes="1TB", tags=["gpu"])))
    assert "cores: the job asks for 64, here are 2" in text
    assert "memory_bytes: the job asks for 1,000,000,000,000" in text
    assert "tags: gpu not offered here" in text
    assert "submit it again with another value of cores, memory_bytes or tags" in text


async def test_a_failed_job_is_explained(bench: Workbench) -> None:
    job = await bench.running(echo(retries=Retries(site=5)))
    await bench.run(service.release_jobs_of_pilot, 1, "its node broke")
    [job] = await bench.match()
    await bench.run(service.start_job, bench.pilot(), job.job_id, 2)
    for stream, data in ((LogStream.STDOUT, b"fine\n"), (LogStream.STDERR, b"x\n" * 5000 + b"nearly\n")):
        chunk = LogChunk(job_id=job.job_id, attempt=2, stream=stream, position=0, data=data)
        await bench.run(service.append_log, bench.pilot(), chunk)
    await bench.finish(job, exit_code=3)
    explanation = await bench.run(service.explain_job, bench.world.ada, job.job_id)
    text = "\n".join(explanation.sentences)
    assert "exit code 3" in text
    assert "nearly" in text
    assert "Attempt 1 ended stalled: pilot lost (its node broke)." in text
    assert explanation.facts["exit_code"] == 3
    assert len(explanation.facts["stderr_tail"]) == 10


async def test_every_other_state_has_its_sentence(bench: Workbench) -> None:
    job = await bench.running()
    assert "runs since" in await told(bench, job.job_id)
    await bench.kill(job.job_id)
    assert "was killed by ada" in await told(bench, job.job_id)
    await bench.reschedule(job.job_id)
    assert "Attempt 1 ended killed" in await told(bench, job.job_id)
    [again] = await bench.match()
    assert "was given to pilot 1 at site LOCAL" in await told(bench, job.job_id)
    await bench.finish(again)
    assert "ended well" in await told(bench, job.job_id)
