"""The rows of dumps and listings, as they leave: whole pieces of text, or tables."""

from collections.abc import AsyncGenerator
from typing import Any

import pyarrow as pa
from psycopg import sql

from spinor.access import Caller
from spinor.catalog.service.permissions import Sieve
from spinor.db import Queries, Tx, execute, fetch_value
from spinor.tables import stream_csv, stream_lines, stream_tables

Q = Queries("spinor.catalog.dumps")

DUMP = pa.schema(
    [
        ("lfn", pa.string()), ("pfn", pa.string()), ("size_bytes", pa.int64()), ("adler32", pa.string()),
        ("status", pa.string()), ("created_at", pa.timestamp("us", "UTC")), ("file_id", pa.int64()),
    ]
)  # fmt: skip
_DUMP_LINES = sql.SQL(Queries("spinor.catalog.dumps", "lines.sql").dump_lines).format(dump=sql.SQL(Q.dump))

# Rows come sorted out of an index, one directory after the other: sorting them, or sending workers for them, would mean
# to wait for the last before the first can leave. A long answer is not ended for its length.
_STREAMING = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    "SET LOCAL statement_timeout = 0",
    "SET LOCAL max_parallel_workers_per_gather = 0",
    "SET LOCAL jit = off",
    "SET LOCAL enable_bitmapscan = off",
)


async def begin_streaming(tx: Tx) -> None:
    """The first thing that a transaction does: all its statements see the same, for as long as they take."""
    for statement in _STREAMING:
        await execute(tx, statement)


def dump_csv(tx: Tx, values: dict[str, Any]) -> AsyncGenerator[bytes, None]:
    return stream_csv(tx, Q.dump, values)


def dump_lines(tx: Tx, values: dict[str, Any]) -> AsyncGenerator[bytes, None]:
    return stream_lines(tx, _DUMP_LINES, values)


def dump_tables(tx: Tx, values: dict[str, Any]) -> AsyncGenerator[pa.Table, None]:
    return stream_tables(tx, Q.dump, values, DUMP)


async def access_texts(tx: Tx, caller: Caller) -> str:
    return str(await fetch_value(tx, Q.access_texts, {"vo_id": caller.vo_id}))


def listing(tx: Tx, values: dict[str, Any]) -> tuple[AsyncGenerator[bytes, None], AsyncGenerator[bytes, None]]:
    """The lines of directories, and those of files."""
    return stream_lines(tx, Q.directory_lines, values), stream_lines(tx, Q.file_lines, values)


def sieve_values(mine: Sieve) -> dict[str, Any]:
    return {"gates": mine.gates, "readable": mine.readable}
