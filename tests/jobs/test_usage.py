"""Use over time: as many points for a minute as for a month, and none that anybody else could have made."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinor.jobs import service
from spinor.jobs.cli.usage import braille, plots
from spinor.jobs.models import ErrorClass, Held, Usage
from spinor.jobs.usage import rules
from tests.asgi import Http

from .workbench import Workbench, echo


def held(job_id: int, attempt: int, wall_s: float) -> Held:
    return Held(
        job_id=job_id, attempt=attempt, wall_s=wall_s, cpu_s=wall_s / 2, rss_bytes=1000, disk_bytes=2000,
        read_bytes=int(wall_s), written_bytes=7, max_rss_bytes=1500,
    )  # fmt: skip


async def beat(bench: Workbench, *given: Held, pilot_id: int = 1) -> None:
    await bench.run(service.renew_leases, bench.pilot(pilot_id), given)


async def test_a_beat_is_a_point_and_the_next_one_soon_after_is_not(bench: Workbench, http: Http) -> None:
    job = await bench.running(echo(cores=2, memory_bytes="2GB", disk_bytes="3GB"))
    for wall_s in (1.0, 11.0, 21.0, 31.0, 41.0):
        await beat(bench, held(job.job_id, job.attempt, wall_s))
    found = (await http(bench.world.ada, "GET", f"/api/jobs/{job.job_id}/usage")).json
    assert [point["wall_s"] for point in found["points"]] == [1.0, 31.0]
    assert (found["memory_bytes"], found["disk_bytes"], found["cores"]) == (2 * 10**9, 3 * 10**9, 2)
    point = found["points"][1]
    assert (point["cpu_s"], point["rss_bytes"], point["disk_bytes"]) == (15.5, 1000, 2000)
    assert (point["read_bytes"], point["written_bytes"]) == (31, 7)


@pytest.mark.parametrize("hours", [0.1, 2, 50, 400])
async def test_however_long_it_runs_the_points_are_bounded_and_even(bench: Workbench, hours: float) -> None:
    job = await bench.running()
    period_s = 15.0
    for n in range(int(hours * 3600 / period_s)):
        each = held(job.job_id, job.attempt, 3.0 + n * period_s)
        if rules.points([each]):  # The others cost nothing, and would take the test a while.
            await beat(bench, each)
    points = (await bench.run(service.usage, bench.world.ada, job.job_id)).points
    assert len(points) <= rules.POINTS + 1
    assert len(points) >= min(hours * 3600 / 30 - 2, 90)
    steps = [after.wall_s - before.wall_s for before, after in itertools.pairwise(points)]
    assert max(steps) <= 2 * min(steps) + 2 * period_s


@given(st.floats(min_value=0, max_value=3 * 365 * 86_400))
def test_a_slot_never_gets_so_narrow_that_there_are_too_many(wall_s: float) -> None:
    width = rules.slot_width_s(wall_s)
    assert wall_s / width < rules.POINTS
    assert width == rules.SLOT_S or wall_s / width >= rules.POINTS / 2 - 1


async def test_only_the_pilot_that_holds_the_attempt_makes_points(bench: Workbench) -> None:
    job = await bench.running()
    await beat(bench, held(job.job_id, job.attempt, 1.0), pilot_id=2)
    await beat(bench, held(job.job_id, job.attempt + 1, 1.0))
    assert (await bench.run(service.usage, bench.world.ada, job.job_id)).points == []
    await beat(bench, held(job.job_id, job.attempt, 1.0))
    assert len((await bench.run(service.usage, bench.world.ada, job.job_id)).points) == 1


async def test_each_attempt_has_its_own_points_until_they_are_forgotten(bench: Workbench, http: Http) -> None:
    job = await bench.running()
    await beat(bench, held(job.job_id, job.attempt, 1.0))
    await bench.run(service.release_jobs_of_pilot, 1, "gone")
    [again] = await bench.match(2)
    await bench.run(service.start_job, bench.pilot(2), again.job_id, again.attempt)
    await beat(bench, held(again.job_id, again.attempt, 2.0), pilot_id=2)
    path = f"/api/jobs/{job.job_id}/usage"
    assert [point["wall_s"] for point in (await http(bench.world.ada, "GET", path)).json["points"]] == [2.0]
    assert [point["wall_s"] for point in (await http(bench.world.ada, "GET", f"{path}?attempt=1")).json["points"]] == [
        1
    ]
    assert (await http(bench.world.bea, "GET", path)).status == 404
    assert await service.forget_usage(bench.db) == 0
    assert await service.forget_usage(bench.db, datetime.now(UTC) + timedelta(days=91)) == 2


async def test_every_attempt_is_told_with_its_place_and_end(bench: Workbench, http: Http) -> None:
    job = await bench.running(echo(cores=2))
    path = f"/api/jobs/{job.job_id}/attempts"
    [running] = (await http(bench.world.ada, "GET", path)).json
    assert (running["attempt"], running["status"], running["ended_at"], running["cores"]) == (1, "running", None, 2)
    assert (running["pilot_id"], running["site"]) == (1, "LOCAL")
    await bench.run(service.release_jobs_of_pilot, 1, "gone")
    [again] = await bench.match(2)
    await bench.run(service.start_job, bench.pilot(2), again.job_id, again.attempt)
    await bench.finish(again, 2, exit_code=3, error_class=ErrorClass.PAYLOAD, cpu_s=1.5, wall_s=2.5)
    first, second = (await http(bench.world.ada, "GET", path)).json
    assert (first["attempt"], first["status"], first["error_class"]) == (1, "stalled", "site")
    assert (second["status"], second["error_class"], second["exit_code"]) == ("failed", "payload", 3)
    assert (second["cpu_s"], second["wall_s"]) == (1.5, 2.5)
    assert second["ended_at"] is not None
    assert (await http(bench.world.bea, "GET", path)).status == 404


async def test_a_plot_draws_what_was_measured(bench: Workbench) -> None:
    assert braille([0, 1, 2, 3], [0, 1, 2, 4], width=2, height=1) == ["⢀⣼"]
    job = await bench.running(echo(memory_bytes="2GB"))
    for wall_s in (1.0, 31.0, 61.0):
        await beat(bench, held(job.job_id, job.attempt, wall_s))
    found: Usage = await bench.run(service.usage, bench.world.ada, job.job_id)
    lines = plots(found)
    assert lines[0] == "cores in use (of 1), at most 0.5"
    assert any(line.startswith("memory (of 2 GB), at most 1 kB") for line in lines)
    assert lines[-1].endswith("1m01s")
