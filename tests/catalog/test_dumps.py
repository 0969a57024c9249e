"""Dumps of a storage element and streamed listings: complete, sorted, in one snapshot, and never whole in memory."""

import asyncio
import io
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from spinor.access import Caller
from spinor.catalog import service
from spinor.catalog.dumps import service as dumps
from spinor.catalog.dumps.models import DumpFormat, DumpRequest, StreamedListing
from spinor.catalog.errors import DirectoryDenied, UnknownDirectory
from spinor.catalog.feed import service as feed
from spinor.catalog.feed.models import ChangesRequest
from spinor.catalog.models import BytesFate, Entry, ListRequest, RemoveRequest
from spinor.db import Database, execute
from spinor.resources.service import UnknownStorageElement
from spinor.streaming import streamed

from .direct import Commands
from .test_provenance import close
from .workbench import World, check_sums, register

ODD = ["plain", "with space", 'quote"', "comma,", "back\\slash", "new\nline", "é\u2028", "\x01\x02tab\t", "%s{}", "\\."]


async def dumped(db: Database, caller: Caller, se: str = "local-se", **asked: Any) -> tuple[str, bytes]:
    """The position, and the dump."""
    pieces = [piece async for piece in dumps.dump(db, caller, se, DumpRequest(**asked))]
    return pieces[0].decode(), b"".join(pieces[1:])


def read(kind: DumpFormat, data: bytes) -> list[dict[str, Any]]:
    match kind:
        case DumpFormat.CSV:
            parse = pa.csv.ParseOptions(newlines_in_values=True)
            as_text = {"adler32": pa.string(), "lfn": pa.string(), "pfn": pa.string()}
            convert = pa.csv.ConvertOptions(column_types=as_text, strings_can_be_null=True)
            table = pa.csv.read_csv(io.BytesIO(data), parse_options=parse, convert_options=convert)
        case DumpFormat.NDJSON:
            return [json.loads(line) for line in data.decode().split("\n") if line]
        case DumpFormat.ARROW:
            table = pa.ipc.open_stream(data).read_all()
        case DumpFormat.PARQUET:
            table = pq.read_table(io.BytesIO(data))
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


@pytest.mark.parametrize("kind", DumpFormat)
async def test_a_dump_has_every_replica_of_the_storage_once_and_sorted(world: World, kind: DumpFormat) -> None:
    db, ada = world.db, world.ada
    await register(db, ada, *(f"/astro/d/{name}" for name in ODD), adler32="0000000a")
    await register(db, ada, "/astro/a/sub/x", "/astro/a/y", size_bytes=2**40)
    await register(db, ada, "/astro/a/y", se="second-se", size_bytes=2**40)
    await register(db, ada, "/astro/a/elsewhere", se="second-se")
    await register(db, ada, "/astro/a/own", pfn="own/place/of it")
    async with db.transaction() as tx:
        await execute(tx, "UPDATE catalog.file SET statuses = '{suspect}' WHERE name = 'own'")
    _, data = await dumped(db, ada, format=kind)
    rows = read(kind, data)
    expected = ["/astro/a/own", "/astro/a/y", "/astro/a/sub/x", *(f"/astro/d/{name}" for name in sorted(ODD))]
    assert [row["lfn"] for row in rows] == expected
    own, y = rows[:2]
    assert (own["pfn"], own["status"], own["adler32"]) == ("own/place/of it", "suspect", None)
    assert (y["pfn"], y["status"], y["size_bytes"]) == ("astro/a/y", "available", 2**40)
    assert {row["adler32"] for row in rows[3:]} == {"0000000a"}
    assert [row["pfn"] for row in rows[3:]] == [f"astro/d/{name}" for name in sorted(ODD)]
    assert list(rows[0]) == ["lfn", "pfn", "size_bytes", "adler32", "status", "created_at", "file_id"]


@pytest.mark.parametrize("kind", DumpFormat)
async def test_a_dump_of_nothing_is_a_whole_file(world: World, kind: DumpFormat) -> None:
    assert read(kind, (await dumped(world.db, world.ada, format=kind))[1]) == []


async def test_a_dump_keeps_to_a_path_and_to_what_the_reader_may_list(world: World) -> None:
    db = world.db
    await register(db, world.ada, "/astro/a/x", "/astro/a/b/x", "/astro/ab/x")
    async with db.transaction() as tx:
        await close(tx, "/astro/a/b")
    asked = {"format": DumpFormat.NDJSON}

    async def lfns(caller: Caller, **more: Any) -> list[str]:
        return [row["lfn"] for row in read(DumpFormat.NDJSON, (await dumped(db, caller, **asked, **more))[1])]

    assert await lfns(world.ada, path="/astro/a") == ["/astro/a/x", "/astro/a/b/x"]
    assert await lfns(world.alan) == ["/astro/a/x", "/astro/ab/x"]
    assert await lfns(world.ada_admin) == ["/astro/a/x", "/astro/a/b/x", "/astro/ab/x"]
    with pytest.raises(UnknownStorageElement):
        await lfns(world.ada, se="bio-se")
    with pytest.raises(UnknownDirectory):
        await lfns(world.ada, path="/astro/nothing")


async def test_a_dump_and_what_follows_its_position_are_a_mirror(world: World) -> None:
    """While writers write: a dump, then the changes after it, give exactly what is there in the end."""
    db, ada = world.db, world.ada

    async def write(writer: int) -> None:
        for n in range(25):
            await register(db, ada, f"/astro/{n % 3}/{writer}-{n}")
            if n % 4 == 3:
                async with db.transaction() as tx:
                    request = RemoveRequest(paths=[f"/astro/{n % 3}/{writer}-{n}"], bytes=BytesFate.KEEP)
                    await service.remove_files(tx, ada, request)

    writing = asyncio.gather(*map(write, range(6)))
    await asyncio.sleep(0.3)
    position, data = await dumped(db, ada, format=DumpFormat.NDJSON)
    await writing
    mirror = {row["lfn"] for row in read(DumpFormat.NDJSON, data)}
    assert mirror
    async with db.statements() as reads:
        page = await feed.changes(reads, ada, ChangesRequest(since=position, limit=10_000, expand=True))
        for change in page.rows:
            if change.kind == "files-registered":
                mirror |= {f"{change.path}/{file.name}" for file in change.expanded or []}
            elif change.kind == "files-removed":
                mirror -= {f"{change.path}/{name}" for name in change.names or []}
    _, data = await dumped(db, ada, format=DumpFormat.NDJSON)
    assert mirror == {row["lfn"] for row in read(DumpFormat.NDJSON, data)}
    await check_sums(db)


async def listed(db: Database, caller: Caller, path: str, *, recursive: bool = False) -> list[dict[str, Any]]:
    pieces = [p async for p in dumps.stream_listing(db, caller, StreamedListing(path=path, recursive=recursive))]
    return [json.loads(line) for line in b"".join(pieces).decode().split("\n") if line]


async def test_a_streamed_listing_says_what_a_paged_one_says(world: World) -> None:
    import msgspec

    db, ada = world.db, world.ada
    await register(db, ada, *(f"/astro/d/{name}" for name in ODD), adler32="0000000a")
    await register(db, ada, "/astro/d/sub/x", "/astro/d/a sub/x", "/astro/d/sub/below/y")
    async with db.transaction() as tx:
        page = await service.list_directory(tx, ada, ListRequest(path="/astro/d"))
    lines = await listed(db, ada, "/astro/d")
    assert msgspec.convert(lines, list[Entry]) == page.rows
    assert [line["kind"] for line in lines[:2]] == ["directory", "directory"]
    all_of_it = [line["lfn"] for line in await listed(db, ada, "/astro/d", recursive=True)]
    assert all_of_it[:3] == ["/astro/d/a sub", "/astro/d/sub", "/astro/d/sub/below"]
    assert all_of_it[3 + len(ODD) :] == ["/astro/d/a sub/x", "/astro/d/sub/x", "/astro/d/sub/below/y"]


async def test_a_streamed_listing_shows_what_may_be_listed(world: World) -> None:
    db = world.db
    await register(db, world.ada, "/astro/d/a/x", "/astro/d/b/x", "/astro/d/b/c/x")
    async with db.transaction() as tx:
        await close(tx, "/astro/d/b")
        await service.make_directories(tx, world.ada, ["/astro/d/b/later"])
    seen = [line["lfn"] for line in await listed(db, world.alan, "/astro/d", recursive=True)]
    # The gate of b/c is as it was; that is the test's doing, and a gate of b hides b's own entries.
    assert seen[:2] == ["/astro/d/a", "/astro/d/b"]
    assert "/astro/d/b/x" not in seen
    assert "/astro/d/b/later" not in seen
    with pytest.raises(DirectoryDenied):
        await listed(db, world.alan, "/astro/d/b")
    with pytest.raises(UnknownDirectory):
        await listed(db, world.ada, "/astro/no")


async def test_a_reader_that_goes_gives_its_connection_back(world: World) -> None:
    db, ada = world.db, world.ada
    await register(db, ada, *(f"/astro/d/{n:06d}" for n in range(20_000)))
    for _ in range(25):  # More often than there are connections.
        pieces = dumps.dump(db, ada, "local-se", DumpRequest(format=DumpFormat.NDJSON))
        await anext(pieces)
        response = await streamed(pieces, "application/x-ndjson")
        taken = 0

        async def receive() -> Any:
            await asyncio.sleep(0.05)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            nonlocal taken
            taken += len(message.get("body", b""))
            await asyncio.sleep(0.02)

        await response({"type": "http"}, receive, send)
        assert taken < 3_000_000
    assert len((await dumped(db, ada))[1]) > 1_000_000


async def test_the_commands(
    world: World, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    db, ada = world.db, world.ada
    await register(db, ada, *(f"/astro/d/{name}" for name in "ab"), adler32="0000000a")
    spinor = Commands(db, monkeypatch)
    target = tmp_path / "dump.parquet"
    assert await spinor(ada, "file", "dump", "--se", "local-se", "-o", str(target)) == 0
    assert pq.read_table(target)["lfn"].to_pylist() == ["/astro/d/a", "/astro/d/b"]
    assert set(os.listdir(tmp_path)) == {"dump.parquet", "world"}  # noqa: PTH208
    capfdbinary.readouterr()
    assert await spinor(ada, "file", "dump", "--se", "local-se") == 0
    out, err = capfdbinary.readouterr()
    assert out.splitlines()[0] == b"lfn,pfn,size_bytes,adler32,status,created_at,file_id"
    assert len(out.splitlines()) == 3
    position = err.decode().split()[-1]
    assert await spinor(ada, "file", "changes", "--since", position) == 0
    assert capfdbinary.readouterr().out == b""
    assert await spinor(ada, "file", "dump", "--se", "nothing", "-o", str(tmp_path / "no")) == 3
    assert not (tmp_path / "no").exists()
    assert await spinor(ada, "file", "ls", "/astro/d") == 0
    assert capfdbinary.readouterr().out == b"a\nb\n"
    assert await spinor(ada, "file", "ls", "/astro/d/a") == 0
    assert capfdbinary.readouterr().out == b"a\n"
    assert await spinor(ada, "file", "ls", "/astro/no") == 3
