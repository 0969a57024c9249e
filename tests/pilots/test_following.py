"""Somebody follows a job over real connections while the server goes and comes back: each change is told once."""

import asyncio
import threading

from spinor.api.events import job_events
from spinor.jobs import service as jobs
from spinor.jobs.models import JobEvent, JobStatus
from spinor.pilots.chores import submit_pilots

from .conftest import Site, running, until
from .test_running import pilots, script

__all__ = ["pilots"]


async def test_a_stream_goes_on_where_the_server_left_it(pilots: Site) -> None:
    site, ada = pilots, pilots.world.ada
    (job_id,) = await site.submit(ada, script("sleep 6"))
    client = await site.client(ada)
    heard: list[JobEvent] = []
    follower = threading.Thread(target=lambda: heard.extend(job_events(client, [job_id])), daemon=True)
    follower.start()
    await submit_pilots(site.context, {})

    async def runs() -> bool:
        return JobStatus.RUNNING in [event.status for event in heard]

    await until(runs, 60)
    await site.server.stop()
    async with running(site.context.settings):
        await site.until_job(ada, job_id, JobStatus.DONE, timeout_s=90)
        await asyncio.to_thread(follower.join, 60)
        assert not follower.is_alive()
        async with site.context.db.transaction() as tx:
            history = await jobs.job_history(tx, ada, job_id)
    assert [(event.at, event.status) for event in heard] == [(entry.at, entry.status) for entry in history]
