"""Look files up by their names."""

from collections.abc import Sequence
from typing import Any

from psycopg.pq import TransactionStatus

from spinor.access import Caller
from spinor.catalog import rules, store
from spinor.catalog.errors import FileDenied, UnknownLFN
from spinor.catalog.models import FileStat, LocatedFile, LocatedReplica, ReplicaStatus
from spinor.catalog.service.directories import refusal, require_ways
from spinor.catalog.service.permissions import Permissions, permissions
from spinor.db import Tx
from spinor.errors import SpinorError
from spinor.search.expression import shown
from spinor.types import LFN

_SHOWN = 5
_REMEMBERED = 500_000
_AVAILABLE = ReplicaStatus.AVAILABLE


async def stat_files(tx: Tx, caller: Caller, lfns: Sequence[str]) -> list[FileStat]:
    """What is known of each file, in the order asked. Raises UnknownLFN naming the first missing ones, FileDenied."""
    found = await store.stat_files(tx, caller, [rules.split_lfn(lfn, caller.vo) for lfn in lfns])
    if len(found) < len(lfns):
        await refuse_missing(tx, caller, lfns, {str(row.lfn) for row in found})
    mine = await permissions(tx, caller)
    await mine.learn({row.access_id for row in found}, {row.gate_id for row in found})
    for row in found:
        if not mine.may_read(row.access_id, row.gate_id):
            raise await unreadable(tx, mine, row.lfn, row.gate_id)
    return [FileStat(**{name: getattr(row, name) for name in FileStat.__struct_fields__}) for row in found]


async def locate_files(tx: Tx, caller: Caller, lfns: Sequence[str]) -> list[LocatedFile]:
    """All replicas of each file, of any status, in the order asked. Raises UnknownLFN, FileDenied."""
    rows = await store.locate_files(tx, caller, [rules.split_lfn(lfn, caller.vo) for lfn in lfns])
    if len(rows) < len(lfns):
        await refuse_missing(tx, caller, lfns, {lfns[row[0] - 1] for row in rows})
    await _refuse_unreadable(tx, caller, rows, lfns)
    places = await _locations(tx, {(row[10], se) for row in rows if not row[6] or None in row[6] for se in row[5]})
    found: list[LocatedFile | None] = [None] * len(lfns)
    for n, file_id, size_bytes, adler32, sha256, se_ids, pfns, statuses, _, _, directory_id in rows:
        lfn = lfns[n - 1]
        name = lfn.rpartition("/")[2]
        replicas = []
        for k, se_id in enumerate(se_ids):
            if pfns is None or (pfn := pfns[k]) is None:
                place = places[directory_id, se_id]
                pfn = f"{place}/{name}" if place else name
            replicas.append(LocatedReplica(se_id, pfn, ReplicaStatus(statuses[k]) if statuses else _AVAILABLE))
        found[n - 1] = LocatedFile(
            LFN(lfn), file_id, size_bytes, None if adler32 is None else f"{adler32 & 0xFFFFFFFF:08x}",
            None if sha256 is None else sha256.hex(), replicas,
        )  # fmt: skip
    return [file for file in found if file is not None]


async def _locations(tx: Tx, wanted: set[tuple[int, int]]) -> dict[tuple[int, int], str]:
    """Where the directories' files lie, by (directory_id, se_id). That is said once and never changed, so what was
    committed when it was read is remembered."""
    known: dict[tuple[int, int], str] = tx.memory.setdefault("locations", {})
    missing = {place[0] for place in wanted if place not in known}
    if not missing:
        return known
    found = await store.find_locations(tx, list(missing))
    if tx.info.transaction_status is not TransactionStatus.IDLE:
        return {place: found.get(place) or known.get(place, "") for place in wanted}
    if len(known) > _REMEMBERED:
        # A new one, since other requests are just reading in the old.
        known = tx.memory["locations"] = {place: known[place] for place in wanted if place in known}
    known.update(found)
    return known


async def _refuse_unreadable(tx: Tx, caller: Caller, rows: Sequence[tuple[Any, ...]], lfns: Sequence[str]) -> None:
    """Rows of `locate_files`. They are many, and their accesses few."""
    mine = await permissions(tx, caller)
    kinds = {(row[8], row[9]) for row in rows}
    await mine.learn({access_id for access_id, _ in kinds}, {gate_id for _, gate_id in kinds})
    closed = {kind for kind in kinds if not mine.may_read(*kind)}
    for row in rows if closed else ():
        if (row[8], row[9]) in closed:
            raise await unreadable(tx, mine, lfns[row[0] - 1], row[9])


def file_denied(lfn: str) -> FileDenied:
    return FileDenied(f"You may not read {shown(lfn)}; see `spinor file getfacl`, or ask its owner.", lfn=lfn)


async def unreadable(tx: Tx, mine: Permissions, path: str, gate_id: int) -> SpinorError:
    """Why a file that is there may not be read; behind a closed gate the answer is that of one that is not there."""
    if mine.passes(gate_id):
        return file_denied(path)
    around = await store.find_directories(tx, mine.caller, [path.rpartition("/")[0]])
    return await refusal(tx, mine, next(iter(around.values())), "reach what is in")


async def refuse_missing(tx: Tx, caller: Caller, lfns: Sequence[str], there: set[str]) -> None:
    """Raise UnknownLFN with the first missing ones and their number; what is behind a closed gate is denied instead."""
    missing = [lfn for lfn in dict.fromkeys(lfns) if lfn not in there]
    await require_ways(tx, caller, missing)
    directories = await store.find_directories(tx, caller, missing[:_SHOWN])
    named = ", ".join(shown(lfn) + (" (a directory)" if lfn in directories else "") for lfn in missing[:_SHOWN])
    more = f" and {len(missing) - _SHOWN:,} more" if len(missing) > _SHOWN else ""
    raise UnknownLFN(
        f"Not a file in the catalog: {named}{more}; see `spinor file ls`.", lfns=missing[:100], count=len(missing)
    )
