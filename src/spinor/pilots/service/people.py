"""What people see of pilots, and the one thing they can do to them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from spinor.access import Caller
from spinor.chores import enqueue
from spinor.db import Tx
from spinor.errors import NotFound
from spinor.jobs import service as jobs
from spinor.pilots import store
from spinor.pilots.models import Cancelled, ElementPilots, Pilot, PilotPage, PilotStatus, Refused
from spinor.search import Search
from spinor.search.page import compile_page
from spinor.signals import notify

FOLLOW_CHORE = "pilots.follow"
_CHUNKS = 64


class UnknownPilot(NotFound):
    """There is no such pilot in your VO."""

    code = "unknown-pilot"


async def search_pilots(tx: Tx, caller: Caller, search: Search) -> PilotPage:
    """Pilots of the caller's VO, a page at a time."""
    page = compile_page(search, store.FIELDS, "pilot_id", datetime.now(UTC))
    rows, after = page.split(await store.search_pilots(tx, caller.vo_id, page))
    return PilotPage(rows=rows, next=after)


async def pilot(tx: Tx, caller: Caller, pilot_id: int) -> Pilot:
    """One pilot of the caller's VO."""
    found = await store.find_pilot(tx, caller.vo_id, pilot_id)
    if found is None:
        raise UnknownPilot(f"There is no pilot {pilot_id} in VO {caller.vo!r}.", pilot_id=pilot_id)
    return found


async def pilot_log(tx: Tx, caller: Caller, pilot_id: int, position: int) -> bytes:
    """Bytes of a pilot's own log from a position on, some MiB at most; empty when there are no more."""
    await pilot(tx, caller, pilot_id)
    chunks = await store.read_log(tx, caller.vo_id, pilot_id, position, _CHUNKS)
    return b"".join(data[max(0, position - start) :] for start, data in chunks)


async def pilot_stats(tx: Tx, caller: Caller, last_s: int, computing_element: str) -> list[ElementPilots]:
    """By computing element, the VO's pilots: those alive now, and those of the last `last_s` seconds that ended."""
    since = datetime.now(UTC) - timedelta(seconds=last_s)
    found = {each.computing_element: each for each in await store.summarise_ended(tx, caller.vo_id, since)}
    for row in await store.count_alive(tx, caller.vo_id):
        new = ElementPilots(computing_element=row.computing_element, site=row.site)
        there = found.get(row.computing_element, new)
        name = "submitted" if row.status is PilotStatus.NEW else row.status.value
        found[row.computing_element] = replace(there, **{name: getattr(there, name) + row.pilots})
    for trouble in await store.list_trouble_of_vo(tx, caller.vo_id):
        name = trouble.computing_element
        there = found.get(name, ElementPilots(computing_element=name, site=trouble.site))
        facts = {"failures": trouble.failures, "next_try_at": trouble.next_try_at, "trouble": trouble.reason}
        found[name] = replace(there, **facts)
    rows = [_with_ratios(each) for _, each in sorted(found.items())]
    return [row for row in rows if computing_element in ("", row.computing_element)]


def _with_ratios(row: ElementPilots) -> ElementPilots:
    ended = row.done + row.failed + row.aborted
    if not ended:
        return row
    return replace(row, efficiency=(row.done - row.empty) / ended, jobs_per_pilot=row.jobs / ended)


async def cancel_pilots(tx: Tx, caller: Caller, pilot_ids: Sequence[int], reason: str) -> Cancelled:
    """End pilots: their jobs wait again at once, and the computing elements are asked to stop them."""
    why = f"cancelled by {caller.user}" + (f": {reason}" if reason else "")
    done = await store.cancel_pilots(tx, caller.vo_id, sorted(set(pilot_ids)), why)
    for pilot_id in done:
        await jobs.release_jobs_of_pilot(tx, pilot_id, f"its pilot was {why}")
    states = {each.pilot_id: each.status for each in await store.list_states(tx, caller.vo_id, pilot_ids)}
    refused = [
        _refused(pilot_id, states.get(pilot_id)) for pilot_id in dict.fromkeys(pilot_ids) if pilot_id not in done
    ]
    if done:
        await notify(tx, *(f"pilot:{pilot_id}" for pilot_id in done))
        await enqueue(tx, FOLLOW_CHORE, dedupe_key="now")
    return Cancelled(done=sorted(done), refused=refused)


def _refused(pilot_id: int, status: str | None) -> Refused:
    if status is None:
        return Refused(pilot_id=pilot_id, code=UnknownPilot.code, detail=f"There is no pilot {pilot_id} in your VO.")
    return Refused(pilot_id=pilot_id, code="pilot-ended", detail=f"Pilot {pilot_id} has ended: it is {status}.")
