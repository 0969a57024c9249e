"""Sandboxes and data of real payloads: fetched, verified, uploaded, registered once."""

import io
import tarfile
from collections.abc import AsyncIterator

from spinor.blobs import Blobs
from spinor.catalog import service as catalog
from spinor.errors import NotFound
from spinor.jobs import service as jobs
from spinor.jobs.models import JobSpec, JobStatus, OutputData, Retries
from spinor.jobs.sandboxes.store import Owner
from spinor.pilots.chores import submit_pilots
from spinor.types import LFN

from .conftest import Site, until
from .test_running import ENDED, pilots, script

__all__ = ["pilots"]


def packed(name: str, text: str) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(text.encode())
        archive.addfile(member, io.BytesIO(text.encode()))
    return target.getvalue()


async def body(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def test_data_goes_in_and_out(pilots: Site) -> None:
    site, ada = pilots, pilots.world.ada
    archive = packed("analyse.sh", "#!/bin/sh\necho result of $1 >'r é.txt'\n")
    blobs = Blobs.of(site.context.settings)
    sandbox = await jobs.receive_sandbox(site.context.db, blobs, Owner(ada.vo_id, ada.user_id), body(archive))
    lfn = "/astro/run/r é.txt"
    (first,) = await site.submit(
        ada,
        JobSpec(
            executable="./analyse.sh",
            arguments=["{job_id}"],
            input_sandboxes=[sandbox.sandbox_id],
            output_data=[OutputData(path="r é.txt", lfn=lfn, se="local-se")],
        ),
    )
    await submit_pilots(site.context, {})
    job = await site.until_job(ada, first, *ENDED)
    assert job.status is JobStatus.DONE, job.minor_status
    async with site.context.db.transaction() as tx:
        (stat,) = await catalog.stat_files(tx, ada, [LFN(lfn)])
    assert stat.size_bytes == len(f"result of {first}\n")
    (second,) = await site.submit(ada, script("cat 'r é.txt'; cat $SPINOR_INPUTS", input_data=[lfn]))
    assert (await site.until_job(ada, second, *ENDED)).status is JobStatus.DONE
    text = await site.log(second)
    assert text.startswith(f"result of {first}\n")
    assert '"lfn"' in text


async def test_an_lfn_that_is_taken_fails_the_job_and_leaves_no_bytes(pilots: Site) -> None:
    site, ada = pilots, pilots.world.ada
    output = [OutputData(path="x", lfn="/astro/x", se="local-se")]
    (first,) = await site.submit(ada, script("echo first >x", output_data=output))
    await submit_pilots(site.context, {})
    assert (await site.until_job(ada, first, *ENDED)).status is JobStatus.DONE
    (second,) = await site.submit(ada, script("echo second >x", output_data=output, retries=Retries(data=0)))
    job = await site.until_job(ada, second, *ENDED)
    assert (job.status, job.minor_status) == (JobStatus.FAILED, "output data refused")

    async def only_the_first_is_kept() -> bool:
        return [path.read_text() for path in site.world.storage_root.rglob("*") if path.is_file()] == ["first\n"]

    await until(only_the_first_is_kept, 5)


async def test_a_missing_output_fails_the_job_and_registers_nothing(pilots: Site) -> None:
    site, ada = pilots, pilots.world.ada
    output = [OutputData(path=name, lfn=f"/astro/{name}", se="local-se") for name in ("there", "missing")]
    (job_id,) = await site.submit(ada, script("echo x >there", output_data=output))
    await submit_pilots(site.context, {})
    assert (await site.until_job(ada, job_id, *ENDED)).status is JobStatus.FAILED
    async with site.context.db.transaction() as tx:
        history = await jobs.job_history(tx, ada, job_id)
        try:
            await catalog.stat_files(tx, ada, [LFN("/astro/there")])
        except NotFound:
            pass
        else:
            raise AssertionError("a failed job's output is registered")
    assert "'missing'" in " ".join(entry.reason for entry in history)
    assert [path for path in site.world.storage_root.rglob("*") if path.is_file()] == []
