"""The rows of datasets: one function per query."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any

import msgspec
from psycopg import sql
from psycopg.sql import Composed

from spinor.access import Caller
from spinor.catalog.datasets.models import Dataset, DatasetVersion, NewDataset
from spinor.catalog.query.store import Statement
from spinor.db import Parameters, Queries, Query, Tx, execute, fetch, fetch_rows, fetch_value
from spinor.tables import stream_lines

Q = Queries("spinor.catalog.datasets")
_AROUND = {name: sql.SQL(text) for name, text in Queries("spinor.catalog.datasets", "lines.sql").statements.items()}
_ALL = 2**31 - 1


class KnownDataset(Dataset, frozen=True, kw_only=True):
    dataset_id: int
    access_id: int


class Selection(msgspec.Struct, frozen=True):
    """A statement that gives the rows of a dataset, and its values."""

    rows: Composed
    values: dict[str, Any]


class Summary(msgspec.Struct, frozen=True):
    files: int
    size_bytes: int
    digest: bytes


def selected(statement: Statement) -> Selection:
    """What a query finds."""
    parts = statement.parts()
    return Selection(
        _AROUND["rows"].format(directories=parts["directories"], files=parts["files"]), statement.all_values()
    )


def of_version(dataset_id: int, version: int) -> Selection:
    """What was kept."""
    return Selection(sql.SQL(Q.version_rows).format(), {"dataset_id": dataset_id, "version": version})


async def begin_counting(tx: Tx) -> None:
    """A query over many millions of files may take its time, and its plan must be that of its values."""
    await execute(tx, "SET LOCAL statement_timeout = '1h'")
    await execute(tx, "SET LOCAL plan_cache_mode = force_custom_plan")


async def summary(tx: Tx, selection: Selection) -> Summary:
    ((files, size_bytes, digest),) = await fetch_rows(
        tx, _AROUND["summary"].format(rows=selection.rows), selection.values
    )
    return Summary(files, int(size_bytes), bytes(digest))


async def keep(tx: Tx, caller: Caller, dataset_id: int, version: int, selection: Selection) -> None:
    values = {**selection.values, "dataset_id": dataset_id, "version": version, "vo_id": caller.vo_id}
    await execute(tx, _AROUND["keep"].format(rows=selection.rows), values)


def lines(tx: Tx, selection: Selection) -> AsyncGenerator[bytes, None]:
    return stream_lines(tx, _AROUND["lines"].format(rows=selection.rows), selection.values)


def version_lines(tx: Tx, values: Parameters) -> AsyncGenerator[bytes, None]:
    return stream_lines(tx, Q.version_lines, values)


async def datasets(
    tx: Tx,
    caller: Caller,
    *,
    names: Sequence[str] | None = None,
    readable: list[int] | None = None,
    beginning: str = "",
    after: str = "",
    limit: int = _ALL,
) -> list[KnownDataset]:
    values = {"names": None if names is None else list(names), "readable": readable, "beginning": beginning}
    return await fetch(tx, KnownDataset, Q.datasets, {"vo_id": caller.vo_id, "after": after, "limit": limit, **values})


async def lock_datasets(tx: Tx, caller: Caller, names: Sequence[str]) -> None:
    await execute(tx, Q.lock_datasets, {"vo_id": caller.vo_id, "names": list(names)})


async def insert_dataset(tx: Tx, caller: Caller, new: NewDataset, access_id: int, found: Summary) -> None:
    values = {"access_id": access_id, **msgspec.structs.asdict(new), **msgspec.structs.asdict(found)}
    await execute(tx, Q.insert_dataset, {"vo_id": caller.vo_id, **values})


async def note(tx: Tx, caller: Caller, dataset_id: int, found: Summary) -> None:
    values = {"vo_id": caller.vo_id, "dataset_id": dataset_id, **msgspec.structs.asdict(found)}
    await execute(tx, Q.note, values)


async def insert_version(tx: Tx, caller: Caller, dataset_id: int, annotation: str) -> int:
    values = {"vo_id": caller.vo_id, "dataset_id": dataset_id, "user_id": caller.user_id, "annotation": annotation}
    return int(await fetch_value(tx, Q.insert_version, values))


async def end_version(tx: Tx, caller: Caller, dataset_id: int, version: int, found: Summary) -> None:
    values = {"dataset_id": dataset_id, "version": version, **msgspec.structs.asdict(found)}
    await execute(tx, Q.end_version, {"vo_id": caller.vo_id, **values})


async def gone(tx: Tx, caller: Caller, dataset_ids: Sequence[int]) -> dict[int, int]:
    return dict(await fetch_rows(tx, Q.gone, {"vo_id": caller.vo_id, "dataset_ids": list(dataset_ids)}))


async def versions(tx: Tx, caller: Caller, dataset_ids: Sequence[int]) -> list[DatasetVersion]:
    values = {"vo_id": caller.vo_id, "dataset_ids": list(dataset_ids)}
    return await fetch(tx, DatasetVersion, Q.versions, values)


async def change(tx: Tx, caller: Caller, query: Query, dataset_ids: Sequence[int], **values: Any) -> None:
    """Run one of the statements over a set of datasets."""
    await execute(tx, query, {"vo_id": caller.vo_id, "dataset_ids": list(dataset_ids), **values})


async def rename(tx: Tx, caller: Caller, dataset_id: int, to: str) -> None:
    await execute(tx, Q.rename, {"vo_id": caller.vo_id, "dataset_id": dataset_id, "to": to})
