"""People look into the directory of a job that a real pilot runs, over the real way: request, heartbeat, answer."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from spinor.client import Client, RemoteError
from spinor.jobs.models import JobStatus, Peek, Usage
from spinor.pilots.chores import submit_pilots

from .conftest import Site, until
from .test_running import pilots, script

__all__ = ["pilots"]

WRITES = """
mkdir out; printf 'first\\nsecond\\n' >out/fit.log; ln -s /etc/passwd link; ln -s /etc out/etc; mkfifo pipe
touch "$(printf 'odd\\033[31m')"
touch ready; while [ ! -e stop ]; do sleep 0.2; done
"""


@pytest.fixture
async def client(pilots: Site) -> AsyncIterator[Client]:
    client = await pilots.client(pilots.world.ada)
    yield client
    client.close()


async def peek(client: Client, job_id: int, path: str = "", **more: int) -> Peek:
    query = {"path": path, "wait_s": 30, **more}
    return await asyncio.to_thread(client.get, f"/api/jobs/{job_id}/peek", Peek, query)


async def refused(client: Client, job_id: int, path: str) -> tuple[int, str]:
    with pytest.raises(RemoteError) as caught:
        await peek(client, job_id, path)
    return caught.value.status, caught.value.code


async def test_a_running_job_is_looked_into(pilots: Site, client: Client) -> None:
    site, ada = pilots, pilots.world.ada
    (job_id,) = await site.submit(ada, script(WRITES))
    await submit_pilots(site.context, {})
    await site.until_job(ada, job_id, JobStatus.RUNNING)

    async def ready() -> Peek | None:
        found = await peek(client, job_id)
        return found if "ready" in {entry.name for entry in found.entries} else None

    listed = {entry.name: entry.kind for entry in (await until(ready, 60)).entries}
    assert listed["out"] == "directory"
    assert (listed["link"], listed["pipe"], listed["odd\x1b[31m"]) == ("link", "other", "file")
    found = await peek(client, job_id, "out/fit.log")
    assert (found.data, found.size_bytes, found.position) == (b"first\nsecond\n", 13, 0)
    assert (await peek(client, job_id, "out/fit.log", size_bytes=7)).data == b"second\n"
    assert (await peek(client, job_id, "out/fit.log", position=3, size_bytes=2)).data == b"st"
    assert await refused(client, job_id, "none") == (404, "no-such-file")
    for path in ("link", "out/etc/passwd", "pipe"):
        assert await refused(client, job_id, path) == (422, "not-readable")
    assert await refused(client, job_id, "../../launch.json") == (422, "bad-path")

    async def measured() -> Usage | None:
        usage = await asyncio.to_thread(client.get, f"/api/jobs/{job_id}/usage", Usage)
        return usage if usage.points else None

    assert (await until(measured, 60)).points[0].rss_bytes > 0
