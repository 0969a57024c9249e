"""Pilots that ask for jobs at the same moment are served together: one transaction, one claim.

The cost of a match is the request and not the job, so a server that answers thirty pilots at once answers several times
as many. Whoever waits for jobs does not wait in the database: a look at the view tells whether it is worth asking.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import msgspec

from spinor.access import Caller
from spinor.db import Database, Tx
from spinor.identity import service as identity
from spinor.identity.tokens import KeyRing
from spinor.jobs import service as jobs
from spinor.jobs.models import Assignment, Offer, Slot
from spinor.jobs.service import Ask, Matcher, Watch
from spinor.pilots import store
from spinor.pilots.models import MatchRequest
from spinor.pilots.service.groups import Groups
from spinor.pilots.service.life import PAYLOAD_TOKEN_SLACK_S, PilotEnded

_Asked = tuple[Caller, MatchRequest]

_GROUP = 32  # More in one transaction would only take longer.
_AT_ONCE = 2  # While one waits for the database, the other chooses.
_REMEMBERED = 50_000  # Slots: most pilots end without asking once more. One that was forgotten asks once in vain.


class Desk:
    """Where the pilots of one server process ask for jobs."""

    def __init__(self, db: Database, keys: KeyRing, issuer: str, matcher: Matcher, watch: Watch) -> None:
        self._db, self._keys, self._issuer, self._matcher, self._watch = db, keys, issuer, matcher, watch
        self._groups: Groups[_Asked, list[Assignment]] = Groups(self._served, most=_GROUP, at_once=_AT_ONCE)
        self._slots: OrderedDict[int, store.SlotOfPilot] = OrderedDict()

    async def match(self, caller: Caller, asked: MatchRequest) -> list[Assignment]:
        """Jobs for a pilot, now, each with a token for its payload; none when none fits. The offer is kept, since it
        tells what could run here. PilotEnded when the server has given the pilot up."""
        self._watch.asked()
        return await self._groups.ask(caller.pilot_id, (caller, asked))

    async def worth_asking(self, caller: Caller, asked: MatchRequest, *, signalled: bool) -> bool:
        """Whether something fits that may start, as far as this server knows; when jobs were signalled, it looks."""
        if signalled:
            await self._watch.news()
        self._watch.asked()
        slot = self._slots.get(_id(caller))
        return slot is None or jobs.may_match(self._matcher, Ask(caller.vo_id, _slot(slot, asked.offer), 1))

    async def _served(self, group: Sequence[_Asked]) -> list[list[Assignment] | Exception]:
        seen: dict[int, store.SlotOfPilot] = {}
        async with self._db.transaction() as tx:
            answers = await serve(tx, self._matcher, group, seen)
            given = [(caller, answer or []) for (caller, _), answer in zip(group, answers, strict=True)]
            tokened = await with_tokens(tx, self._keys, self._issuer, given)
        self._remember(group, seen)
        return [PilotEnded() if answer is None else new for answer, new in zip(answers, tokened, strict=True)]

    def _remember(self, group: Sequence[_Asked], seen: Mapping[int, store.SlotOfPilot]) -> None:
        """Those that asked last are forgotten last; those that have ended, at once."""
        for caller, _ in group:
            self._slots.pop(_id(caller), None)
        self._slots.update(seen)
        while len(self._slots) > _REMEMBERED:
            self._slots.popitem(last=False)


async def with_tokens(
    tx: Tx, keys: KeyRing, issuer: str, given: Sequence[tuple[Caller, Sequence[Assignment]]]
) -> list[list[Assignment]]:
    """What each of these pilots gets, each job with a token for its payload: for this attempt alone, and while it is
    held."""
    jobs_given = [(caller, job) for caller, assignments in given for job in assignments]
    if not jobs_given:
        return [[] for _ in given]
    grants = [
        identity.PayloadGrant(
            job.job_id, job.attempt, caller.vo, (caller.vo_id, job.owner_id), job.token_scopes,
            job.wall_s + PAYLOAD_TOKEN_SLACK_S,
        )
        for caller, job in jobs_given
    ]  # fmt: skip
    tokens, lines = identity.mint_payload_tokens(keys, issuer, grants)
    await identity.note_issued(tx, *lines)
    minted = iter(tokens)
    return [[msgspec.structs.replace(job, token=next(minted)) for job in assignments] for _, assignments in given]


async def note_match(tx: Tx, caller: Caller, offer: Offer, given: Sequence[Assignment]) -> None:
    """Keep what a pilot has left. PilotEnded when the server has given it up."""
    if not await store.lock_slots(tx, [_id(caller)]):
        raise PilotEnded
    await store.note_offers(tx, [(_id(caller), _left(offer, given), len(given))])


async def serve(
    tx: Tx, matcher: Matcher, group: Sequence[_Asked], seen: dict[int, store.SlotOfPilot]
) -> list[list[Assignment] | None]:
    """What each of these pilots gets; None for those that have ended. `seen` is told of their slots.

    The pilots' rows are locked first: whoever ends a pilot now will see its new jobs, and release them.
    """
    rows = {row.pilot_id: row for row in await store.lock_slots(tx, [_id(caller) for caller, _ in group])}
    seen |= rows
    alive = [
        (rows[_id(caller)], asked)
        for caller, asked in group
        if _id(caller) in rows and rows[_id(caller)].vo_id == caller.vo_id
    ]
    # One that is to leave may not have heard of it yet.
    asks = [Ask(row.vo_id, _slot(row, asked.offer), asked.max_jobs) for row, asked in alive if not row.drains]
    matched = dict(zip((ask.slot.pilot_id for ask in asks), await jobs.match_asks(tx, matcher, asks), strict=True))
    given = [matched.get(row.pilot_id, []) for row, _ in alive]
    offers = [(row.pilot_id, _left(asked.offer, got), len(got)) for (row, asked), got in zip(alive, given, strict=True)]
    await store.note_offers(tx, offers)
    answers = {row.pilot_id: got for (row, _), got in zip(alive, given, strict=True)}
    return [answers.get(_id(caller)) for caller, _ in group]


async def match(tx: Tx, matcher: Matcher, caller: Caller, asked: MatchRequest) -> list[Assignment]:
    """Jobs for one pilot, without tokens. PilotEnded when the server has given it up."""
    [given] = await serve(tx, matcher, [(caller, asked)], {})
    if given is None:
        raise PilotEnded
    return given


def _id(caller: Caller) -> int:
    assert caller.pilot_id is not None
    return caller.pilot_id


def _slot(row: store.SlotOfPilot, offer: Offer) -> Slot:
    return Slot(
        pilot_id=row.pilot_id, site=row.site, site_id=row.site_id, ce=row.ce, ce_id=row.ce_id, offer=offer
    )  # fmt: skip


def _left(offer: Offer, given: Sequence[Assignment]) -> Offer:
    return msgspec.structs.replace(
        offer,
        cores=max(0, offer.cores - sum(job.cores for job in given)),
        memory_bytes=max(0, offer.memory_bytes - sum(job.memory_bytes for job in given)),
        whole_node=offer.whole_node and not given,
    )
