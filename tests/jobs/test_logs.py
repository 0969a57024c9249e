"""Logs: positions make a repeat harmless, a gap is refused, and a limit ends them with a clear last line."""

import asyncio
import hashlib
from pathlib import Path

import pytest

from spinor.blobs import Blobs, Directory
from spinor.jobs import service
from spinor.jobs.logs import rules
from spinor.jobs.logs.keeping import keep_logs
from spinor.jobs.logs.service import LogGap, read_tail
from spinor.jobs.models import Assignment, LogChunk, LogPart, LogQuery, LogStream
from tests.asgi import Http

from .workbench import Workbench, echo

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


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size_bytes in (("HEAD_BYTES", 100), ("TAIL_BYTES", 50), ("MAX_CHUNK_BYTES", 20), ("FRAME_BYTES", 16)):
        monkeypatch.setattr(rules, name, size_bytes)


LONG = b"".join(b"%09d\n" % n for n in range(100))


async def write_long(bench: Workbench, job: Assignment) -> None:
    for start in range(0, len(LONG), 20):
        assert await append(bench, job, start, LONG[start : start + 20]) == start + 20


async def test_a_long_log_keeps_its_head_and_its_tail_and_says_the_gap(bench: Workbench, small: None) -> None:
    job = await bench.running()
    await write_long(bench, job)
    part = await read(bench, job)
    head, said, tail = part.data.partition(rules.notice(0).split(b"0 bytes")[0])
    assert head == LONG[:100]
    assert said
    assert part.position == len(LONG)
    kept = tail.rpartition(b"]\n")[2]
    assert 50 <= len(kept) <= 70
    assert LONG.endswith(kept)
    assert f"{len(LONG) - 100 - len(kept)} bytes are left out".encode() in part.data
    # From within the gap, and from beyond it.
    assert (await read(bench, job, 500)).data.endswith(kept)
    assert (await read(bench, job, len(LONG) - 7)).data == LONG[-7:]
    [(size_bytes,)] = await bench.rows("SELECT sum(octet_length(data))::integer FROM jobs.job_log")
    assert size_bytes <= 170


async def test_a_pilot_may_leave_out_the_middle_but_nothing_of_the_head(bench: Workbench, small: None) -> None:
    job = await bench.running()
    with pytest.raises(LogGap):
        await append(bench, job, 5, b"x")
    for start in range(0, 100, 20):
        await append(bench, job, start, LONG[start : start + 20])
    assert await append(bench, job, 900, LONG[900:920]) == 920
    part = await read(bench, job)
    assert part.data == LONG[:100] + rules.notice(800) + LONG[900:920]
    assert part.position == 920


async def test_a_chunk_over_the_end_of_the_head_is_kept_whole(bench: Workbench, small: None) -> None:
    job = await bench.running()
    for start in range(0, 162, 18):
        await append(bench, job, start, LONG[start : start + 18])
    assert (await read(bench, job)).data == LONG[:162]


@pytest.mark.parametrize("length", [0, 5, 16, 99, 100, 101, 150, 1000])
async def test_a_kept_log_reads_the_same(bench: Workbench, tmp_path: Path, small: None, length: int) -> None:
    blobs = Blobs(Directory(tmp_path / "blobs"), tmp_path / "spool")
    job = await bench.running()
    for start in range(0, length, 20):
        await append(bench, job, start, LONG[start : min(start + 20, length)])
    await bench.finish(job)
    positions = (0, 3, 16, 99, 100, 101, 140, 500, 951, 999, 1000)
    before = [(await whole(bench, blobs, job, position)) for position in positions]
    assert await keep_logs(bench.db, blobs) == (1 if length else 0)
    assert await bench.rows("SELECT count(*) FROM jobs.job_log") == [(0,)]
    assert [(await whole(bench, blobs, job, position)) for position in positions] == before
    tail = await bench.run(read_tail, bench.world.ada, job.job_id, job.attempt, LogStream.STDOUT)
    assert tail.endswith(LONG[:length][-50:])


async def whole(bench: Workbench, blobs: Blobs, job: Assignment, position: int) -> tuple[bytes, int]:
    data = b""
    while True:
        query = LogQuery(position=position, attempt=job.attempt)
        part = await service.read_log(bench.db, blobs, bench.world.ada, job.job_id, query)
        data, position = data + part.data, part.position
        if part.ended and not part.data:
            return data, position


async def test_the_chore_leaves_what_runs_and_keeps_many_at_once(bench: Workbench, tmp_path: Path) -> None:
    blobs = Blobs(Directory(tmp_path / "blobs"), tmp_path / "spool")
    await bench.submit(*(echo() for _ in range(4)))
    jobs = await bench.match(max_jobs=4)
    for job in jobs:
        await bench.run(service.start_job, bench.pilot(), job.job_id, job.attempt)
        await append(bench, job, 0, b"log of %d" % job.job_id)
    for job in jobs[1:]:
        await bench.finish(job)
    large = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(20_000))
    await append(bench, jobs[0], 8, b"more")
    assert await keep_logs(bench.db, blobs) == 3
    assert await keep_logs(bench.db, blobs) == 0
    for job in jobs[1:]:
        assert (await whole(bench, blobs, job, 0))[0] == b"log of %d" % job.job_id
    await append(bench, jobs[0], 12, large)
    await bench.finish(jobs[0])
    assert await keep_logs(bench.db, blobs) == 1
    assert (await whole(bench, blobs, jobs[0], 0))[0] == b"log of %dmore" % jobs[0].job_id + large
    assert [path.name for path in (tmp_path / "blobs").rglob("*.stdout")] == [f"{jobs[0].job_id}.1.stdout"]


async def test_no_browser_takes_a_log_for_a_page(bench: Workbench, http: Http) -> None:
    job = await bench.running()
    await append(bench, job, 0, b"<script>alert(1)</script>")
    answer = await http(bench.world.ada, "GET", f"/api/jobs/{job.job_id}/log")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"
