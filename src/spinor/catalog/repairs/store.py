"""The rows of repairs: one function per query."""

from collections.abc import AsyncGenerator, Sequence

import msgspec
import pyarrow as pa

from spinor.access import Caller
from spinor.catalog.replicas.store import Place
from spinor.db import Queries, Tx, array_text, execute, fetch, fetch_rows
from spinor.tables import stream_tables

Q = Queries("spinor.catalog.repairs")

REPLICAS = pa.schema(
    [
        ("pfn", pa.string()), ("lfn", pa.string()), ("size_bytes", pa.int64()), ("adler32", pa.int64()),
        ("status", pa.string()), ("created_at", pa.timestamp("us", "UTC")),
    ]
)  # fmt: skip
REMOVALS = pa.schema([("pfn", pa.string())])

Places = Sequence[tuple[str, str]]  # (directory of PFNs, name)


class Pending(msgspec.Struct, frozen=True):
    removal_id: int
    path: str
    names: list[str]


def replicas_on(tx: Tx, caller: Caller, se_id: int, path: str | None) -> AsyncGenerator[pa.Table, None]:
    values = {"vo_id": caller.vo_id, "se_id": se_id, "path": path}
    return stream_tables(tx, Q.replicas_on, values, REPLICAS)


def removals_on(tx: Tx, caller: Caller, se_id: int) -> AsyncGenerator[pa.Table, None]:
    return stream_tables(tx, Q.removals_on, {"vo_id": caller.vo_id, "se_id": se_id}, REMOVALS)


async def patiently(tx: Tx) -> None:
    """A stream lasts as long as its reader takes."""
    await execute(tx, "SET LOCAL statement_timeout = 0")


async def pending_among(tx: Tx, se_id: int, places: Places) -> set[int]:
    """The numbers of those, from 0."""
    return {n - 1 for (n,) in await fetch_rows(tx, Q.pending_among, {"se_id": se_id, **_columns(places)})}


async def shared_among(tx: Tx, se_id: int, places: Sequence[Place]) -> list[int]:
    """The numbers, from 0, of those that more than one file has."""
    pairs = [(place.path, place.name) for place in places]
    return [n - 1 for (n,) in await fetch_rows(tx, Q.shared_among, {"se_id": se_id, **_columns(pairs)})]


async def queue_removals(tx: Tx, caller: Caller, se_id: int, places: Places, delay_s: int) -> None:
    values = {"vo_id": caller.vo_id, "se_id": se_id, "delay_s": delay_s, **_columns(places)}
    await execute(tx, Q.queue_removals, values)


async def lock_removals(tx: Tx, caller: Caller, se_id: int, paths: Sequence[str]) -> list[Pending]:
    values = {"vo_id": caller.vo_id, "se_id": se_id, "paths": array_text(paths)}
    return await fetch(tx, Pending, Q.lock_removals, values)


async def change_removals(tx: Tx, caller: Caller, left: dict[int, list[str]]) -> None:
    """removal_id -> the names that are left."""
    values = {"removal_ids": list(left), "names": [array_text(names) for names in left.values()]}
    await execute(tx, Q.change_removals, {"vo_id": caller.vo_id, **values})


async def set_checksums(tx: Tx, caller: Caller, adler32: dict[int, str | None]) -> None:
    """file_id -> its adler32."""
    numbers = [None if text is None else int(text, 16) for text in adler32.values()]
    values = {"file_ids": array_text(adler32), "adler32": array_text(numbers)}
    await execute(tx, Q.set_checksums, {"vo_id": caller.vo_id, **values})


def _columns(places: Places) -> dict[str, str]:
    return {
        "paths": array_text([path for path, _ in places]),
        "names": array_text([name for _, name in places]),
    }
