"""The rows of statuses: one short function per query."""

from collections.abc import Sequence

import msgspec
from psycopg.types.json import Jsonb

from spinor.db import Queries, Tx, execute, fetch, fetch_rows
from spinor.resources.status.models import (
    Access,
    Decided,
    DueProbe,
    ElementKind,
    ElementStatus,
    Present,
    Status,
    StatusChange,
)

Q = Queries("spinor.resources.status")


class Held(msgspec.Struct, frozen=True, kw_only=True):
    kind: ElementKind
    name: str
    status: Status


class Over(msgspec.Struct, frozen=True, kw_only=True):
    kind: ElementKind
    name: str
    access: Access | None


async def list_statuses(tx: Tx) -> list[Held]:
    return await fetch(tx, Held, Q.list_statuses)


async def list_places(tx: Tx, sites: Sequence[str]) -> list[tuple[str, str]]:
    """(computing element, site) of all elements of these sites."""
    return [(row[0], row[1]) for row in await fetch_rows(tx, Q.list_places, {"sites": list(sites)})]


async def list_visible(
    tx: Tx, vo_id: int, kind: ElementKind | None, name: str, *, everything: bool
) -> list[ElementStatus]:
    parameters = {"vo_id": vo_id, "kind": kind, "name": name, "everything": everything}
    return await fetch(tx, ElementStatus, Q.list_visible, parameters)


async def list_changes(tx: Tx, kind: ElementKind | None, name: str, limit: int) -> list[StatusChange]:
    return await fetch(tx, StatusChange, Q.list_changes, {"kind": kind, "name": name, "limit": limit})


async def lock_present(tx: Tx, kind: ElementKind, names: Sequence[str]) -> list[Present]:
    """Those that exist, locked; a row is made for each that never had one."""
    parameters = {"kind": kind, "names": list(names)}
    await execute(tx, Q.insert_missing, parameters)
    return await fetch(tx, Present, Q.lock_present, parameters)


async def change_statuses(tx: Tx, kind: ElementKind, decided: Sequence[Decided]) -> None:
    await execute(tx, Q.change_statuses, {"kind": kind, "decided": Jsonb(list(decided))})


async def list_affected(tx: Tx, kind: ElementKind, names: Sequence[str]) -> list[int]:
    return [row[0] for row in await fetch_rows(tx, Q.list_affected, {"kind": kind, "names": list(names)})]


async def list_over(tx: Tx) -> list[Over]:
    return await fetch(tx, Over, Q.list_over)


async def list_due_probes(tx: Tx) -> list[DueProbe]:
    return await fetch(tx, DueProbe, Q.list_due_probes)


async def postpone_probe(tx: Tx, kind: ElementKind, name: str, pause_s: float) -> bool:
    """Whether the probe was still due."""
    return bool(await fetch_rows(tx, Q.postpone_probe, {"kind": kind, "name": name, "pause_s": pause_s}))
