"""Look files up by their names."""

from collections.abc import Sequence
from typing import TypeVar

from spinor.access import Caller
from spinor.catalog import rules, store
from spinor.catalog.errors import UnknownLFN
from spinor.catalog.models import FileLocation, FileStat
from spinor.db import Tx
from spinor.search.expression import shown

_SHOWN = 5
Row = TypeVar("Row", FileStat, FileLocation)


async def stat_files(tx: Tx, caller: Caller, lfns: Sequence[str]) -> list[FileStat]:
    """What is known of each file, in the order asked. Raises UnknownLFN naming the first missing ones."""
    found = await store.stat_files(tx, caller, [rules.split_lfn(lfn, caller.vo) for lfn in lfns])
    if len(found) < len(lfns):
        await refuse_missing(tx, caller, lfns, {str(row.lfn) for row in found})
    return found


async def locate_files(tx: Tx, caller: Caller, lfns: Sequence[str]) -> list[FileLocation]:
    """A row per replica of each file, in the order asked; a file without replicas has one row without a
    storage element. Raises UnknownLFN."""
    found = await store.locate_files(tx, caller, [rules.split_lfn(lfn, caller.vo) for lfn in lfns])
    there: set[str] = {row.lfn for row in found}
    if len(there) < len(set(lfns)):
        await refuse_missing(tx, caller, lfns, there)
    return found


async def refuse_missing(tx: Tx, caller: Caller, lfns: Sequence[str], there: set[str]) -> None:
    """Raise UnknownLFN with the first missing ones and their number."""
    missing = [lfn for lfn in dict.fromkeys(lfns) if lfn not in there]
    directories = await store.find_directories(tx, caller, missing[:_SHOWN])
    named = ", ".join(shown(lfn) + (" (a directory)" if lfn in directories else "") for lfn in missing[:_SHOWN])
    more = f" and {len(missing) - _SHOWN:,} more" if len(missing) > _SHOWN else ""
    raise UnknownLFN(
        f"Not a file in the catalog: {named}{more}; see `spinor file ls`.", lfns=missing[:100], count=len(missing)
    )
