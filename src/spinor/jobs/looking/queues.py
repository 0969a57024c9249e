"""Task queues as people see them."""

from msgspec.structs import replace

from spinor.access import Caller
from spinor.configuration import service as configuration
from spinor.configuration.work import VOShares
from spinor.db import Tx
from spinor.jobs.looking import store
from spinor.jobs.looking.service import stored_job
from spinor.jobs.matching.shares import SHARE
from spinor.jobs.matching.store import list_standings
from spinor.jobs.models import TaskQueuePage, TaskQueueQuery


async def task_queues(tx: Tx, caller: Caller, asked: TaskQueueQuery) -> TaskQueuePage:
    """The VO's task queues in the order of their numbers: those with waiting jobs, or a job's own. Whoever may see the
    VO's jobs sees them. Raises UnknownJob."""
    if asked.job_id:
        await stored_job(tx, caller, asked.job_id)
    found = await store.list_task_queues(tx, caller.vo_id, asked)
    shares = (await configuration.shares_and_limits(tx)).shares.get(caller.vo, VOShares())
    used = {(row.group, row.user): row for row in await list_standings(tx, caller.vo_id, shares.half_life_s)}
    rows = []
    for queue in found[: asked.limit]:
        standing = used.get((queue.group, queue.owner))
        rows.append(
            replace(
                queue,
                group_share=shares.groups.get(queue.group, SHARE),
                user_share=shares.users.get(queue.owner, SHARE),
                core_s=standing.core_s if standing else 0.0,
                cores=standing.cores if standing else 0,
            )
        )
    return TaskQueuePage(rows=rows, next=rows[-1].task_queue_id if len(found) > asked.limit else None)
