"""Heartbeats: those that come at the same moment are written together.

A hundred heartbeats in one transaction cost the database a tenth of what they cost one by one, and the server a third.
"""

from collections.abc import Mapping, Sequence

import msgspec

from spinor.access import Caller
from spinor.db import Database, Tx
from spinor.jobs import service as jobs
from spinor.jobs.models import Held, Lost, PeekAsked
from spinor.pilots import store
from spinor.pilots.models import Purpose
from spinor.pilots.service.groups import Groups
from spinor.pilots.service.life import PilotEnded
from spinor.resources.status.models import Status
from spinor.resources.status.rules import USABLE

_Told = tuple[Caller, Sequence[Held]]

_GROUP = 128


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """What a heartbeat found: what the pilot does not hold any more, and what decides whether it is to leave."""

    lost: list[Lost]
    peeks: list[PeekAsked]
    ce_id: int
    ce: str
    purpose: Purpose
    drain_reason: str

    def drains(self, statuses: Mapping[str, Status]) -> bool:
        """Whether the pilot is to take no more jobs, and to leave when its own have ended."""
        if self.purpose is Purpose.PROBE:
            return False
        return bool(self.drain_reason) or statuses.get(self.ce, Status.ACTIVE) not in USABLE


class Pulse:
    """Where the heartbeats of one server process come in."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._groups: Groups[_Told, Beat] = Groups(self._served, most=_GROUP, at_once=1)

    async def beat(self, caller: Caller, held: Sequence[Held]) -> Beat:
        """Renew the leases of what the pilot holds. PilotEnded when the server has given it up."""
        return await self._groups.ask(caller.pilot_id, (caller, held))

    async def _served(self, group: Sequence[_Told]) -> list[Beat | Exception]:
        async with self._db.transaction() as tx:
            return await beats(tx, group)


async def beats(tx: Tx, group: Sequence[_Told]) -> list[Beat | Exception]:
    """What each of these pilots is told; PilotEnded for those that have ended."""
    rows = {row.pilot_id: row for row in await store.note_seen(tx, [caller.pilot_id or 0 for caller, _ in group])}
    alive = [
        (caller, held)
        for caller, held in group
        if (row := rows.get(caller.pilot_id or 0)) is not None and row.vo_id == caller.vo_id
    ]
    lost = await jobs.renew_leases_of(tx, alive)
    peeks = await jobs.take_peeks_of(tx, [caller for caller, _ in alive])
    told: dict[int, Beat] = {}
    for (caller, _), gone in zip(alive, lost, strict=True):
        row = rows[caller.pilot_id or 0]
        told[row.pilot_id] = Beat(
            lost=gone,
            peeks=peeks.get(row.pilot_id, []),
            ce_id=row.ce_id,
            ce=row.ce,
            purpose=row.purpose,
            drain_reason=row.drain_reason,
        )
    return [told.get(caller.pilot_id or 0) or PilotEnded() for caller, _ in group]


async def beat(tx: Tx, caller: Caller, held: Sequence[Held]) -> Beat:
    """The same for one pilot, in a transaction of the caller's."""
    [found] = await beats(tx, [(caller, held)])
    if isinstance(found, Exception):
        raise found
    return found
