"""The rows of bytes that are to be deleted."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from spinor.catalog.store.statements import Q
from spinor.db import Tx, execute, fetch, fetch_rows, fetch_value


async def any_removals(tx: Tx, se_ids: Sequence[int]) -> bool:
    return bool(await fetch_value(tx, Q.any_removals, {"se_ids": list(se_ids)}))


async def find_removals(tx: Tx, places: Iterable[tuple[int, str]]) -> set[tuple[int, str]]:
    """All (se_id, PFN) about to be deleted in these (se_id, directory of PFNs) places."""
    ses, paths = zip(*places, strict=True)
    rows = await fetch_rows(tx, Q.find_removals, {"se_ids": list(ses), "paths": list(paths)})
    return {(se_id, pfn) for se_id, pfn in rows}


class DueRemoval(msgspec.Struct, frozen=True):
    """Bytes to delete, all in one directory of a storage element; `attempts` counts this one."""

    removal_id: int
    se_id: int
    path: str
    names: list[str]
    attempts: int


async def take_due_removals(tx: Tx, limit: int) -> list[DueRemoval]:
    return await fetch(tx, DueRemoval, Q.take_due_removals, {"limit": limit})


async def names_in_use(tx: Tx, removal_ids: Sequence[int]) -> set[tuple[int, str]]:
    """(removal_id, name) of bytes that a file has (again), and which must stay."""
    rows = await fetch_rows(tx, Q.names_in_use, {"removal_ids": list(removal_ids)})
    return {(removal_id, name) for removal_id, name in rows}


async def settle_removals(tx: Tx, left: Mapping[int, tuple[Sequence[str], str | None]]) -> None:
    """removal_id -> the names whose bytes are still there, and why."""
    values = {
        "removal_ids": list(left),
        "names": ["/".join(names) for names, _ in left.values()],
        "errors": [error for _, error in left.values()],
    }
    await execute(tx, Q.settle_removals, values)
