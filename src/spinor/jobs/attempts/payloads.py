"""Payloads as callers: what the token of one attempt may do, and what happens when its owner is suspended."""

import re
from itertools import groupby

from spinor.access import Caller, Scope
from spinor.db import Tx
from spinor.errors import NotSignedIn
from spinor.identity import service as identity
from spinor.identity.tokens import Claims
from spinor.jobs import rules
from spinor.jobs.attempts import store
from spinor.jobs.control import store as control
from spinor.jobs.control.changes import rescheduled
from spinor.jobs.errors import StaleReport
from spinor.jobs.looking.service import show_job
from spinor.jobs.models import Job
from spinor.signals import notify

_SUBJECT = re.compile(r"payload:([1-9][0-9]{0,17})\.([1-9][0-9]{0,8})")
_BATCH = 1000


class AttemptEnded(NotSignedIn):
    """This token was for one attempt of a job, which has ended; there is nothing left to do with it."""

    code = "attempt-ended"


async def caller_of_payload(tx: Tx, claims: Claims) -> Caller:
    """The owner of the attempt that a payload's token names, with no more scopes than the token says and the owner has.

    AttemptEnded as soon as no pilot holds the attempt any more.
    """
    subject = _SUBJECT.fullmatch(claims.sub)
    found = await store.find_payload(tx, claims.vo, int(subject[1]), int(subject[2])) if subject else None
    if found is None:
        raise AttemptEnded
    try:
        owner = await identity.caller_of_member(tx, found.vo_id, found.owner_id, found.group_id)
    except identity.UnknownMember:
        raise AttemptEnded("The owner of this job is no longer a member of its group.") from None
    said = frozenset(claims.scope.split())
    own = {Scope.PAYLOAD_ACT.value, *([Scope.PAYLOAD_PROXY.value] if owner.may(Scope.PROXIES_USE) else [])}
    return Caller(
        vo_id=owner.vo_id,
        vo=owner.vo,
        user_id=owner.user_id,
        user=owner.user,
        group_id=owner.group_id,
        group=owner.group,
        scopes=said & (owner.scopes | own),
        job_id=found.job_id,
        attempt=found.attempt,
    )


async def own_job(tx: Tx, payload: Caller) -> Job:
    """The job whose payload asks."""
    assert payload.job_id is not None
    return await show_job(tx, payload, payload.job_id)


async def note_progress(tx: Tx, payload: Caller, text: str) -> None:
    """Keep what the payload says of itself, for people who look at the job."""
    if not await store.note_progress(tx, payload, text):
        raise StaleReport(job_id=payload.job_id, attempt=payload.attempt)


async def interrupt_suspended(tx: Tx) -> list[int]:
    """Take what runs for suspended owners from its pilots: it waits, and is not matched, until they are reinstated.

    At most 1,000 at a time, skipping those that somebody is changing: repeat while the answer is full.
    """
    jobs = await store.lock_suspended_jobs(tx, _BATCH)
    interrupted: list[int] = []
    for vo_id, group in groupby(sorted(jobs, key=lambda job: (job.vo_id, job.job_id)), key=lambda job: job.vo_id):
        change = rescheduled("suspension", "its owner is suspended")
        interrupted += await control.change_jobs(tx, vo_id, [job.job_id for job in group], tuple(rules.HELD), change)
    topics = {f"array:{job.array_id}" for job in jobs} | {f"pilot:{job.pilot_id}" for job in jobs if job.pilot_id}
    if topics:
        await notify(tx, *sorted(topics))
    return interrupted
