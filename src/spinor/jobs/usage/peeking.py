"""Looks into the directory of a running job: asked through its pilot's heartbeat, answered within seconds."""

import time
from collections import defaultdict
from collections.abc import Sequence

from spinor.access import Caller, Scope
from spinor.db import Database, Tx
from spinor.errors import BadInput, Conflict, Denied, NotFound, Unavailable
from spinor.jobs import rules as states
from spinor.jobs.errors import StaleReport, UnknownJob
from spinor.jobs.models import Peek, PeekAnswer, PeekAsked, PeekKind, PeekQuery
from spinor.jobs.usage import rules, store
from spinor.signals import Signals, notify

LIFETIME_S = 30  # After that nobody waits for the answer any more.
_LOOK_S = 1.0


class NotRunning(Conflict):
    """Only a running job has a directory to look into."""

    code = "not-running"


class PilotSilent(Unavailable):
    """The job's pilot did not answer in time; try again in a moment."""

    code = "pilot-silent"


class PeekOver(NotFound):
    """Nobody waits for this answer any more."""

    code = "peek-over"


class NoSuchFile(NotFound):
    """There is no such file in the job's directory."""

    code = "no-such-file"


class NotReadable(BadInput):
    """This cannot be read in the job's directory."""

    code = "not-readable"


async def peek(db: Database, signals: Signals, caller: Caller, job_id: int, query: PeekQuery) -> Peek:
    """Part of a file of a running job, or the entries of a directory. Waits for its pilot, and holds no connection
    meanwhile. For the job's owner and those who manage jobs: a job's directory may hold more than its log tells.
    """
    path = rules.peek_path(query.path)
    asked = PeekQuery(path=path, position=query.position, size_bytes=query.size_bytes)
    deadline = time.monotonic() + query.wait_s
    async with db.transaction() as tx:
        peek_id, attempt = await _ask(tx, caller, job_id, asked)
    async with signals.subscribed(f"peek:{peek_id}") as event:
        while True:
            async with db.transaction() as tx:
                answer = await store.find_peek_answer(tx, caller.vo_id, peek_id)
            left_s = deadline - time.monotonic()
            if answer is not None or left_s <= 0 or signals.closing:
                break
            await signals.wait(event, min(left_s, _LOOK_S))
    async with db.transaction() as tx:
        await store.delete_peek(tx, caller.vo_id, peek_id)
    if answer is None:
        raise PilotSilent(
            f"The pilot of job {job_id} did not answer within {query.wait_s:g} s; it may be cut off. "
            f"`spinor job show {job_id}` says when it was last seen; try again in a moment.",
            job_id=job_id,
        )
    return _shown(job_id, attempt, path, answer)


async def _ask(tx: Tx, caller: Caller, job_id: int, query: PeekQuery) -> tuple[int, int]:
    job = await store.find_owner(tx, caller.vo_id, job_id)
    if job is None:
        raise UnknownJob(f"There is no job {job_id} in your VO.", job_id=job_id)
    if job.owner_id != caller.user_id and not caller.may(Scope.JOBS_MANAGE):
        raise Denied(
            f"Job {job_id} is somebody else's; to look into its directory needs the scope {Scope.JOBS_MANAGE.value}.",
            scope=Scope.JOBS_MANAGE.value,
        )
    asked = await store.insert_peek(tx, caller.vo_id, job_id, query)
    if asked is None or job.status not in states.HELD:
        raise NotRunning(
            f"Job {job_id} is {job.status.value}, so there is no directory to look into; "
            f"see `spinor job log {job_id}` and `spinor job output {job_id}`.",
            job_id=job_id,
            job_status=job.status.value,
        )
    await notify(tx, f"pilot:{asked.pilot_id}")
    return asked.peek_id, asked.attempt


async def take_peeks(tx: Tx, pilot: Caller) -> list[PeekAsked]:
    """What people wait for from this pilot."""
    return (await take_peeks_of(tx, [pilot])).get(pilot.pilot_id or 0, [])


async def take_peeks_of(tx: Tx, pilots: Sequence[Caller]) -> dict[int, list[PeekAsked]]:
    """The same for several pilots at once, by pilot."""
    asked: dict[int, list[PeekAsked]] = defaultdict(list)
    for pilot_id, peek in await store.take_peeks(tx, [pilot.pilot_id or 0 for pilot in pilots], LIFETIME_S):
        asked[pilot_id].append(peek)
    return asked


async def answer_peek(tx: Tx, pilot: Caller, job_id: int, answer: PeekAnswer) -> None:
    """Hand on what the pilot found. Raises PeekOver, and StaleReport when the attempt is not the pilot's."""
    if not await store.answer_peek(tx, pilot, job_id, answer, LIFETIME_S):
        if await store.is_held(tx, pilot, job_id, answer.attempt):
            raise PeekOver(peek_id=answer.peek_id)
        raise StaleReport(job_id=job_id, attempt=answer.attempt)
    await notify(tx, f"peek:{answer.peek_id}")


def _shown(job_id: int, attempt: int, path: str, answer: PeekAnswer) -> Peek:
    if answer.kind is PeekKind.REFUSED:
        detail = answer.detail or answer.code
        if answer.code == "no-such-file":
            raise NoSuchFile(f"Job {job_id}: {detail}", job_id=job_id, path=path)
        if answer.code == "not-here":
            raise NotRunning(f"Job {job_id} does not run any more: {detail}", job_id=job_id)
        raise NotReadable(f"Job {job_id}: {detail}", job_id=job_id, path=path, reason=answer.code)
    return Peek(
        job_id=job_id,
        attempt=attempt,
        path=path,
        kind=answer.kind,
        size_bytes=answer.size_bytes,
        position=answer.position,
        data=answer.data,
        entries=answer.entries,
        truncated=answer.truncated,
    )
