"""Probes at work: the first steps once, and a look at each that is under way every other second."""

import asyncio
import time
from typing import Any

from spinor.chores import Chore, ChoreContext, chore
from spinor.errors import SpinorError
from spinor.pilots import service as pilots
from spinor.pilots.launching import launches_for, plugin_for, words_of
from spinor.pilots.models import ElementState
from spinor.pilots.plugin import TIMEOUT_S, ComputingPlugin
from spinor.pilots.probes import rules, service
from spinor.pilots.probes.models import ProbeRow, Step, StepState
from spinor.pilots.service.factory import Order
from spinor.resources import service as resources
from spinor.resources.models import ComputingElement


async def advance_probes(context: ChoreContext, _: dict[str, Any]) -> None:
    """One look at all probes that are under way."""
    async with context.db.transaction() as tx:
        await service.start_due_probes(tx)
        rows = await service.open_probes(tx)
        elements = {each.ce_id: each for each in await resources.computing_elements(tx, with_retired=True)}
    await asyncio.gather(*(_advance(context, row, elements[row.ce_id]) for row in rows))


async def start_routine_probes(context: ChoreContext, _: dict[str, Any]) -> None:
    """Send jobs of this service's own to elements that nothing shows to work."""
    async with context.db.transaction() as tx:
        started = await service.start_routine_probes(tx)
    if started:
        context.log.info("probes-begun", extra={"computing_elements": started})


async def _advance(context: ChoreContext, row: ProbeRow, element: ComputingElement) -> None:
    try:
        if row.phase == "new":
            async with context.db.transaction() as tx:
                mine = await service.begin(tx, row)
            if mine:
                await _begin(context, row, element)
        elif row.phase == "following":
            await _ask(context, row, element)
        async with context.db.transaction() as tx:
            fresh = next((each for each in await service.open_probes(tx) if each.probe_id == row.probe_id), None)
            if fresh is None:
                return
            over = await service.note_steps(tx, fresh, rules.steps_of(await service.look(tx, fresh)))
        if over:
            await service.clean_up(context.db, fresh)
    except Exception:
        # The next look begins anew, and a probe that gets nowhere ends with its time.
        context.log.exception("probe-not-advanced", extra={"probe_id": row.probe_id, "computing_element": row.ce})


async def _begin(context: ChoreContext, row: ProbeRow, element: ComputingElement) -> None:
    """The steps until the element has the pilot."""
    prelude = [_described(element)]
    plugin: ComputingPlugin | None = None
    began = time.monotonic()
    if prelude[-1].state is StepState.OK:
        try:
            plugin = plugin_for(element, context.settings)
            prelude.append(_ok("plugin options", f"plugin {element.plugin} accepts them", began))
        except SpinorError as error:
            prelude.append(Step(name="plugin options", state=StepState.FAILED, detail=error.message))
    if plugin is not None:
        prelude.append(await _contact(plugin))
    if plugin is None or prelude[-1].state is StepState.FAILED:
        missing = [Step(name=name, state=StepState.SKIPPED) for name in rules.PRELUDE[len(prelude) :]]
        async with context.db.transaction() as tx:
            await service.note_prelude(tx, row, [*prelude, *missing])
        return
    async with context.db.transaction() as tx:
        order = await service.record_intent(tx, row, element, prelude)
    await _submit(context, plugin, order, service.with_pilot(row, order.pilots[0].pilot_id))


def _described(element: ComputingElement) -> Step:
    name = "operations data"
    if element.retired_at is not None:
        return Step(name=name, state=StepState.FAILED, detail=f"{element.name} is not in them any more")
    vos = ", ".join(element.vos)
    detail = (
        f"{element.name} at {element.site}: plugin {element.plugin}, {element.cores} cores, "
        f"{element.memory_bytes / 1e9:.1f} GB, {element.wall_s} s, at most {element.max_pilots} pilots, for {vos}"
    )
    return Step(name=name, state=StepState.OK, detail=detail)


async def _contact(plugin: ComputingPlugin) -> Step:
    """Whether the element answers and accepts who asks: by a question for a pilot that was never there."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await plugin.find([0])
    except Exception as error:  # noqa: BLE001 - whatever a plugin does is what this step is to tell.
        return Step(name="contact", state=StepState.FAILED, detail=words_of(error), took_s=_since(began))
    return _ok("contact", "the element answers and accepts the credentials", began)


async def _submit(context: ChoreContext, plugin: ComputingPlugin, order: Order, row: ProbeRow) -> None:
    (pilot,) = order.pilots
    try:
        launches = await asyncio.to_thread(launches_for, order, context.settings)
        async with asyncio.timeout(TIMEOUT_S):
            (submitted,) = await plugin.submit(launches)
        if submitted.external_id is None:
            raise pilots.SubmissionRefused(submitted.error)  # noqa: TRY301
    except Exception as error:  # noqa: BLE001 - whatever a plugin does is what this step is to tell.
        async with context.db.transaction() as tx:
            await service.give_up(tx, row, error)
        return
    async with context.db.transaction() as tx:
        await pilots.record_submissions(tx, {pilot.pilot_id: submitted.external_id})


async def _ask(context: ChoreContext, row: ProbeRow, element: ComputingElement) -> None:
    """What the element says of the pilot, until it has been started."""
    async with context.db.transaction() as tx:
        facts = (await service.look(tx, row)).pilot
    if facts is None or facts.external_id is None or facts.enrolled_at is not None or facts.ended_at is not None:
        return
    plugin = plugin_for(element, context.settings)
    async with asyncio.timeout(TIMEOUT_S):
        said = (await plugin.status([facts.external_id])).get(facts.external_id, ElementState.UNKNOWN)
    if said is not row.said:
        async with context.db.transaction() as tx:
            await service.note_said(tx, row, said)


def _ok(name: str, detail: str, began: float) -> Step:
    return Step(name=name, state=StepState.OK, detail=detail, took_s=_since(began))


def _since(began: float) -> float:
    return round(time.monotonic() - began, 3)


CHORES: list[Chore] = [
    chore(service.CHORE, advance_probes, every_s=2, timeout_s=180, retries=0, concurrency=2),
    chore("pilots.start_routine_probes", start_routine_probes, every_s=60, timeout_s=60, retries=0, concurrency=1),
]
