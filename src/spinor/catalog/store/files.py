"""The rows of files."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa
from psycopg import AsyncCursor

from spinor.access import Caller
from spinor.catalog.models import FileStat
from spinor.catalog.store.statements import Q, columns_of
from spinor.db import Query, Tx, array_text, execute, fetch, fetch_rows, fetch_value
from spinor.tables import fetch_table

# Files that are there, as `find_names` and `all_names` tell them; `se_ids` in PostgreSQL's writing: {1,2}.
KNOWN = pa.schema(
    [
        ("directory_id", pa.int64()), ("name", pa.string()), ("file_id", pa.int64()), ("size_bytes", pa.int64()),
        ("adler32", pa.int64()), ("sha256", pa.string()), ("access_id", pa.int64()), ("owner_id", pa.int64()),
        ("se_ids", pa.string()),
    ]
)  # fmt: skip


class KnownFile(msgspec.Struct, frozen=True):
    """A file among those that `find_names` found."""

    directory_id: int
    name: str
    file_id: int
    owner_id: int
    access_id: int


async def find_names(tx: Tx, caller: Caller, directory_ids: Sequence[int], names: Sequence[str]) -> list[KnownFile]:
    """Those of the (directory, name) pairs that are files."""
    if not names:
        return []
    values = {"vo_id": caller.vo_id, "directory_ids": list(directory_ids), "names": list(names)}
    return await fetch(tx, KnownFile, Q.find_names, values)


async def known_among(tx: Tx, caller: Caller, directory_ids: Sequence[int], names: Sequence[str]) -> pa.Table:
    """Those of the (directory, name) pairs that are files, as a table of KNOWN."""
    values = {"directory_ids": array_text(directory_ids), "names": array_text(names)}
    return await fetch_table(tx, Q.find_names, {"vo_id": caller.vo_id, **values}, KNOWN)


async def known_in(tx: Tx, caller: Caller, directory_ids: Sequence[int]) -> pa.Table:
    """All files directly inside the directories, as a table of KNOWN."""
    values = {"vo_id": caller.vo_id, "directory_ids": array_text(directory_ids)}
    return await fetch_table(tx, Q.all_names, values, KNOWN)


async def next_file_blocks(tx: Tx, count: int) -> list[int]:
    """The first ids of `count` blocks of 1000 file ids each."""
    return [row[0] for row in await fetch_rows(tx, Q.next_file_blocks, {"count": count})]


async def copy_in(tx: Tx, statement: Query, parts: Sequence[Any]) -> None:
    """Send encoded rows."""
    cursor: AsyncCursor[Any]
    async with tx.cursor() as cursor, cursor.copy(statement) as copy:
        for part in parts:
            await copy.write(part)


async def add_replicas(
    tx: Tx, caller: Caller, file_ids: Sequence[int], se_ids: Sequence[int], pfns: Sequence[str | None]
) -> None:
    values = {"file_ids": array_text(file_ids), "se_ids": array_text(se_ids), "pfns": array_text(pfns)}
    await execute(tx, Q.add_replicas, {"vo_id": caller.vo_id, **values})


class FoundStat(FileStat, frozen=True, kw_only=True):
    """With its place among those asked for, and what its reader's rights depend on."""

    n: int
    access_id: int
    gate_id: int


async def stat_files(tx: Tx, caller: Caller, places: Sequence[tuple[str, str]]) -> list[FoundStat]:
    """Those of the (directory, name) pairs that are files, in the order given."""
    return await fetch(tx, FoundStat, Q.stat_files, {"vo_id": caller.vo_id, **columns_of(places)})


async def locate_files(tx: Tx, caller: Caller, places: Sequence[tuple[str, str]]) -> list[tuple[Any, ...]]:
    """Rows of `locate_files` for those of the (directory, name) pairs that are files; numbered from 1, in any order."""
    return await fetch_rows(tx, Q.locate_files, {"vo_id": caller.vo_id, **columns_of(places)})


class OwnedFile(msgspec.Struct, frozen=True):
    path: str
    file_id: int
    directory_id: int
    access_id: int
    gate_id: int


async def foreign_file(tx: Tx, caller: Caller, directory_ids: Sequence[int]) -> tuple[int, str] | None:
    """A file in these directories that another owns: (directory_id, name)."""
    values = {"vo_id": caller.vo_id, "user_id": caller.user_id, "directory_ids": list(directory_ids)}
    rows = await fetch_rows(tx, Q.foreign_file, values)
    return (rows[0][0], rows[0][1]) if rows else None


async def files_in(tx: Tx, caller: Caller, directory_ids: Sequence[int]) -> list[int]:
    values = {"vo_id": caller.vo_id, "directory_ids": list(directory_ids)}
    return [row[0] for row in await fetch_rows(tx, Q.files_in, values)]


async def read_only_replicas(tx: Tx, caller: Caller, file_ids: Sequence[int]) -> dict[int, str]:
    """file_id -> a storage element that is read-only."""
    rows = await fetch_rows(tx, Q.read_only_replicas, {"vo_id": caller.vo_id, "file_ids": list(file_ids)})
    return dict(rows)


async def on_files(tx: Tx, caller: Caller, query: Query, file_ids: Sequence[int], **values: Any) -> None:
    """Run one of the statements over a set of files."""
    await execute(tx, query, {"vo_id": caller.vo_id, "file_ids": list(file_ids), **values})


async def remove_files(tx: Tx, caller: Caller, ranges: Sequence[tuple[int, str, str]], *, delete_bytes: bool) -> None:
    """Remove all files of these (directory_id, first name, last name). The directories must be locked."""
    directory_ids, firsts, lasts = (array_text(column) for column in zip(*ranges, strict=True))
    values = {
        "vo_id": caller.vo_id, "directory_ids": directory_ids, "firsts": firsts, "lasts": lasts,
        "own_only": [False] * len(ranges), "own": [], "fixed": [], "file_ids": None, "lineage": False,
        "delete_bytes": delete_bytes,
    }  # fmt: skip
    await execute(tx, Q.remove_files, values)
    await execute(tx, Q.wake_followers, {"vo_id": caller.vo_id})


async def any_provenance(tx: Tx, caller: Caller) -> bool:
    return bool(await fetch_value(tx, Q.any_provenance, {"vo_id": caller.vo_id}))


async def lock_files(tx: Tx, caller: Caller, places: Sequence[tuple[str, str]]) -> dict[str, OwnedFile]:
    rows = await fetch(tx, OwnedFile, Q.lock_files, {"vo_id": caller.vo_id, **columns_of(places)})
    return {row.path: row for row in rows}
