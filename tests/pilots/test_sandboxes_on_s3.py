"""A server whose sandboxes lie on a real S3 service: real clients and pilots get them, by whichever way is open."""

import asyncio
import io
import random
import tarfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from spinor.client import Client
from spinor.jobs.models import JobSpec, JobStatus
from spinor.jobs.sandboxes import client as sandboxes
from spinor.pilots.chores import submit_pilots
from spinor.settings import Settings
from tests.servers.ceph import S3Server, new_bucket

from .conftest import Site
from .conftest import settings as plain_settings
from .test_running import pilots

__all__ = ["pilots", "plain_settings"]
pytestmark = pytest.mark.peer("ceph")


@pytest.fixture
def settings(plain_settings: Settings, ceph_server: S3Server) -> Settings:
    return replace(plain_settings, blobs=ceph_server.address(new_bucket(ceph_server), "spinor"))


@pytest.fixture
async def client(pilots: Site) -> AsyncIterator[Client]:
    client = await pilots.client(pilots.world.ada)
    yield client
    client.close()


def archive(size_bytes: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("data.bin")
        info.size = size_bytes
        tar.addfile(info, io.BytesIO(random.Random(1).randbytes(size_bytes)))
    return buffer.getvalue()


async def test_a_client_fetches_from_the_store_or_else_from_the_server(
    pilots: Site, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = archive(20_000_000)
    sandbox = await asyncio.to_thread(sandboxes.upload, client, data)
    path = f"/api/sandboxes/{sandbox.sandbox_id}"
    asked: list[tuple[str, bool]] = []
    fetched = sandboxes._fetched

    def noted(url: str, ca_file: str | None) -> bytes | None:
        found = fetched(url, ca_file)
        asked.append((url, found is not None))
        return found

    monkeypatch.setattr(sandboxes, "_fetched", noted)
    assert await asyncio.to_thread(sandboxes.download, client, path) == data
    assert asked[0][1]
    assert "X-Amz-Signature" in asked[0][0]
    for away in (lambda *_: None, lambda url, ca_file: fetched(url.replace("X-Amz-Signature=", "&x="), ca_file)):
        monkeypatch.setattr(sandboxes, "_fetched", away)
        assert await asyncio.to_thread(sandboxes.download, client, path) == data
    monkeypatch.setattr(sandboxes, "_fetched", lambda *_: data[:-1] + b"x")
    with pytest.raises(sandboxes.DamagedSandbox):
        await asyncio.to_thread(sandboxes.download, client, path)


async def test_a_pilot_brings_a_sandbox_from_s3_and_one_back(pilots: Site, client: Client, tmp_path: Path) -> None:
    site, ada = pilots, pilots.world.ada
    sandbox = await asyncio.to_thread(sandboxes.upload, client, archive(9_000_000))
    spec = JobSpec(
        executable="/bin/sh", arguments=["-c", "head -c 5 data.bin >out.bin; wc -c <data.bin"],
        input_sandboxes=[sandbox.sandbox_id], output_sandbox=["out.bin"],
    )  # fmt: skip
    (job_id,) = await site.submit(ada, spec)
    await submit_pilots(site.context, {})
    job = await site.until_job(ada, job_id, JobStatus.DONE, JobStatus.FAILED, timeout_s=60)
    assert (job.status, await site.log(job_id)) == (JobStatus.DONE, "9000000\n")
    output = await asyncio.to_thread(sandboxes.download, client, f"/api/jobs/{job_id}/output")
    with tarfile.open(fileobj=io.BytesIO(output)) as tar:
        assert tar.getnames() == ["out.bin"]
    assert not list(site.context.settings.blob_dir.rglob("*.tar"))
