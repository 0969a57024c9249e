"""The verbs of dumps and streamed listings. Each gives its answer in pieces, out of one transaction."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from spinor.access import Caller
from spinor.catalog import store as catalog
from spinor.catalog.dumps import store
from spinor.catalog.dumps.models import DumpFormat, DumpRequest, StreamedListing
from spinor.catalog.feed import service as feed
from spinor.catalog.rules import checked_path
from spinor.catalog.service.directories import required_directory
from spinor.catalog.service.permissions import sieve
from spinor.db import Database, Tx
from spinor.resources import service as resources
from spinor.streaming import Pieces


async def dump(db: Database, caller: Caller, se: str, request: DumpRequest) -> Pieces:
    """All replicas on a storage element that the caller may list, by directory and name; with `files:manage`, all.

    The first piece is the position of the snapshot in the change feed, and no part of the dump. Raises
    UnknownStorageElement, UnknownDirectory.
    """
    async with db.snapshot() as tx:
        element = await resources.storage_element(tx, caller, se)
        top = None if request.path is None else await required_directory(tx, caller, request.path, listed=True)
        values = {"vo_id": caller.vo_id, "se_id": element.se_id, "path": top and top.path}
        values |= store.sieve_values(await sieve(tx, caller, top))
        yield (await feed.current_position(tx)).encode()
        async with aclosing(_written(tx, request.format, values)) as pieces:
            async for piece in pieces:
                yield piece


def _written(tx: Tx, kind: DumpFormat, values: dict[str, Any]) -> AsyncGenerator[bytes, None]:
    match kind:
        case DumpFormat.CSV:
            return store.dump_csv(tx, values)
        case DumpFormat.NDJSON:
            return store.dump_lines(tx, values)
        case DumpFormat.ARROW:
            return _encoded(store.dump_tables(tx, values), lambda sink: pa.ipc.new_stream(sink, store.DUMP))
        case DumpFormat.PARQUET:
            return _encoded(
                store.dump_tables(tx, values), lambda sink: pq.ParquetWriter(sink, store.DUMP, compression="zstd")
            )


async def _encoded(tables: AsyncGenerator[pa.Table, None], make_writer: Any) -> AsyncGenerator[bytes, None]:
    """What a writer of Arrow's writes, table by table."""
    sink = _Sink()
    writer = make_writer(pa.PythonFile(sink, mode="w"))
    async with aclosing(tables):
        async for table in tables:
            await asyncio.to_thread(writer.write_table, table)
            yield sink.taken()
    writer.close()
    yield sink.taken()


class _Sink:
    """A file that is emptied while it is written."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._at = 0

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        self._at += len(data)
        return len(data)

    def tell(self) -> int:
        return self._at

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """What was written is taken by `taken`."""

    def taken(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


async def stream_listing(db: Database, caller: Caller, request: StreamedListing) -> Pieces:
    """The entries of a directory, or of all that is below it, as JSON lines: directories by path, then files by LFN.

    Raises UnknownDirectory, DirectoryDenied; below, what the caller may not list is left out.
    """
    async with db.snapshot() as tx:
        path = checked_path(request.path, caller.vo)
        if path == f"/{caller.vo}" and not await catalog.find_directories(tx, caller, [path]):
            return  # Before anything was made in it, the top of a VO is empty.
        top = await required_directory(tx, caller, path, listed=True)
        mine = await sieve(tx, caller, top)
        values = {
            "vo_id": caller.vo_id, "path": path, "directory_id": None if request.recursive else top.directory_id,
            "texts": await store.access_texts(tx, caller), **store.sieve_values(mine),
        }  # fmt: skip
        for lines in store.listing(tx, values):
            async with aclosing(lines):
                async for piece in lines:
                    yield piece
