"""A job that is meant for one pilot: nobody else can match it, since it asks for a tag that only this pilot has."""

from spinor.db import Tx
from spinor.jobs.matching import store
from spinor.jobs.matching.rows import Deal, Wish
from spinor.jobs.matching.service import Matcher
from spinor.jobs.models import Assignment, Slot


async def claim_reserved(tx: Tx, matcher: Matcher, vo_id: int, slot: Slot, job_id: int) -> list[Assignment]:
    """The job, if it still waits; no mask, share or limit keeps it from its pilot."""
    queue_id = await store.find_queue_of_waiting(tx, vo_id, job_id)
    if queue_id is None:
        return []
    wish = Wish(queue_id, 1, 0, 0)
    deal = Deal(queue_id, 1, slot.pilot_id, vo_id, slot.site_id, slot.ce_id, 1, 0.0)
    claimed = await store.claim_jobs(tx, [wish], [deal])
    return await matcher.assigner.assignments(tx, claimed) if claimed else []
