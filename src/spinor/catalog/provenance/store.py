"""The rows of provenance: one function per query."""

from collections.abc import Sequence
from typing import Any

import msgspec

from spinor.access import Caller
from spinor.db import Queries, Query, Tx, array_text, execute, fetch, fetch_rows, fetch_value

Q = Queries("spinor.catalog.provenance")


class FoundFile(msgspec.Struct, frozen=True):
    n: int
    lfn: str
    file_id: int
    access_id: int
    gate_id: int


async def find_files(tx: Tx, caller: Caller, places: Sequence[tuple[str, str]]) -> list[FoundFile]:
    """Those of the (directory, name) pairs that are files, in the order given."""
    values = {
        "directories": array_text([directory for directory, _ in places]),
        "names": array_text([name for _, name in places]),
    }
    return await fetch(tx, FoundFile, Q.find_files, {"vo_id": caller.vo_id, **values})


async def keep_files(tx: Tx, caller: Caller, file_ids: Sequence[int]) -> set[int]:
    """Those of the files that nobody removes until the end of the transaction."""
    values = {"vo_id": caller.vo_id, "file_ids": list(file_ids)}
    return {row[0] for row in await fetch_rows(tx, Q.keep_files, values)}


async def hold_lineage(tx: Tx, caller: Caller) -> None:
    await execute(tx, Q.hold_lineage, {"vo_id": caller.vo_id})


async def relatives(
    tx: Tx, caller: Caller, query: Query, file_ids: Sequence[int], *, depth: int | None, limit: int
) -> list[tuple[Any, ...]]:
    """Rows of `ancestors` or `descendants`: start, LFN, depth, access_id, gate_id; the nearest first."""
    values = {"vo_id": caller.vo_id, "file_ids": list(file_ids), "depth": depth, "limit": limit}
    return await fetch_rows(tx, query, values)


async def cut(tx: Tx, caller: Caller, file_ids: Sequence[int]) -> None:
    await execute(tx, Q.cut, {"vo_id": caller.vo_id, "file_ids": list(file_ids)})


async def link(tx: Tx, caller: Caller, links: Sequence[tuple[int, int]]) -> None:
    """Pairs of (file_id, ancestor_id). Both must be kept from going."""
    values = {"file_ids": [child for child, _ in links], "ancestor_ids": [ancestor for _, ancestor in links]}
    await execute(tx, Q.link, {"vo_id": caller.vo_id, **values})


async def find_cycle(tx: Tx, caller: Caller, file_ids: Sequence[int]) -> int | None:
    found = await fetch_value(tx, Q.find_cycle, {"vo_id": caller.vo_id, "file_ids": list(file_ids)})
    return None if found is None else int(found)


async def links_above(tx: Tx, caller: Caller, file_id: int) -> list[tuple[int, int]]:
    rows = await fetch_rows(tx, Q.links_above, {"vo_id": caller.vo_id, "file_id": file_id})
    return [(child, ancestor) for child, ancestor in rows]


async def names_of(tx: Tx, caller: Caller, file_ids: Sequence[int]) -> dict[int, str]:
    return dict(await fetch_rows(tx, Q.names_of, {"vo_id": caller.vo_id, "file_ids": list(file_ids)}))
