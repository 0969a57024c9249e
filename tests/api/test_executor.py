"""concurrent.futures over jobs, on a real service."""

import asyncio
import math
from concurrent import futures
from typing import Any

import pytest

from spinor.api import CannotGo, CannotTravel, FunctionFailed, Grid, JobFailed, RemoteTraceback
from spinor.errors import BadInput
from tests.api.work.calls import broken, broken_otherwise, leaves, no_data, scaled, sleeps, waits

pytestmark = pytest.mark.acceptance


def test_calls_become_jobs_and_results_come_back(grid: Grid) -> None:
    with grid.executor(wall_s="10m", job_group="calls") as pool:
        one = pool.submit(scaled, 16, factor=5)
        many = pool.map(scaled, range(6), chunksize=2)
        later = pool.submit(waits, 1)
        assert one.result() == (4.0, 5)
        assert list(many) == [(math.sqrt(x), 3) for x in range(6)]
        assert later.result() == 2
        job = one.job()
    assert job.status == "done"
    found = grid.jobs.where("job_group=calls")
    # Calls of one function at one moment are one array, and two calls of six are one job.
    assert len(found) == 5
    assert len({row.array_id for row in found.rows}) == 2


def test_exceptions_come_back_with_where_they_came_from(grid: Grid) -> None:
    with grid.executor() as pool:
        calls: list[futures.Future[Any]] = [
            pool.submit(broken, 5),
            pool.submit(broken_otherwise),
            pool.submit(no_data),
            pool.submit(leaves),
        ]
        futures.wait(calls)
    with pytest.raises(ValueError, match="no such x") as caught:
        calls[0].result()
    assert caught.value.args == ("no such x", 5)
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert "in broken" in str(caught.value.__cause__)
    assert isinstance(calls[1].exception(), FunctionFailed)
    assert "Own: mine" in str(calls[1].exception())
    assert "builtins.object" in str(calls[2].exception())
    assert isinstance(calls[3].exception(), JobFailed)
    assert "exit code 7" in str(calls[3].exception())


def test_what_is_cancelled_is_killed(grid: Grid) -> None:
    with grid.executor() as pool:
        call = pool.submit(sleeps)
        job = call.job(60)
        assert call.cancel()
        assert call.cancelled()
        assert job.wait(60).status == "killed"
    pool = grid.executor()
    call = pool.submit(sleeps)
    job = call.job(60)
    pool.shutdown(cancel_futures=True)
    assert job.wait(60).status == "killed"
    with pytest.raises(RuntimeError, match="shutdown"):
        pool.submit(sleeps)


def test_what_cannot_go_is_said_at_once(grid: Grid) -> None:
    with grid.executor() as pool:
        with pytest.raises(CannotGo):
            pool.submit(lambda: 1)
        with pytest.raises(CannotTravel, match="value"):
            pool.submit(scaled, object())  # type: ignore[call-overload]
    with pytest.raises(BadInput, match="executable"):
        grid.executor(executable="sh")


def test_a_description_that_is_refused_is_the_error_of_the_calls(grid: Grid) -> None:
    with grid.executor(sites=["nowhere"]) as pool:
        assert "nowhere" in str(pool.submit(scaled, 1).exception(60))


async def test_it_is_an_executor_of_asyncio_too(grid: Grid) -> None:
    with grid.executor() as pool:
        loop = asyncio.get_running_loop()
        found = await asyncio.gather(*(loop.run_in_executor(pool, scaled, x) for x in (1, 4)))
    assert found == [(1.0, 3), (2.0, 3)]
