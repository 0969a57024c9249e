"""Rows as Arrow tables: PostgreSQL writes CSV, Arrow reads it, and no Python runs per row."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pyarrow as pa
import pyarrow.csv
from psycopg import AsyncCursor, sql

from spinor.db import Parameters, Query, Tx

_PARSE = pa.csv.ParseOptions(newlines_in_values=True)
_BLOCK_BYTES = 1 << 20


async def fetch_table(tx: Tx, query: Query, parameters: Parameters, schema: pa.Schema) -> pa.Table:
    """The rows of a query, whose columns are those of the schema in its order."""
    parts = [part async for part in _copied(tx, query, parameters)]
    return await asyncio.to_thread(_read, b"".join(parts), schema)


async def stream_tables(
    tx: Tx, query: Query, parameters: Parameters, schema: pa.Schema, block_bytes: int = 16 * _BLOCK_BYTES
) -> AsyncIterator[pa.Table]:
    """The rows of a query that may be large, as tables of about `block_bytes` of text each, in the query's order."""
    parts: list[bytes] = []
    size = 0
    async for part in _copied(tx, query, parameters):
        parts.append(part)
        size += len(part)
        if size >= block_bytes:
            # PostgreSQL sends one row in each part, or several; never a piece of one.
            yield await asyncio.to_thread(_read, b"".join(parts), schema)
            parts, size = [], 0
    if parts:
        yield await asyncio.to_thread(_read, b"".join(parts), schema)


async def _copied(tx: Tx, query: Query, parameters: Parameters) -> AsyncIterator[bytes]:
    inner = query if isinstance(query, sql.Composable) else sql.SQL(query)
    statement = sql.SQL("COPY ({}) TO STDOUT (FORMAT csv)").format(inner)
    cursor: AsyncCursor[Any]
    async with tx.cursor() as cursor, cursor.copy(statement, parameters) as copy:
        async for part in copy:
            yield bytes(part)


def _read(text: bytes, schema: pa.Schema) -> pa.Table:
    if not text:
        return schema.empty_table()
    # A NULL is an empty field, and an empty text a quoted one.
    convert = pa.csv.ConvertOptions(
        column_types=schema, strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""]
    )
    read = pa.csv.ReadOptions(column_names=schema.names, block_size=max(_BLOCK_BYTES, len(text)), use_threads=False)
    return pa.csv.read_csv(pa.py_buffer(text), read, _PARSE, convert)
