"""Look files up by their names."""

from collections.abc import Sequence

from spinor.access import Caller
from spinor.catalog import rules, store
from spinor.catalog.errors import FileDenied, UnknownLFN
from spinor.catalog.models import FileStat, LocatedFile, LocatedReplica, ReplicaStatus
from spinor.catalog.service.directories import refusal, require_ways
from spinor.catalog.service.permissions import Permissions, permissions
from spinor.db import Tx
from spinor.errors import SpinorError
from spinor.search.expression import shown
from spinor.types import LFN, PFN

_SHOWN = 5


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
    mine = await permissions(tx, caller)
    await mine.learn({row[8] for row in rows}, {row[9] for row in rows})
    several = {row[10] for row in rows if len(row[5]) > 1}
    elsewhere = await store.find_locations(tx, list(several)) if several else {}
    found: list[LocatedFile | None] = [None] * len(lfns)
    for n, file_id, size_bytes, adler32, sha256, se_ids, pfns, statuses, access_id, gate_id, directory_id, path in rows:
        lfn = lfns[n - 1]
        if not mine.may_read(access_id, gate_id):
            raise await unreadable(tx, mine, lfn, gate_id)
        replicas = []
        for k, se_id in enumerate(se_ids):
            pfn = pfns[k] if pfns is not None else None
            if pfn is None:
                place = path if k == 0 else elsewhere[directory_id, se_id]
                name = lfn.rpartition("/")[2]
                pfn = f"{place}/{name}" if place else name
            status = _AVAILABLE if statuses is None else ReplicaStatus(statuses[k])
            replicas.append(LocatedReplica(se_id, PFN(pfn), status))
        found[n - 1] = LocatedFile(
            LFN(lfn), file_id, size_bytes, None if adler32 is None else f"{adler32 & 0xFFFFFFFF:08x}",
            None if sha256 is None else sha256.hex(), replicas,
        )  # fmt: skip
    return [file for file in found if file is not None]


_AVAILABLE = ReplicaStatus.AVAILABLE


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
