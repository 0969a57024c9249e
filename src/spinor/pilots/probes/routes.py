"""Probes over HTTP: start, then follow."""

import time

from spinor.access import Caller, Scope
from spinor.chores import enqueue
from spinor.db import Database, Tx
from spinor.http import Routes, State
from spinor.pilots.probes import service
from spinor.pilots.probes.models import Probe, ProbeQuery, StartProbes
from spinor.signals import Signals

routes = Routes("pilots")


@routes.post("/api/probes", scope=Scope.RESOURCES_MANAGE, status=201)
async def start_probes(tx: Tx, caller: Caller, body: StartProbes) -> list[Probe]:
    """Begin to probe computing elements with a pilot and a job of their own each."""
    started = await service.start_probes(tx, caller, body)
    await enqueue(tx, service.CHORE, dedupe_key="now")
    return started


@routes.get("/api/probes/{probe_id}", scope=Scope.RESOURCES_READ)
async def show_probe(db: Database, state: State, caller: Caller, probe_id: int, query: ProbeQuery) -> Probe:
    """Show the steps of a probe; waits up to `wait_s` for news."""
    end = time.monotonic() + query.wait_s
    async with state[Signals].subscribed(service.topic(probe_id)) as event:
        while True:
            async with db.transaction() as tx:
                found = await service.probe(tx, caller, probe_id)
            left_s = end - time.monotonic()
            if found.version != query.seen or found.ended_at is not None or left_s <= 0:
                return found
            await state[Signals].wait(event, left_s)
