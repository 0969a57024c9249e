"""Nodes on which pilots cannot work, and elements that have too many of them."""

import logging
from collections.abc import Sequence

from spinor.access import Caller, Scope
from spinor.db import Tx
from spinor.errors import NotFound
from spinor.jobs import service as jobs
from spinor.pilots import rules, store
from spinor.pilots.models import Finding, MaskNodes, NodeMask, Purpose
from spinor.resources import service as resources
from spinor.resources.status import service as statuses
from spinor.resources.status.models import ElementKind
from spinor.signals import notify

SERVICE = "spinor"  # Who masks a node that nobody has looked at.

_log = logging.getLogger(__name__)


class UnknownNode(NotFound):
    """None of these nodes is masked; see `spinor ce nodes`."""

    code = "unknown-node"


async def report_unfit(tx: Tx, caller: Caller, diagnosis: Sequence[Finding]) -> None:
    """End a pilot that cannot work on its node, and take the node, then its element, out of use when that repeats.

    Saying it twice is harmless.
    """
    assert caller.pilot_id is not None
    words = [f"{each.check}: {each.detail}" if each.detail else each.check for each in diagnosis]
    reason = f"node unfit: {'; '.join(words)}"
    pilot = await store.report_unfit(tx, caller, reason[:1000], diagnosis)
    if pilot is None:
        return
    await jobs.release_jobs_of_pilot(tx, caller.pilot_id, f"given back by its pilot: {reason[:500]}")
    if pilot.purpose is Purpose.PROBE:
        return
    policy = await resources.fitness_policy(tx)
    count = await store.count_unfit(tx, pilot.ce_id, pilot.hostname, policy.window_s)
    if pilot.hostname and count.on_node >= policy.pilots_of_node:
        why = f"{count.on_node} pilots found it unfit, the last one: {reason}"
        await _mask(tx, pilot.ce_id, pilot.hostname, why[:1000], SERVICE, policy.mask_s)
    if count.nodes >= policy.nodes:
        why = f"pilots found {count.nodes} nodes unfit within {policy.window_s} s, the last one: {reason}"
        if await statuses.suspect(tx, pilot.ce, why[:1000]):
            _log.warning("element-suspect", extra={"computing_element": pilot.ce, "reason": why[:1000]})


async def find_black_holes(tx: Tx) -> list[str]:
    """Mask the nodes that swallow jobs: the names of those that were found now, as `element/node`."""
    policy = await resources.fitness_policy(tx)
    within_s, shorter_s = policy.black_hole_window_s, policy.black_hole_job_s
    failures = await jobs.quick_failures(tx, within_s=within_s, shorter_s=shorter_s)
    failed = {each.pilot_id: each for each in failures}
    hosts: dict[tuple[int, str], list[store.HostOfPilot]] = {}
    for row in await store.list_hosts(tx, list(failed)) if failed else []:
        hosts.setdefault((row.ce_id, row.hostname), []).append(row)
    found = []
    for (ce_id, hostname), rows in hosts.items():
        bad = sum(failed[row.pilot_id].failed for row in rows)
        all_of_them = sum(failed[row.pilot_id].ended for row in rows)
        if not hostname or not rules.is_black_hole(bad, all_of_them, policy.black_hole_jobs):
            continue
        reason = (
            f"black hole: {bad} of {all_of_them} jobs failed there for reasons of the site within "
            f"{policy.black_hole_job_s} s each"
        )
        if await store.is_masked(tx, ce_id, hostname):
            continue
        await _mask(tx, ce_id, hostname, reason, SERVICE, policy.mask_s)
        found.append(f"{rows[0].ce}/{hostname}")
        masked = await store.count_masks(tx, ce_id)
        if masked >= policy.nodes:
            await statuses.suspect(tx, rows[0].ce, f"{masked} of its nodes are masked, the last one: {reason}")
    return found


async def masked_nodes(tx: Tx, caller: Caller, computing_element: str) -> list[NodeMask]:
    """The nodes whose pilots get no jobs now."""
    return await store.list_masks(tx, caller.vo_id, computing_element)


async def mask_nodes(tx: Tx, caller: Caller, asked: MaskNodes) -> list[str]:
    """Mask nodes by hand, or lift masks (`lasting_s` is 0); the nodes that this changed."""
    caller.require(Scope.RESOURCES_MANAGE)
    name = asked.computing_element
    await statuses.require_administrator(tx, caller, ElementKind.CE, name)
    if asked.lasting_s == 0:
        lifted = await store.unmask_nodes(tx, name, asked.hostnames)
        if not lifted:
            raise UnknownNode(f"None of these nodes of {name} is masked; see `spinor ce nodes {name}`.")
        return lifted
    elements = {element.name: element.ce_id for element in await resources.computing_elements(tx)}
    for hostname in asked.hostnames:
        await _mask(tx, elements[name], hostname, asked.reason, caller.user, asked.lasting_s)
    return list(asked.hostnames)


async def _mask(tx: Tx, ce_id: int, hostname: str, reason: str, actor: str, lasting_s: float) -> None:
    drained = await store.mask_node(tx, ce_id, hostname, reason=reason, actor=actor, lasting_s=lasting_s)
    if drained:
        await notify(tx, *(f"pilot:{pilot_id}" for pilot_id in drained))
    _log.warning("node-masked", extra={"ce_id": ce_id, "hostname": hostname, "reason": reason, "actor": actor})
