"""The rows of probes: one short function per query."""

from collections.abc import Sequence
from typing import Any

import msgspec

from spinor.db import Queries, Tx, execute, fetch, fetch_one, fetch_rows, fetch_value
from spinor.pilots.models import ElementState
from spinor.pilots.probes.models import PilotFacts, Probe, ProbeRow, Step

Q = Queries("spinor.pilots.probes")


class Idle(msgspec.Struct, frozen=True, kw_only=True):
    """An element that is to be probed, and the VO for which the probe runs."""

    ce_id: int
    name: str
    vo_id: int


async def insert_probes(tx: Tx, ce_ids: Sequence[int], columns: dict[str, Any]) -> list[int]:
    return [row[0] for row in await fetch_rows(tx, Q.insert_probes, {**columns, "ce_ids": list(ce_ids)})]


async def list_idle_elements(tx: Tx, every_s: float, service: str) -> list[Idle]:
    return await fetch(tx, Idle, Q.list_idle_elements, {"every_s": every_s, "service": service})


async def list_open(tx: Tx) -> list[ProbeRow]:
    return await fetch(tx, ProbeRow, Q.list_open)


async def begin(tx: Tx, probe_id: int) -> bool:
    """Whether nobody else has begun."""
    return bool(await fetch_rows(tx, Q.begin, {"probe_id": probe_id}))


async def set_pilot(tx: Tx, probe_id: int, pilot_id: int, job_id: int | None, prelude: Sequence[Step]) -> None:
    parameters = {"probe_id": probe_id, "pilot_id": pilot_id, "job_id": job_id, "prelude": _json(prelude)}
    await execute(tx, Q.set_pilot, parameters)


async def set_prelude(tx: Tx, probe_id: int, prelude: Sequence[Step]) -> None:
    await execute(tx, Q.set_prelude, {"probe_id": probe_id, "prelude": _json(prelude)})


async def set_said(tx: Tx, probe_id: int, said: ElementState, *, started: bool) -> None:
    await execute(tx, Q.set_said, {"probe_id": probe_id, "said": said, "started": started})


async def set_steps(tx: Tx, probe_id: int, steps: Sequence[Step], *, succeeded: bool | None) -> bool:
    """Whether it had not ended before."""
    parameters = {"probe_id": probe_id, "steps": _json(steps), "succeeded": succeeded}
    return bool(await fetch_rows(tx, Q.set_steps, parameters))


async def find_pilot_facts(tx: Tx, pilot_id: int) -> PilotFacts | None:
    return await fetch_one(tx, PilotFacts, Q.find_pilot_facts, {"pilot_id": pilot_id})


async def find_probe(tx: Tx, vo_id: int, probe_id: int) -> Probe | None:
    return await fetch_one(tx, Probe, Q.find_probe, {"vo_id": vo_id, "probe_id": probe_id})


async def find_job_of_pilot(tx: Tx, vo_id: int, pilot_id: int) -> int | None:
    job_id: int | None = await fetch_value(tx, Q.find_job_of_pilot, {"vo_id": vo_id, "pilot_id": pilot_id})
    return job_id


async def find_decided(tx: Tx, kind: str, name: str) -> bool:
    return bool(await fetch_value(tx, Q.find_decided, {"kind": kind, "name": name}))


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
