"""Rows as Arrow tables, CSV or lines of text: PostgreSQL writes them, and no Python model is made of a row."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from typing import Any, LiteralString

import psycopg
import pyarrow as pa
import pyarrow.csv
from psycopg import AsyncCursor, generators, sql
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn
from psycopg.waiting import Ready, Wait

from spinor.db import Parameters, Query, Tx

_PARSE = pa.csv.ParseOptions(newlines_in_values=True)
_BLOCK_BYTES = 1 << 20
_PIECE_BYTES = 1 << 18

_CSV: LiteralString = "FORMAT csv"
_CSV_WITH_NAMES: LiteralString = "FORMAT csv, HEADER"
# A text that has none of these characters, as no JSON has, is written as it is.
_LINES: LiteralString = "FORMAT csv, DELIMITER E'\\x02', QUOTE E'\\x01'"


async def fetch_table(tx: Tx, query: Query, parameters: Parameters, schema: pa.Schema) -> pa.Table:
    """The rows of a query, whose columns are those of the schema in its order."""
    parts = [part async for part in _copied(tx, query, parameters, _CSV)]
    return await asyncio.to_thread(_read, b"".join(parts), schema)


async def stream_tables(
    tx: Tx, query: Query, parameters: Parameters, schema: pa.Schema, block_bytes: int = 16 * _BLOCK_BYTES
) -> AsyncGenerator[pa.Table, None]:
    """The rows of a query that may be large, as tables of about `block_bytes` of text each, in the query's order."""
    async for text in _copied(tx, query, parameters, _CSV, block_bytes):
        yield await asyncio.to_thread(_read, text, schema)


def stream_csv(tx: Tx, query: Query, parameters: Parameters) -> AsyncGenerator[bytes, None]:
    """The rows of a query as CSV, in pieces; the first line has the names of the columns."""
    return _copied(tx, query, parameters, _CSV_WITH_NAMES)


def stream_lines(tx: Tx, query: Query, parameters: Parameters) -> AsyncGenerator[bytes, None]:
    """The rows of a query of one column, a JSON text, as lines, in pieces."""
    return _copied(tx, query, parameters, _LINES)


async def _copied(
    tx: Tx, query: Query, parameters: Parameters, options: LiteralString, piece_bytes: int = _PIECE_BYTES
) -> AsyncGenerator[bytes, None]:
    """What COPY writes, in pieces of whole rows."""
    inner = query if isinstance(query, sql.Composable) else sql.SQL(query)
    statement = sql.SQL("COPY ({}) TO STDOUT ({})").format(inner, sql.SQL(options))
    cursor: AsyncCursor[Any]
    async with tx.cursor() as cursor, cursor.copy(statement, parameters):
        is_last = False
        while not is_last:
            rows, is_last = await tx.wait(_arrived(tx.pgconn, piece_bytes))
            if rows:
                yield b"".join(rows)


def _arrived(pgconn: PGconn, limit_bytes: int) -> Generator[Wait, Ready | int, tuple[list[Any], bool]]:
    """The next rows of a COPY, and whether they are the last. libpq gives them one by one; a call into the event loop
    for each of them, as the driver has it, costs more than all the rest."""
    rows: list[Any] = []
    size = 0
    while size < limit_bytes:
        count, row = pgconn.get_copy_data(1)
        if count > 0:
            rows.append(row)
            size += count
        elif count == 0:
            while not (yield Wait.R):
                pass
            pgconn.consume_input()
        else:
            (result,) = yield from generators.fetch_many(pgconn)
            if result.status != ExecStatus.COMMAND_OK:
                raise psycopg.errors.error_from_result(result)
            return rows, True
    return rows, False


def _read(text: bytes, schema: pa.Schema) -> pa.Table:
    if not text:
        return schema.empty_table()
    # A NULL is an empty field, and an empty text a quoted one.
    convert = pa.csv.ConvertOptions(
        column_types=schema, strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""]
    )
    read = pa.csv.ReadOptions(column_names=schema.names, block_size=max(_BLOCK_BYTES, len(text)), use_threads=False)
    return pa.csv.read_csv(pa.py_buffer(text), read, _PARSE, convert)
