"""The verbs of the pilot factory, each in one transaction. What happens on the elements in between is the chores'."""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Mapping, Sequence

import msgspec

from spinor.db import Tx
from spinor.errors import SpinorError
from spinor.jobs import service as jobs
from spinor.jobs.models import Demand
from spinor.pilots import planning, rules, store
from spinor.pilots.models import Ending, Followed, NewPilot, PilotStatus, Purpose
from spinor.resources import service as resources
from spinor.resources.models import ComputingElement
from spinor.resources.status.rules import USABLE
from spinor.signals import notify

FRESH_S = 25.0  # An idle pilot asks for jobs every 20 s at least.


class SubmissionRefused(SpinorError):
    """The computing element refused the pilot."""

    code = "submission-refused"


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Pilots to submit to one element; their rows are there already."""

    element: ComputingElement
    pilots: list[NewPilot]
    tags: list[str] = []  # Beside those of the element.
    idle_s: float | None = None  # When it is not the element's.


async def demand_to_plan(tx: Tx) -> list[Order]:
    """Look at what waits and what is on its way, and record the intent to submit what is missing.

    Only one factory plans at a time; another one that asks meanwhile gets nothing to do.
    """
    if not await store.take_turn(tx):
        return []
    demand = await jobs.demand(tx)
    if not demand:
        return []
    now = await _situation(tx, demand)
    # It computes for some tenths of a second, and a worker must not be silent.
    wanted = await asyncio.to_thread(planning.plan, now)
    pilots = await new_pilots(tx, [(each.vo_id, each.ce_id) for each in wanted for _ in range(each.count)])
    by_id = {element.ce_id: element for element in now.elements}
    return [Order(element=by_id[ce_id], pilots=made) for ce_id, made in pilots.items()]


async def _situation(tx: Tx, demand: Sequence[Demand]) -> planning.Situation:
    troubled = {(each.ce_id, each.vo_id) for each in await store.list_trouble(tx) if each.paused}
    fruitless = {(r.ce_id, r.vo_id) for r in await store.list_records(tx) if r.since_s < rules.pause_s(r.fruitless)}
    return planning.Situation(
        demand=demand,
        elements=await resources.computing_elements(tx),
        census=await store.list_census(tx),
        idle=await store.list_idle(tx, FRESH_S),
        statuses=await resources.status_of(tx),
        paused=frozenset(troubled | fruitless),
        shares={each.vo_id: each.share for each in await jobs.shares_of_vos(tx)},
        seen={each.ce_id: each.offer for each in await store.list_seen_offers(tx)},
        turn=int(time.time()),
    )


async def new_pilots(
    tx: Tx, wanted: Sequence[tuple[int, int]], purpose: Purpose = Purpose.WORK
) -> dict[int, list[NewPilot]]:
    """Record the intent to submit these, (VO, computing element) each; by element.

    The secrets exist in this process and on the way to the pilots only.
    """
    if not wanted:
        return {}
    rows = [(vo_id, ce_id, secrets.token_urlsafe(32)) for vo_id, ce_id in wanted]
    by_hash = {hashlib.sha256(secret.encode()).digest(): (ce_id, secret) for _, ce_id, secret in rows}
    hashed = [(vo_id, ce_id, hashlib.sha256(secret.encode()).digest()) for vo_id, ce_id, secret in rows]
    made: dict[int, list[NewPilot]] = {}
    for row in await store.insert_pilots(tx, hashed, purpose):
        ce_id, secret = by_hash[row.secret_hash]
        made.setdefault(ce_id, []).append(NewPilot(pilot_id=row.pilot_id, vo_id=row.vo_id, vo=row.vo, secret=secret))
    return made


async def note_trouble(tx: Tx, told: Mapping[tuple[int, int], str]) -> None:
    """Pause, the longer the more often it came: by (computing element, VO), why."""
    if told:
        await store.note_trouble(tx, [(ce_id, vo_id, reason[:1000]) for (ce_id, vo_id), reason in told.items()])


async def withdraw_pilots(tx: Tx) -> list[int]:
    """Cancel the pilots that wait in the queue of an element that is out of use; they would find no job there."""
    out = {name: status for name, status in (await resources.status_of(tx)).items() if status not in USABLE}
    withdrawn: list[int] = []
    for status in set(out.values()):
        ce_ids = [e.ce_id for e in await resources.computing_elements(tx) if out.get(e.name) is status]
        if ce_ids:
            withdrawn += await store.withdraw_pilots(tx, ce_ids, f"its computing element is {status.value}")
    return withdrawn


async def settle_pilots(tx: Tx, pilot_ids: Sequence[int]) -> None:
    """These have ended, and their computing element says so too: nobody need ask about them any more."""
    if pilot_ids:
        await store.settle_pilots(tx, pilot_ids)


async def fold_tally(tx: Tx) -> None:
    """Fold the changes of the counts of pilots into the counts."""
    await store.fold_tally(tx)


async def record_submissions(tx: Tx, external_ids: Mapping[int, str]) -> None:
    """Keep what the element calls the pilots it has accepted."""
    await store.record_submissions(tx, dict(external_ids))


async def pilots_to_follow(tx: Tx) -> list[tuple[ComputingElement, list[Followed]]]:
    """The pilots that have not ended, and cancelled ones that may still be there, by computing element."""
    followed = await store.list_followed(tx)
    elements = {element.ce_id: element for element in await resources.computing_elements(tx, with_retired=True)}
    by_element: dict[int, list[Followed]] = {}
    for each in followed:
        by_element.setdefault(each.ce_id, []).append(each)
    return [(elements[ce_id], pilots) for ce_id, pilots in by_element.items() if ce_id in elements]


async def note_waiting(tx: Tx, pilot_ids: Sequence[int]) -> None:
    """These are in their element's queue."""
    await store.set_waiting(tx, pilot_ids)


async def end_pilots(tx: Tx, endings: Sequence[tuple[PilotStatus, Ending]]) -> list[int]:
    """End pilots that are still in the state given, and release their jobs at once; the ones that ended."""
    ended = await store.end_pilots(tx, endings)
    reasons = {ending.pilot_id: ending.reason for _, ending in endings}
    for pilot_id in ended:
        await jobs.release_jobs_of_pilot(tx, pilot_id, reasons[pilot_id])
    if ended:
        await notify(tx, *(f"pilot:{pilot_id}" for pilot_id in ended))
    return ended


async def keep_output(tx: Tx, texts: Mapping[int, str]) -> None:
    """Keep what an element has of pilots that could not send their log themselves; it becomes their log."""
    if texts:
        await store.insert_outputs(tx, {pilot_id: text.encode() for pilot_id, text in texts.items()})
