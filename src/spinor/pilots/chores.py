"""The pilot factory: submit pilots where jobs wait, and follow those that are there.

Computing elements are called between transactions, never inside one. Whatever a killed worker leaves half done is
found by the next round: intents without an external id are looked up on the element, or given up after a minute.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from spinor.chores import ChoreContext, chore
from spinor.pilots import rules, service
from spinor.pilots.launching import launches_for, plugin_for, words_of
from spinor.pilots.models import ElementState, Ending, Followed, PilotStatus
from spinor.pilots.plugin import TIMEOUT_S, ComputingPlugin
from spinor.pilots.probes.chores import CHORES as PROBES
from spinor.pilots.service.factory import Order
from spinor.pilots.service.people import FOLLOW_CHORE
from spinor.resources.models import ComputingElement

UNKNOWN = ElementState.UNKNOWN
LOOK_UP_AFTER_S = 10.0  # Younger intents are still being carried out.
# Of pilots that never enrolled, what they have said is read for people: of so many in a round, since those of one
# element mostly say the same, and for so long, since the round has other things to do.
MUTE_PILOTS, OUTPUT_S = 20, 10.0


async def submit_pilots(context: ChoreContext, _: dict[str, Any]) -> None:
    """One round of the factory."""
    async with context.db.transaction() as tx:
        orders = await service.demand_to_plan(tx)
    await asyncio.gather(*(_carry_out(context, order) for order in orders))


async def follow_pilots(context: ChoreContext, _: dict[str, Any]) -> None:
    """Ask every element about its pilots, and draw the conclusions."""
    async with context.db.transaction() as tx:
        await service.withdraw_pilots(tx)
        by_element = await service.pilots_to_follow(tx)
    await asyncio.gather(*(_follow(context, element, pilots) for element, pilots in by_element))


async def _carry_out(context: ChoreContext, order: Order) -> None:
    element, log = order.element, context.log
    facts = {"computing_element": element.name, "pilot_ids": [pilot.pilot_id for pilot in order.pilots]}
    try:
        plugin = plugin_for(element, context.settings)
        launches = await asyncio.to_thread(launches_for, order, context.settings)
        async with asyncio.timeout(TIMEOUT_S):
            submitted = await plugin.submit(launches)
    except Exception as error:
        # Whatever a plugin does, the other elements get their pilots. Some of these may have been started:
        # the follower looks them up, and gives up the others.
        log.exception("submission-failed", extra=facts)
        await _note_trouble(context, order, f"submission failed: {words_of(error)}")
        return
    accepted = {each.pilot_id: each.external_id for each in submitted if each.external_id is not None}
    refused = [
        (PilotStatus.NEW, Ending(pilot_id=each.pilot_id, status=PilotStatus.ABORTED, reason=f"refused: {each.error}"))
        for each in submitted
        if each.external_id is None
    ]
    async with context.db.transaction() as tx:
        await service.record_submissions(tx, accepted)
        await service.end_pilots(tx, refused)
    if refused and not accepted:
        await _note_trouble(context, order, refused[0][1].reason)
    log.info("pilots-submitted", extra={**facts, "accepted": len(accepted), "refused": [e.reason for _, e in refused]})


async def _note_trouble(context: ChoreContext, order: Order, reason: str) -> None:
    pairs = {(order.element.ce_id, pilot.vo_id): reason for pilot in order.pilots}
    async with context.db.transaction() as tx:
        await service.note_trouble(tx, pairs)


async def _follow(context: ChoreContext, element: ComputingElement, pilots: Sequence[Followed]) -> None:
    try:
        plugin = plugin_for(element, context.settings)
        async with asyncio.timeout(TIMEOUT_S):
            await _look_up(context, plugin, pilots)
            known = [pilot for pilot in pilots if pilot.external_id is not None]
            said = await plugin.status([pilot.external_id for pilot in known if pilot.external_id]) if known else {}
            judged = [(p, rules.judge(p, said.get(p.external_id or "", UNKNOWN), element.wall_s)) for p in known]
            ended = await _conclude(context, plugin, judged)
            cancelled = [p.external_id for p, verdict in judged if verdict.cancel and p.external_id]
            if cancelled:
                await plugin.cancel(cancelled)
            await _read_last_words(context, plugin, [p for p, _ in judged if p.pilot_id in ended])
    except Exception:
        # One element's trouble must not hide the others' pilots; the next round asks again.
        context.log.exception("element-not-followed", extra={"computing_element": element.name})


async def _look_up(context: ChoreContext, plugin: ComputingPlugin, pilots: Sequence[Followed]) -> None:
    """Find what a worker submitted and could not record any more; give up what nobody ever submitted."""
    missing = [p for p in pilots if p.external_id is None and p.age_s > LOOK_UP_AFTER_S]
    if not missing:
        return
    found = await plugin.find([pilot.pilot_id for pilot in missing])
    # One that ended here and is there all the same is cancelled by the next round, which knows what it is called.
    settled = [p.pilot_id for p in missing if p.status in rules.FINAL and p.pilot_id not in found]
    given_up = [
        (pilot.status, Ending(pilot_id=pilot.pilot_id, status=PilotStatus.ABORTED, reason="it was never submitted"))
        for pilot in missing
        if pilot.pilot_id not in found and pilot.age_s > rules.NEVER_SUBMITTED_S and pilot.status is PilotStatus.NEW
    ]
    async with context.db.transaction() as tx:
        await service.record_submissions(tx, found)
        await service.settle_pilots(tx, settled)
        await service.end_pilots(tx, given_up)


async def _conclude(
    context: ChoreContext, plugin: ComputingPlugin, judged: Sequence[tuple[Followed, rules.Verdict]]
) -> list[int]:
    """Record what follows from the element's words; the pilots that ended by it."""
    waiting = [pilot.pilot_id for pilot, verdict in judged if verdict.becomes is PilotStatus.WAITING]
    endings = [(pilot.status, verdict.ends) for pilot, verdict in judged if verdict.ends is not None]
    settled = [pilot.pilot_id for pilot, verdict in judged if verdict.settled]
    if not waiting and not endings and not settled:
        return []
    async with context.db.transaction() as tx:
        await service.note_waiting(tx, waiting)
        ended = await service.end_pilots(tx, endings)
        await service.settle_pilots(tx, settled)
        await service.note_trouble(tx, _never_enrolled(judged, ended))
    if ended:
        context.log.warning("pilots-ended", extra={"plugin": plugin.name, "pilot_ids": ended})
    return ended


async def _read_last_words(context: ChoreContext, plugin: ComputingPlugin, ended: Sequence[Followed]) -> None:
    """What pilots that never enrolled have said becomes their log; an element that cannot tell it is no trouble."""
    mute = {p.external_id: p.pilot_id for p in ended if p.running_s is None and p.external_id}
    asked = list(mute)[:MUTE_PILOTS]
    if not asked:
        return
    try:
        async with asyncio.timeout(OUTPUT_S):
            texts = await plugin.output(asked)
    except Exception:
        context.log.exception("last-words-not-read", extra={"pilot_ids": [mute[each] for each in asked]})
        return
    async with context.db.transaction() as tx:
        await service.keep_output(tx, {mute[each]: text for each, text in texts.items() if text})


def _never_enrolled(
    judged: Sequence[tuple[Followed, rules.Verdict]], ended: Sequence[int]
) -> dict[tuple[int, int], str]:
    """By element and VO, why the factory is to wait: pilots that ended there without a word."""
    return {
        (pilot.ce_id, pilot.vo_id): verdict.ends.reason
        for pilot, verdict in judged
        if verdict.ends is not None and pilot.running_s is None and pilot.pilot_id in ended
    }


async def find_black_holes(context: ChoreContext, _: dict[str, Any]) -> None:
    """Take nodes out of use that let one job after the other fail."""
    async with context.db.transaction() as tx:
        found = await service.find_black_holes(tx)
    if found:
        context.log.warning("black-holes", extra={"nodes": found})


async def fold_tally(context: ChoreContext, _: dict[str, Any]) -> None:
    """Fold the changes of the counts of pilots into the counts."""
    async with context.db.transaction() as tx:
        await service.fold_tally(tx)


CHORES = [
    *PROBES,
    # Several may run at a time, so that a killed worker or a slow element does not hold up the rest: planning takes
    # turns in the database, and following is made of compare-and-set.
    chore("pilots.submit", submit_pilots, every_s=1, timeout_s=120, retries=0, concurrency=4),
    chore(FOLLOW_CHORE, follow_pilots, every_s=5, timeout_s=120, retries=0, concurrency=4),
    chore("pilots.find_black_holes", find_black_holes, every_s=10, timeout_s=60, retries=0, concurrency=1),
    chore("pilots.fold_tally", fold_tally, every_s=10, timeout_s=60, retries=0, concurrency=1),
]
