"""How jobs went of late: exact sums, by a field and altogether."""

from typing import Any

from spinor.jobs import service
from spinor.jobs.cli.overview import sentence
from spinor.jobs.models import CountedBy, JobStatistics, Retries, StatisticsQuery, StatisticsRow
from tests.asgi import Http

from .workbench import Workbench, echo


async def ask(bench: Workbench, **asked: object) -> JobStatistics:
    return await bench.run(service.job_statistics, bench.world.ada, StatisticsQuery(**asked))  # type: ignore[arg-type]


async def ended(bench: Workbench, **report: Any) -> None:
    await bench.finish(await bench.running(echo(cores=2)), **report)


async def test_what_ended_is_summed_with_what_waits_and_runs(bench: Workbench) -> None:
    await ended(bench, wall_s=100.0, cpu_s=150.0, max_rss_bytes=7)
    await ended(bench, wall_s=300.0, cpu_s=50.0, max_rss_bytes=9)
    await ended(bench, exit_code=3, wall_s=100.0, cpu_s=0.0)
    await bench.running()
    await bench.submit_one()
    await bench.submit_one(caller=bench.world.alan)
    found = await ask(bench)
    total = found.total
    assert (total.waiting, total.running, total.done, total.failed, total.killed) == (2, 1, 2, 1, 0)
    assert (total.cpu_s, total.core_s, total.max_rss_bytes) == (200.0, 1000.0, 9)
    assert (total.efficiency, total.success, total.wall_s) == (0.2, 2 / 3, 200.0)
    assert total.waited_s is not None
    assert {row.value: (row.waiting, row.done) for row in found.rows} == {"LOCAL": (0, 2), None: (2, 0)}
    (failure,) = found.failures
    assert (failure.error_class, failure.exit_code, failure.attempts) == ("payload", 3, 1)


async def test_of_one_owner_of_one_vo_and_of_late(bench: Workbench) -> None:
    await ended(bench, wall_s=10.0, cpu_s=1.0)
    await bench.submit_one(caller=bench.world.alan)
    alan = await ask(bench, owner="alan", by=CountedBy.OWNER)
    assert [(row.value, row.waiting, row.done) for row in alan.rows] == [("alan", 1, 0)]
    both = await ask(bench, by=CountedBy.OWNER)
    assert {row.value for row in both.rows} == {"ada", "alan"}
    bea = await bench.run(service.job_statistics, bench.world.bea, StatisticsQuery())
    assert (bea.rows, bea.total.waiting, bea.failures) == ([], 0, [])
    await bench.rows("UPDATE jobs.ended_attempt SET ended_at = now() - interval '2 hours' RETURNING 1")
    assert (await ask(bench, last_s=3600)).total.done == 0
    assert (await ask(bench, last_s=10_000)).total.done == 1


async def test_an_attempt_that_was_followed_by_another_is_no_failed_job(bench: Workbench) -> None:
    job = await bench.running(echo(retries=Retries(payload=1)))
    await bench.finish(job, exit_code=3, wall_s=1.0)
    total = (await ask(bench)).total
    assert (total.waiting, total.failed, total.retried, total.success) == (1, 0, 1, None)


async def test_over_http(bench: Workbench, http: Http) -> None:
    answer = await http(bench.world.ada, "GET", "/api/jobs/statistics?by=group&last_s=600")
    assert (answer.status, answer.json["rows"], answer.json["total"]["done"]) == (200, [], 0)


def test_the_sentence() -> None:
    row = StatisticsRow(value=None, waiting=1200, running=3, done=4, failed=5)
    assert sentence(row, 3600) == "1,200 waiting, 3 running; in the last 1h00m: 4 done, 5 failed, 0 killed"
