"""The verbs of the status of sites and elements."""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from spinor.access import Caller, Scope
from spinor.db import Database, Tx
from spinor.errors import BadInput, Denied, NotFound
from spinor.resources import store as resources_store
from spinor.resources.status import rules, store
from spinor.resources.status.models import (
    ChangeStatus,
    Decided,
    DueProbe,
    ElementKind,
    ElementStatus,
    Present,
    RefusedChange,
    Status,
    StatusChange,
    StatusesChanged,
)
from spinor.resources.status.rules import SERVICE
from spinor.signals import notify

CHANGED = "resources:status"  # The topic of every change; `ce:<ce_id>` is that of one element's pilots.
_FRESH_S = 1.0


class UnknownElement(NotFound):
    """There is no such site or element for your VO; see `spinor site list`, `spinor ce list` and `spinor se list`."""

    code = "unknown-element"


class NotAdministrator(Denied):
    """You do not look after this site: its administrators are named in the operations data."""

    code = "not-administrator"


async def status_of(tx: Tx) -> Mapping[str, Status]:
    """By name, the sites and computing elements that are not active. An element is as bad as its site at least."""
    held = await store.list_statuses(tx)
    sites = {each.name: each.status for each in held if each.kind is ElementKind.SITE}
    found = dict(sites)
    for each in held:
        if each.kind is ElementKind.CE:
            found[each.name] = rules.worst(each.status, found.get(each.name, Status.ACTIVE))
    if sites:
        for name, site in await store.list_places(tx, list(sites)):
            found[name] = rules.worst(found.get(name, Status.ACTIVE), sites[site])
    return found


class StatusBoard:
    """A part of the server's state: the statuses as they were a moment ago."""

    def __init__(self) -> None:
        self._read_at = float("-inf")
        self._statuses: Mapping[str, Status] = {}

    async def statuses(self, tx: Tx) -> Mapping[str, Status]:
        """As `status_of` tells, at most a second old."""
        if time.monotonic() - self._read_at > _FRESH_S:
            self._statuses = await status_of(tx)
            self._read_at = time.monotonic()
        return self._statuses

    async def fresh_statuses(self, db: Database) -> Mapping[str, Status]:
        """The same for whoever has no connection at hand, and mostly needs none."""
        if time.monotonic() - self._read_at <= _FRESH_S:
            return self._statuses
        async with db.statements() as reads:
            return await self.statuses(reads)

    def forget(self) -> None:
        """Look again at the next question: somebody said that something changed."""
        self._read_at = float("-inf")


async def statuses(tx: Tx, caller: Caller, kind: ElementKind | None = None, name: str = "") -> list[ElementStatus]:
    """What holds for the sites, and for the elements that the caller's VO may use or the caller looks after.

    UnknownElement when a name was given and nothing is there.
    """
    everything = caller.may(Scope.RESOURCES_MANAGE)
    found = await store.list_visible(tx, caller.vo_id, kind, name, everything=everything)
    if name and not found:
        raise UnknownElement(
            f"There is no {kind.value if kind else 'site or element'} {name!r} for your VO.", name=name
        )
    return found


async def status_history(tx: Tx, caller: Caller, kind: ElementKind | None, name: str, limit: int) -> list[StatusChange]:
    """The changes, newest first: of one element, or of all that the caller sees."""
    seen = {(each.kind, each.name) for each in await statuses(tx, caller, kind, name)}
    changes = await store.list_changes(tx, kind, name, limit)
    return [change for change in changes if (change.kind, change.name) in seen]


async def change_status(tx: Tx, caller: Caller, asked: ChangeStatus) -> StatusesChanged:
    """Change what may be changed, and say why the rest may not."""
    if asked.until is not None:
        if asked.until.tzinfo is None or asked.until <= datetime.now(UTC):
            raise BadInput("until: must be a time to come, with its time zone.", field="until")
        if asked.status in (Status.ACTIVE, Status.PROBING):
            raise BadInput("until: only what is degraded, drained or banned ends by itself.", field="until")
    if asked.accesses and asked.kind is not ElementKind.SE:
        raise BadInput("accesses: only storage elements have them.", field="accesses")
    refused: list[RefusedChange] = []
    decided: list[Decided] = []
    names = sorted(set(asked.names))
    present = await store.lock_present(tx, asked.kind, names)
    for name in names:
        rows = _chosen(asked, [row for row in present if row.name == name])
        try:
            decided += [_decided(caller, asked, row) for row in rows]
            if not rows:
                raise _unknown(asked.kind, name)
        except (UnknownElement, NotAdministrator, rules.StatusRefused) as error:
            refused.append(RefusedChange(name=name, code=error.code, detail=error.message))
    await _write(tx, asked.kind, decided)
    shown = {(each.name, each.access) for each in decided}
    visible = await store.list_visible(tx, caller.vo_id, asked.kind, "", everything=True)
    return StatusesChanged(done=[each for each in visible if (each.name, each.access) in shown], refused=refused)


def _chosen(asked: ChangeStatus, rows: list[Present]) -> list[Present]:
    """Of a storage element the kinds of access that were named, or all; those that are active need no resuming."""
    if asked.accesses:
        return [row for row in rows if row.access in asked.accesses]
    if asked.status is Status.ACTIVE and len(rows) > 1:
        return [row for row in rows if row.status is not Status.ACTIVE] or rows[:1]
    return rows


async def require_administrator(tx: Tx, caller: Caller, kind: ElementKind, name: str) -> None:
    """UnknownElement or NotAdministrator, when the caller does not look after this site or element."""
    rows = await store.lock_present(tx, kind, [name])
    if not rows:
        raise _unknown(kind, name)
    _require_administrator(caller, rows[0])


def _decided(caller: Caller, asked: ChangeStatus, present: Present) -> Decided:
    _require_administrator(caller, present)
    made = rules.decide(present, asked.status, asked.reason, caller.user)
    return msgspec.structs.replace(made, until=asked.until)


def _unknown(kind: ElementKind, name: str) -> UnknownElement:
    return UnknownElement(f"There is no {kind.value} {name!r}; see `spinor {kind.value} list`.", name=name)


def _require_administrator(caller: Caller, present: Present) -> None:
    if caller.may(Scope.RESOURCES_OPERATE) or caller.user in present.administrators:
        return
    raise NotAdministrator(
        f"{caller.user} does not look after site {present.site or '(none)'}: the operations data name no such "
        f"administrator (sites.{present.site}.administrators), and group {caller.group!r} is not the operators'.",
        name=present.name,
    )


async def suspect(tx: Tx, ce: str, reason: str) -> bool:
    """Take a computing element out of use by itself until a probe succeeds; whether it was in use."""
    (row,) = await store.lock_present(tx, ElementKind.CE, [ce]) or (None,)
    if row is None or row.status not in rules.USABLE:
        return False
    pause_s = rules.FIRST_PROBE_PAUSE_S
    decided = Decided(name=ce, status=Status.PROBING, reason=reason, actor=SERVICE, probe_in_s=pause_s)
    await _write(tx, ElementKind.CE, [decided])
    return True


async def end_what_is_over(tx: Tx) -> list[str]:
    """Let statuses end whose time is over; the names."""
    ended: list[str] = []
    over = await store.list_over(tx)
    for kind in ElementKind:
        places = {(each.name, each.access) for each in over if each.kind is kind}
        rows = await store.lock_present(tx, kind, sorted({name for name, _ in places})) if places else []
        decided = [rules.at_its_end(row, SERVICE) for row in rows if (row.name, row.access) in places]
        await _write(tx, kind, decided)
        ended += [each.name for each in decided]
    return ended


async def due_probes(tx: Tx, pause_s: float) -> list[DueProbe]:
    """The probes that are due now, each told to one worker only; the next one is due after `pause_s` at the latest."""
    due = await store.list_due_probes(tx)
    return [each for each in due if await store.postpone_probe(tx, each.kind, each.name, pause_s)]


async def note_probe(
    tx: Tx, kind: ElementKind, name: str, *, succeeded: bool, reason: str, actor: str = SERVICE
) -> Status | None:
    """Draw the conclusion of a probe; the new status, or None when nothing follows from it."""
    (row,) = await store.lock_present(tx, kind, [name]) or (None,)
    if row is None:
        return None
    if row.status is Status.PROBING:
        made = rules.after_probe(row, succeeded=succeeded, reason=reason, actor=actor)
    elif actor == SERVICE and kind is ElementKind.CE:
        policy = await resources_store.find_fitness_policy(tx)
        made = rules.after_routine_probe(row, policy, succeeded=succeeded, reason=reason)
    else:
        made = None
    if made is None:
        return None
    await _write(tx, kind, [made])
    return made.status


async def _write(tx: Tx, kind: ElementKind, decided: Sequence[Decided]) -> None:
    if not decided:
        return
    await store.change_statuses(tx, kind, decided)
    affected = await store.list_affected(tx, kind, [each.name for each in decided])
    await notify(tx, CHANGED, *(f"ce:{ce_id}" for ce_id in affected))
