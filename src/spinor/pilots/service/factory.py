"""The verbs of the pilot factory, each in one transaction. What happens on the elements in between is the chores'."""

import hashlib
import secrets
from collections.abc import Mapping, Sequence

import msgspec

from spinor.db import Tx
from spinor.jobs import service as jobs
from spinor.pilots import rules, store
from spinor.pilots.models import Ending, Followed, NewPilot, PilotStatus
from spinor.resources import service as resources
from spinor.resources.models import ComputingElement
from spinor.signals import notify

FRESH_S = 25.0  # An idle pilot asks for jobs every 20 s at least.


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Pilots to submit to one element; their rows are there already."""

    element: ComputingElement
    pilots: list[NewPilot]


async def demand_to_plan(tx: Tx) -> list[Order]:
    """Look at what waits and what is on its way, and record the intent to submit what is missing.

    Only one factory plans at a time; another one that asks meanwhile gets nothing to do.
    """
    if not await store.take_turn(tx):
        return []
    elements = await resources.computing_elements(tx)
    demand = await jobs.demand(tx)
    if not demand:
        return []
    alive = await store.list_alive(tx, FRESH_S)
    wanted = rules.plan(demand, elements, alive, await store.list_records(tx))
    # The secrets exist in this process and on the way to the pilots only.
    rows = [(each.vo_id, each.ce_id, secrets.token_urlsafe(32)) for each in wanted for _ in range(each.count)]
    if not rows:
        return []
    by_hash = {hashlib.sha256(secret.encode()).digest(): (ce_id, secret) for _, ce_id, secret in rows}
    made = await store.insert_pilots(
        tx, [(vo_id, ce_id, hashlib.sha256(secret.encode()).digest()) for vo_id, ce_id, secret in rows]
    )
    orders: dict[int, list[NewPilot]] = {}
    for row in made:
        ce_id, secret = by_hash[row.secret_hash]
        orders.setdefault(ce_id, []).append(NewPilot(pilot_id=row.pilot_id, vo=row.vo, secret=secret))
    by_id = {element.ce_id: element for element in elements}
    return [Order(element=by_id[ce_id], pilots=pilots) for ce_id, pilots in orders.items()]


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
