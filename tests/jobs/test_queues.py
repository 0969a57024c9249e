"""Task queues as people see them."""

import pytest

from spinor.jobs import service
from spinor.jobs.cli.queues import wanted
from spinor.jobs.errors import UnknownJob
from spinor.jobs.models import Requirements, TaskQueuePage, TaskQueueQuery
from tests.asgi import Http

from .workbench import Workbench, echo


async def ask(bench: Workbench, **asked: object) -> TaskQueuePage:
    return await bench.run(service.task_queues, bench.world.ada, TaskQueueQuery(**asked))  # type: ignore[arg-type]


async def test_queues_are_told_with_exact_counts_and_their_oldest_job(bench: Workbench) -> None:
    (low,) = (await bench.submit(echo(parameters={"n": [1, 2, 3]}, priority=2))).arrays
    urgent = await bench.submit_one(echo(priority=8))
    await bench.submit_one(echo(sites=["LOCAL"], memory_bytes="2GB"), caller=bench.world.alan)
    first, second = (await ask(bench)).rows
    assert (first.owner, first.group, first.waiting, first.running, first.priority) == ("ada", "astro_users", 4, 0, 8)
    assert (first.next_job_id, first.oldest_job_id) == (urgent, low.ids[0])
    assert first.oldest_at is not None
    assert (second.owner, second.wants.sites, second.wants.memory_bytes) == ("alan", ["LOCAL"], 2 * 10**9)
    (job,) = await bench.match()
    assert job.job_id == urgent
    first = (await ask(bench, owner="ada")).rows[0]
    assert (first.waiting, first.running, first.priority, first.cores) == (3, 1, 2, 1)


async def test_filters_and_pages(bench: Workbench) -> None:
    one = await bench.submit_one(echo(sites=["LOCAL"]))
    await bench.submit_one(echo(banned_sites=["LOCAL"], wall_s=77))
    await bench.submit_one(echo(), caller=bench.world.alan)
    assert len((await ask(bench)).rows) == 3
    assert [row.owner for row in (await ask(bench, owner="alan")).rows] == ["alan"]
    assert len((await ask(bench, site="LOCAL")).rows) == 2
    assert (await ask(bench, group="nobody")).rows == []
    (of_job,) = (await ask(bench, job_id=one)).rows
    assert of_job.wants.sites == ["LOCAL"]
    page = await ask(bench, limit=2)
    assert len(page.rows) == 2
    assert page.next is not None
    rest = await ask(bench, limit=2, after=page.next)
    assert (len(rest.rows), rest.next) == (1, None)
    # What has been taken is a queue no more, but that of a job is told all the same.
    await bench.kill(one)
    assert len((await ask(bench)).rows) == 2
    assert (await ask(bench, job_id=one)).rows[0].waiting == 0
    with pytest.raises(UnknownJob):
        await ask(bench, job_id=999_999)


async def test_another_vos_queues_are_not_told(bench: Workbench) -> None:
    job_id = await bench.submit_one()
    page = await bench.run(service.task_queues, bench.world.bea, TaskQueueQuery())
    assert page.rows == []
    with pytest.raises(UnknownJob):
        await bench.run(service.task_queues, bench.world.bea, TaskQueueQuery(job_id=job_id))


async def test_over_http(bench: Workbench, http: Http) -> None:
    await bench.submit_one()
    answer = await http(bench.world.ada, "GET", "/api/task-queues?owner=ada&limit=1")
    assert answer.status == 200
    assert answer.json["rows"][0]["waiting"] == 1


def test_what_is_wanted_is_told_in_the_words_of_a_description() -> None:
    wants = Requirements(vo_id=1, owner_id=2, group_id=3, cores=4, max_cores=4, sites=["A", "B"], memory_bytes=10**9)
    assert wanted(wants) == "cores=4 memory_bytes=1 GB sites=A,B"
