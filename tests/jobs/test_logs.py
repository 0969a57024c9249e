"""Logs: positions make a repeat harmless, a gap is refused, and a limit ends them with a clear last line."""

import asyncio
from pathlib import Path

import pytest

from spinor.blobs import Blobs, Directory
from spinor.jobs import service
from spinor.jobs.logs.service import LogGap
from spinor.jobs.models import Assignment, LogChunk, LogPart, LogQuery, LogStream
from tests.asgi import Http

from .workbench import Workbench

NO_BLOBS = Blobs(Directory(Path("/nowhere")), Path("/nowhere"))  # Small logs need none.


async def append(bench: Workbench, job: Assignment, position: int, data: bytes) -> int:
    chunk = LogChunk(job_id=job.job_id, attempt=job.attempt, stream=LogStream.STDOUT, position=position, data=data)
    return await bench.run(service.append_log, bench.pilot(), chunk)


async def read(bench: Workbench, job: Assignment, position: int = 0, attempt: int | None = None) -> LogPart:
    query = LogQuery(position=position, attempt=attempt)
    return await service.read_log(bench.db, NO_BLOBS, bench.world.ada, job.job_id, query)


async def test_what_is_appended_is_read_from_any_position(bench: Workbench) -> None:
    job = await bench.running()
    data = bytes(range(256)) * 4
    for start in range(0, len(data), 100):
        assert await append(bench, job, start, data[start : start + 100]) == min(start + 100, len(data))
    for position in (0, 1, 99, 100, 101, 1023, 1024):
        part = await read(bench, job, position)
        assert (part.data, part.position, part.ended) == (data[position:], 1024, False)


async def test_a_repeat_is_harmless_and_a_gap_is_refused(bench: Workbench) -> None:
    job = await bench.running()
    assert await append(bench, job, 0, b"abc") == 3
    assert await append(bench, job, 0, b"abc") == 3
    assert await append(bench, job, 1, b"bcde") == 5
    with pytest.raises(LogGap) as caught:
        await append(bench, job, 6, b"x")
    assert caught.value.facts["position"] == 5
    assert (await read(bench, job)).data == b"abcde"


async def test_the_same_chunk_side_by_side_is_kept_once(bench: Workbench) -> None:
    job = await bench.running()
    assert await asyncio.gather(*(append(bench, job, 0, b"twice") for _ in range(6))) == [5] * 6
    assert (await read(bench, job)).data == b"twice"


async def test_a_log_is_read_while_it_is_written_and_after(bench: Workbench, http: Http) -> None:
    job = await bench.running()
    await append(bench, job, 0, b"first")
    path = f"/api/jobs/{job.job_id}/log?position=5&wait_s=10"
    waiting = asyncio.create_task(http(bench.world.ada, "GET", path))
    await asyncio.sleep(0.1)
    await append(bench, job, 5, b" second")
    answer = await waiting
    assert (answer.body, answer.headers["x-spinor-position"], answer.headers["x-spinor-ended"]) == (
        b" second", "12", "false",
    )  # fmt: skip
    await bench.finish(job)
    answer = await http(bench.world.ada, "GET", f"/api/jobs/{job.job_id}/log?position=12&wait_s=10")
    assert (answer.body, answer.headers["x-spinor-attempt"], answer.headers["x-spinor-ended"]) == (b"", "1", "true")


async def test_each_attempt_keeps_its_log(bench: Workbench) -> None:
    job = await bench.running()
    await append(bench, job, 0, b"one")
    await bench.run(service.release_jobs_of_pilot, 1, "gone")
    assert (await read(bench, job)).ended is False
    [again] = await bench.match()
    await append(bench, again, 0, b"two")
    assert (await read(bench, job)).data == b"two"
    assert (await read(bench, job, attempt=1)).data == b"one"
    assert (await read(bench, job, attempt=1)).ended is True
