"""Sandboxes and kept logs in a bucket of a real S3 service."""

import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from spinor.blobs import Blobs
from spinor.blobs.s3 import Bucket
from spinor.jobs import service
from spinor.jobs.logs.keeping import keep_logs
from spinor.jobs.models import LogQuery
from spinor.jobs.routes import routes
from tests.asgi import Http, over_http
from tests.servers.ceph import S3Server, new_bucket

from .test_logs import append
from .test_tenancy import archive
from .test_uploads import begin, part, send
from .workbench import Workbench

pytestmark = pytest.mark.peer("ceph")


@pytest.fixture
def address(ceph_server: S3Server) -> str:
    return ceph_server.address(new_bucket(ceph_server), "spinor")


@pytest.fixture
async def http(bench: Workbench, tmp_path: Path, address: str) -> AsyncIterator[Http]:
    async with over_http(bench.db, tmp_path, routes, address) as http:
        yield http


@pytest.fixture
def blobs(address: str, tmp_path: Path) -> Blobs:
    return Blobs(Bucket.of(address, tmp_path), tmp_path / "spool")


async def test_a_sandbox_goes_in_by_parts_and_out_by_either_way(
    bench: Workbench, http: Http, blobs: Blobs, ceph_server: S3Server
) -> None:
    data = archive(bytes(range(256)) * 80_000)  # More than two parts.
    sandbox = await send(http, bench.world.ada, data)
    path = f"/api/sandboxes/{sandbox['sandbox_id']}"
    assert (await http(bench.world.ada, "GET", path)).body == data
    redirect = await http(bench.world.ada, "GET", f"{path}?direct=true")
    assert redirect.status == 307
    assert ceph_server.secret not in redirect.headers["location"]
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(redirect.headers["location"])).content == data
        unsigned = redirect.headers["location"].partition("?")[0]
        assert (await client.get(unsigned)).status_code == 403
    assert (await http(bench.world.bea, "GET", f"{path}?direct=true")).status == 404
    later = datetime.now(UTC) + timedelta(days=2)
    assert not [each async for batch in blobs.place.list("uploads", later) for each in batch]
    assert not list(blobs.spool.iterdir())


async def test_the_sweep_finds_what_nobody_needs_in_a_bucket_too(bench: Workbench, http: Http, blobs: Blobs) -> None:
    unused, begun = archive(b"unused"), archive(b"begun" * 9_000)
    await http(bench.world.ada, "PUT", "/api/sandboxes", unused)
    upload_id = (await begin(http, bench.world.ada, begun)).json["upload_id"]
    await part(http, bench.world.ada, upload_id, begun, 0, 10_240)
    assert await service.sweep_sandboxes(bench.db, blobs) == (0, 0)
    assert await service.sweep_sandboxes(bench.db, blobs, datetime.now(UTC) + timedelta(days=16)) == (1, 2)
    sha256 = hashlib.sha256(unused).hexdigest()
    name = f"sandboxes/{bench.world.ada.vo_id}/{bench.world.ada.user_id}/{sha256[:2]}/{sha256}.tar"
    assert await blobs.place.size(name) is None


async def test_a_large_log_is_kept_in_the_bucket_and_read_in_parts(bench: Workbench, blobs: Blobs) -> None:
    job = await bench.running()
    data = b"".join(hashlib.sha256(str(n).encode()).hexdigest().encode() + b"\n" for n in range(50_000))
    for start in range(0, len(data), 500_000):
        await append(bench, job, start, data[start : start + 500_000])
    await bench.finish(job)
    assert await keep_logs(bench.db, blobs) == 1
    assert await bench.rows("SELECT data IS NULL, blob IS NOT NULL FROM jobs.kept_log") == [(True, True)]
    for position in (0, 1_048_575, 1_048_576, 2_000_000, len(data) - 1, len(data)):
        read = await service.read_log(bench.db, blobs, bench.world.ada, job.job_id, LogQuery(position=position))
        assert data[position:].startswith(read.data)
        assert read.position == position + len(read.data)
    assert read.ended
