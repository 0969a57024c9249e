"""Payloads that leave more behind than is kept: the job goes on, and what is missing is told."""

from spinor.blobs import Blobs
from spinor.jobs import service as jobs
from spinor.jobs.logs.keeping import keep_logs
from spinor.jobs.logs.rules import HEAD_BYTES, TAIL_BYTES
from spinor.jobs.models import JobStatus, LogQuery
from spinor.pilots.chores import submit_pilots

from .conftest import Site
from .test_running import pilots, script

__all__ = ["pilots"]
ENDED = (JobStatus.DONE, JobStatus.FAILED, JobStatus.KILLED)


async def test_an_output_sandbox_that_is_refused_leaves_the_job_as_it_is(pilots: Site) -> None:
    site, ada = pilots, pilots.world.ada
    async with site.context.db.transaction() as tx:
        await tx.execute("UPDATE configuration.sandbox_limits SET limit_bytes = 50000")
    (job_id,) = await site.submit(ada, script("head -c 100000 /dev/zero >large.bin; exit 0", output_sandbox=["*.bin"]))
    await submit_pilots(site.context, {})
    job = await site.until_job(ada, job_id, *ENDED, timeout_s=60)
    assert (job.status, job.exit_code, job.output_sandbox) == (JobStatus.DONE, 0, None)
    async with site.context.db.transaction() as tx:
        history = await jobs.job_history(tx, ada, job_id)
        [attempt] = await jobs.attempts(tx, ada, job_id)
    [told] = [entry for entry in history if entry.minor_status == "output sandbox refused"]
    assert "one may have 50 kB" in told.reason
    assert attempt.output_refused == told.reason


async def test_a_log_that_is_too_long_keeps_its_beginning_and_its_end(pilots: Site) -> None:
    site, ada = pilots, pilots.world.ada
    size_bytes = 3 * (HEAD_BYTES + TAIL_BYTES)
    (job_id,) = await site.submit(ada, script(f"echo begun; head -c {size_bytes} /dev/zero | tr '\\0' x; echo ended"))
    await submit_pilots(site.context, {})
    job = await site.until_job(ada, job_id, *ENDED, timeout_s=120)
    assert job.status is JobStatus.DONE
    blobs = Blobs.of(site.context.settings)
    [(stored,)] = await _rows(site, "SELECT sum(octet_length(data))::bigint FROM jobs.job_log")
    assert HEAD_BYTES + TAIL_BYTES <= stored <= HEAD_BYTES + TAIL_BYTES + 3 * 1024**2
    for _ in range(2):
        data, position, ended = b"", 0, False
        while not ended:
            part = await jobs.read_log(site.context.db, blobs, ada, job_id, LogQuery(position=position))
            data, position, ended = data + part.data, part.position, part.ended and not part.data
        assert position == size_bytes + len("begun\n" + "ended\n")
        assert data.startswith(b"begun\nxxx")
        assert data.endswith(b"xxxended\n")
        assert data.count(b"bytes are left out here") == 1
        await keep_logs(site.context.db, blobs)  # And the same once more.
    assert await _rows(site, "SELECT count(*) FROM jobs.job_log") == [(0,)]


async def _rows(site: Site, query: str) -> list[tuple[int, ...]]:
    async with site.context.db.transaction() as tx:
        return await (await tx.execute(query.encode())).fetchall()
