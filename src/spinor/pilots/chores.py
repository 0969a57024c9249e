"""The pilot factory: submit pilots where jobs wait, and follow those that are there.

Computing elements are called between transactions, never inside one. Whatever a killed worker leaves half done is
found by the next round: intents without an external id are looked up on the element, or given up after a minute.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spinor.chores import ChoreContext, chore
from spinor.pilots import bundle, rules, service
from spinor.pilots.models import ElementState, Ending, Followed, PilotStatus
from spinor.pilots.plugin import TIMEOUT_S, ComputingPlugin, ElementSettings, PilotLaunch, plugin_named
from spinor.pilots.service.factory import Order
from spinor.pilots.service.people import FOLLOW_CHORE
from spinor.resources.models import ComputingElement
from spinor.settings import Settings

UNKNOWN = ElementState.UNKNOWN
LOOK_UP_AFTER_S = 10.0  # Younger intents are still being carried out.


async def submit_pilots(context: ChoreContext, _: dict[str, Any]) -> None:
    """One round of the factory."""
    async with context.db.transaction() as tx:
        orders = await service.demand_to_plan(tx)
    await asyncio.gather(*(_carry_out(context, order) for order in orders))


async def follow_pilots(context: ChoreContext, _: dict[str, Any]) -> None:
    """Ask every element about its pilots, and draw the conclusions."""
    async with context.db.transaction() as tx:
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
    except Exception:
        # Whatever a plugin does, the other elements get their pilots. Some of these may have been started:
        # the follower looks them up, and gives up the others.
        log.exception("submission-failed", extra=facts)
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
    log.info("pilots-submitted", extra={**facts, "accepted": len(accepted), "refused": [e.reason for _, e in refused]})


async def _follow(context: ChoreContext, element: ComputingElement, pilots: Sequence[Followed]) -> None:
    try:
        plugin = plugin_for(element, context.settings)
        async with asyncio.timeout(TIMEOUT_S):
            await _look_up(context, plugin, pilots)
            known = [pilot for pilot in pilots if pilot.external_id is not None]
            said = await plugin.status([pilot.external_id for pilot in known if pilot.external_id]) if known else {}
            judged = [(p, rules.judge(p, said.get(p.external_id or "", UNKNOWN), element.wall_s)) for p in known]
            await _conclude(context, plugin, judged)
            cancelled = [p.external_id for p, verdict in judged if verdict.cancel and p.external_id]
            if cancelled:
                await plugin.cancel(cancelled)
    except Exception:
        # One element's trouble must not hide the others' pilots; the next round asks again.
        context.log.exception("element-not-followed", extra={"computing_element": element.name})


async def _look_up(context: ChoreContext, plugin: ComputingPlugin, pilots: Sequence[Followed]) -> None:
    """Find what a worker submitted and could not record any more; give up what nobody ever submitted."""
    missing = [p for p in pilots if p.external_id is None and p.age_s > LOOK_UP_AFTER_S and p.status not in rules.FINAL]
    if not missing:
        return
    found = await plugin.find([pilot.pilot_id for pilot in missing])
    given_up = [
        (pilot.status, Ending(pilot_id=pilot.pilot_id, status=PilotStatus.ABORTED, reason="it was never submitted"))
        for pilot in missing
        if pilot.pilot_id not in found and pilot.age_s > rules.NEVER_SUBMITTED_S and pilot.status is PilotStatus.NEW
    ]
    async with context.db.transaction() as tx:
        await service.record_submissions(tx, found)
        await service.end_pilots(tx, given_up)


async def _conclude(
    context: ChoreContext, plugin: ComputingPlugin, judged: Sequence[tuple[Followed, rules.Verdict]]
) -> None:
    """Record what follows from the element's words. What pilots that never enrolled have said becomes their log."""
    waiting = [pilot.pilot_id for pilot, verdict in judged if verdict.becomes is PilotStatus.WAITING]
    endings = [(pilot.status, verdict.ends) for pilot, verdict in judged if verdict.ends is not None]
    if not waiting and not endings:
        return
    mute = {
        pilot.external_id: pilot.pilot_id
        for pilot, verdict in judged
        if verdict.ends is not None and pilot.running_s is None and pilot.external_id
    }
    texts = await plugin.output(list(mute)) if mute else {}
    async with context.db.transaction() as tx:
        await service.note_waiting(tx, waiting)
        ended = await service.end_pilots(tx, endings)
        await service.keep_output(tx, {mute[each]: text for each, text in texts.items() if text})
    if ended:
        context.log.warning("pilots-ended", extra={"plugin": plugin.name, "pilot_ids": ended})


def plugin_for(element: ComputingElement, settings: Settings) -> ComputingPlugin:
    """The plugin object of an element of the operations data."""
    return plugin_named(element.plugin)(
        ElementSettings(
            name=element.name,
            site=element.site,
            options=element.options,
            directory=settings.ce_dir / element.name,
            url=settings.url,
            secrets=settings.data_dir / "secrets" / "computing",
        )
    )


def launches_for(order: Order, settings: Settings) -> list[PilotLaunch]:
    """What the element needs to start the pilots of an order. Writes the pilot's bundle where it is not there yet."""
    element = order.element
    ca_pem = settings.ca_file.read_text(encoding="ascii") if settings.ca_file else ""
    return [
        PilotLaunch(
            pilot_id=pilot.pilot_id,
            secret=pilot.secret,
            url=settings.url,
            ca_pem=ca_pem,
            vo=pilot.vo,
            cores=element.cores,
            memory_bytes=element.memory_bytes,
            wall_s=element.wall_s,
            tags=rules.tags_of(element),
            idle_s=float(element.options.get("idle_s", 15)),
            grace_s=float(element.options.get("drain_s", 20)),
            bundle=_bundle(settings.ce_dir),
        )
        for pilot in order.pilots
    ]


def _bundle(directory: Path) -> Path:
    """The pilot as one file, below the name of its content: workers of two versions do not disturb each other."""
    data = bundle.content()
    target = directory / "bundles" / hashlib.sha256(data).hexdigest()[:16] / bundle.NAME
    if not target.exists():
        bundle.build(target)
    return target


CHORES = [
    # Several may run at a time, so that a killed worker or a slow element does not hold up the rest: planning takes
    # turns in the database, and following is made of compare-and-set.
    chore("pilots.submit", submit_pilots, every_s=1, timeout_s=120, retries=0, concurrency=4),
    chore(FOLLOW_CHORE, follow_pilots, every_s=5, timeout_s=120, retries=0, concurrency=4),
]
