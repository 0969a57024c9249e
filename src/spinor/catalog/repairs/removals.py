"""The catalog's side of a comparison, and bytes that nobody names: queue them for deletion, and take that back."""

import asyncio
import io
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import pyarrow as pa

from spinor.access import Caller, Scope
from spinor.catalog import rules
from spinor.catalog.errors import ReplicaReadOnly
from spinor.catalog.models import Outcome, Refusal
from spinor.catalog.repairs import store
from spinor.catalog.replicas import store as replicas_store
from spinor.catalog.replicas.store import Place
from spinor.catalog.service.directories import required_directory
from spinor.db import Database, Tx
from spinor.errors import SpinorError
from spinor.resources import service as resources
from spinor.search.expression import shown
from spinor.streaming import Pieces

ARROW = "application/vnd.apache.arrow.stream"
_LZ4 = pa.ipc.IpcWriteOptions(compression="lz4")
_BATCH_ROWS = 1 << 16


async def replicas_on(db: Database, caller: Caller, se: str, path: str | None) -> Pieces:
    """All replicas of the caller's VO on a storage element, at or below a path, as pieces of an Arrow stream.

    One statement reads them, so they are those of one moment. Raises UnknownStorageElement, UnknownDirectory.
    """
    async with db.transaction() as tx:
        element = await resources.storage_element(tx, caller, se)
        top = (await required_directory(tx, caller, path)).path if path is not None else None
        await store.patiently(tx)
        async with aclosing(_arrow(store.replicas_on(tx, caller, element.se_id, top), store.REPLICAS)) as pieces:
            async for piece in pieces:
                yield piece


async def removals_on(db: Database, caller: Caller, se: str) -> Pieces:
    """The PFNs that are to be deleted from a storage element for the caller's VO, as pieces of an Arrow stream."""
    async with db.transaction() as tx:
        element = await resources.storage_element(tx, caller, se)
        await store.patiently(tx)
        async with aclosing(_arrow(store.removals_on(tx, caller, element.se_id), store.REMOVALS)) as pieces:
            async for piece in pieces:
                yield piece


async def _arrow(tables: AsyncGenerator[pa.Table, None], schema: pa.Schema) -> Pieces:
    sink = io.BytesIO()
    writer = pa.ipc.new_stream(pa.PythonFile(sink, "w"), schema, options=_LZ4)
    async with aclosing(tables):
        async for table in tables:
            # Packing a piece takes a tenth of a second, in which the server answers others.
            await asyncio.to_thread(writer.write_table, table, _BATCH_ROWS)
            yield _emptied(sink)
    writer.close()
    yield _emptied(sink)


def _emptied(sink: io.BytesIO) -> bytes:
    data = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return data


async def unnamed(tx: Tx, caller: Caller, se: str, pfns: Sequence[str]) -> list[str]:
    """Those of the PFNs that no file of any VO has, and that are not about to be deleted."""
    element = await resources.storage_element(tx, caller, se)
    taken = await _taken(tx, element.se_id, pfns)
    return [pfn for pfn in pfns if pfn not in taken]


async def _taken(tx: Tx, se_id: int, pfns: Sequence[str]) -> dict[str, str]:
    """PFN -> what keeps it from being nobody's."""
    places = [_split(pfn) for pfn in pfns]
    used = await replicas_store.used_places(tx, [Place(se_id, path, name) for path, name in places])
    reasons = {f"{place.path}/{place.name}" if place.path else place.name: "used" for place in used}
    pending = await store.pending_among(tx, se_id, places)
    return {**{pfns[n]: "pending" for n in pending}, **reasons}


def _split(pfn: str) -> tuple[str, str]:
    path, _, name = pfn.rpartition("/")
    return path, name


async def queue_removals(tx: Tx, caller: Caller, se: str, pfns: Sequence[str], delay_s: int) -> Outcome:
    """Have bytes deleted that no file of any VO has; what is queued already is done. Raises ReplicaReadOnly.

    A file that is registered there meanwhile keeps its bytes: they are looked at again just before they are deleted.
    """
    caller.require(Scope.FILES_MANAGE)
    element = await resources.storage_element(tx, caller, se)
    if element.read_only:
        raise ReplicaReadOnly(f"{se} is read-only; nothing can be deleted from it.", se=se)
    refused: dict[str, tuple[str, str]] = {}
    for pfn in dict.fromkeys(pfns):
        try:
            rules.checked_pfn(pfn)
        except SpinorError as error:
            refused[pfn] = (error.code, error.message)
    good = [pfn for pfn in dict.fromkeys(pfns) if pfn not in refused]
    taken = await _taken(tx, element.se_id, good)
    for pfn, reason in taken.items():
        refused[pfn] = (
            ("place-taken", f"A file has its bytes at {shown(pfn)}.")
            if reason == "used"
            else ("already", f"{shown(pfn)} is to be deleted already.")
        )
    going = [pfn for pfn in good if pfn not in taken]
    if going:
        await store.queue_removals(tx, caller, element.se_id, [_split(pfn) for pfn in going], delay_s)
    return _outcome(going, refused)


async def cancel_removals(tx: Tx, caller: Caller, se: str, pfns: Sequence[str]) -> Outcome:
    """Keep bytes that were to be deleted. Refused where the deletion has begun, or is done."""
    caller.require(Scope.FILES_MANAGE)
    element = await resources.storage_element(tx, caller, se)
    wanted: dict[str, set[str]] = defaultdict(set)
    for pfn in pfns:
        path, name = _split(pfn)
        wanted[path].add(name)
    left: dict[int, list[str]] = {}
    kept: set[str] = set()
    for pending in await store.lock_removals(tx, caller, element.se_id, list(wanted)):
        if found := wanted[pending.path].intersection(pending.names):
            left[pending.removal_id] = [name for name in pending.names if name not in found]
            kept |= {f"{pending.path}/{name}" if pending.path else name for name in found}
    if left:
        await store.change_removals(tx, caller, left)
    reason = "is not waiting to be deleted: that was never asked for, is under way, or is done."
    refused = {pfn: ("not-waiting", f"{shown(pfn)} {reason}") for pfn in dict.fromkeys(pfns) if pfn not in kept}
    return _outcome([pfn for pfn in dict.fromkeys(pfns) if pfn in kept], refused)


def _outcome(done: Sequence[str], refused: dict[str, tuple[str, str]]) -> Outcome:
    return Outcome(
        done=list(done), refused=[Refusal(id=pfn, code=code, reason=reason) for pfn, (code, reason) in refused.items()]
    )
