"""Batches of a directory tree: the good go in, the bad are told one by one."""

import asyncio
from typing import Any

import pyarrow as pa
import pytest

from spinor.access import Caller
from spinor.catalog import service
from spinor.catalog.errors import BadBatch, BadPFN, PathOutsideVO
from spinor.catalog.models import BatchCounts, BatchRequest, LocatedReplica, Move
from spinor.resources.service import UnknownStorageElement
from spinor.types import SEName

from .workbench import World, check_sums, register

SCHEMA = pa.schema(
    [("path", pa.string()), ("name", pa.string()), ("size_bytes", pa.int64()), ("adler32", pa.int64()),
     ("sha256", pa.binary())]
)  # fmt: skip


def body(rows: list[dict[str, Any]], schema: pa.Schema = SCHEMA) -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pylist(rows, schema=schema)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    return bytes(sink.getvalue())


def row(path: str, name: Any, size: Any = 5, **facts: Any) -> dict[str, Any]:
    return {"path": path, "name": name, "size_bytes": size, **facts}


async def send(world: World, rows: list[dict[str, Any]], caller: Caller | None = None, **to: str) -> BatchCounts:
    """As the route does it."""
    caller = caller or world.ada
    where = {"directory": "/astro/tree", "se": "local-se", "prefix": "data", **to}
    request = BatchRequest(directory=where["directory"], se=SEName(where["se"]), prefix=where["prefix"])
    batch = await service.read_batch(caller, request, body(rows))
    async with world.db.transaction() as tx:
        await service.make_batch_directories(tx, caller, batch)
    async with world.db.transaction() as tx:
        return await service.register_batch(tx, caller, request, batch)


async def locations(world: World, *lfns: str) -> list[LocatedReplica]:
    """Of all files together."""
    async with world.db.transaction() as tx:
        return [replica for file in await service.locate_files(tx, world.ada, list(lfns)) for replica in file.replicas]


async def test_a_tree_goes_in_and_again_changes_nothing(world: World) -> None:
    rows = [
        row(f"d{n % 7}/sub" if n % 3 else "", f"f{n}", n, adler32=n, sha256=bytes([n % 256]) * 32) for n in range(500)
    ]
    first = await send(world, rows)
    assert (first.registered, first.already, first.differing, first.refused) == (500, 0, [], [])
    await check_sums(world.db, files=500)
    again = await send(world, rows)
    assert (again.registered, again.already, again.differing, again.refused) == (0, 500, [], [])
    one, deep = await locations(world, "/astro/tree/f3", "/astro/tree/d1/sub/f1")
    assert (one.pfn, deep.pfn) == ("data/f3", "data/d1/sub/f1")
    async with world.db.transaction() as tx:
        first_stat, stat = await service.stat_files(tx, world.ada, ["/astro/tree/f3", "/astro/tree/d1/sub/f1"])
    assert (first_stat.guid.version, stat.adler32, stat.sha256) == (7, "00000001", "01" * 32)
    await check_sums(world.db, files=500)


async def test_the_same_tree_on_another_storage_element_is_a_replica(world: World) -> None:
    rows = [row("a", "x"), row("", "y")]
    await send(world, rows)
    second = await send(world, rows, se="second-se", prefix="")
    assert second.registered == 2
    found = await locations(world, "/astro/tree/a/x", "/astro/tree/y")
    assert [f.pfn for f in found] == ["data/a/x", "a/x", "data/y", "y"]
    await check_sums(world.db, files=2)


async def test_a_tree_from_another_place_into_the_same_directory_keeps_both_places(world: World) -> None:
    await send(world, [row("a", "x")])
    await send(world, [row("a", "y")], prefix="elsewhere/b")
    found = await locations(world, "/astro/tree/a/x", "/astro/tree/a/y")
    assert [f.pfn for f in found] == ["data/a/x", "elsewhere/b/a/y"]
    await check_sums(world.db, files=2)


async def test_differences_name_both_values_and_the_rest_goes_in(world: World) -> None:
    await send(world, [row("a", "size", 1), row("a", "sum", 2, adler32=0xAB, sha256=b"1" * 32), row("a", "same")])
    rows = [row("a", "size", 9), row("a", "sum", 2, adler32=0xCD, sha256=b"2" * 32), row("a", "same"), row("a", "new")]
    counts = await send(world, rows)
    assert (counts.registered, counts.already, counts.refused) == (1, 1, [])
    assert [(d.lfn, d.field, d.catalog, d.given) for d in counts.differing] == [
        ("/astro/tree/a/size", "size_bytes", "1", "9"),
        ("/astro/tree/a/sum", "adler32", "000000ab", "000000cd"),
        ("/astro/tree/a/sum", "sha256", (b"1" * 32).hex(), (b"2" * 32).hex()),
    ]
    await check_sums(world.db, files=4)


async def test_bad_entries_are_refused_one_by_one(world: World) -> None:
    await register(world.db, world.ada, "/astro/tree/is-a-file", "/astro/tree/is-a-dir/x")
    await register(world.db, world.alan, "/astro/alan/x")
    rows = [
        row("a", "good"), row("a", ""), row("a", None), row("a", "."), row("a", ".."), row("a", "b/c"), row("a", "n\0"),
        row("a", "é" * 128), row("a", "negative", -1), row("a", "sizeless", None), row("a", "adler", adler32=2**32),
        row("a", "sha", sha256=b"short"), row("a", "twice"), row("a", "twice", 6), row("../up", "x"), row("a//b", "x"),
        row("is-a-file/below", "x"), row("", "is-a-dir"), row("a", "new\nline"), row("x" * 256, "y"),
        row("/".join(["d" * 200] * 21), "z"), row("/".join(["e" * 200] * 20), "f" * 200),
    ]  # fmt: skip
    counts = await send(world, rows)
    assert (counts.registered, counts.already, counts.differing) == (3, 0, [])
    refused = {refusal.lfn.removeprefix("/astro/tree/")[:20]: refusal.reason for refusal in counts.refused}
    assert len(counts.refused) == 19
    assert "." in refused["a/.."]
    assert "255" in refused["a/" + "é" * 18]
    assert "twice" in refused["a/twice"]
    assert "is a file" in refused["is-a-file/below/x"]
    assert "directory of this name" in refused["is-a-dir"]
    assert all(refused.values())
    await check_sums(world.db, files=3 + 3)


async def test_a_directory_of_somebody_else_is_refused_and_no_other(world: World) -> None:
    await register(world.db, world.ada, "/astro/alan/first", "/astro/shared/first")
    counts = await send(world, [row("alan", "x"), row("mine", "y")], world.alan, directory="/astro")
    assert counts.registered == 1
    assert [refusal.lfn for refusal in counts.refused] == ["/astro/alan/x"]
    assert "may not write" in counts.refused[0].reason


async def test_what_is_wrong_for_all_is_an_error(world: World) -> None:
    cases: list[tuple[dict[str, Any], type[Exception]]] = [
        ({"directory": "/bio/tree"}, PathOutsideVO),
        ({"prefix": "../x"}, BadPFN),
        ({"se": "bio-se"}, UnknownStorageElement),
    ]
    for wrong, error in cases:
        with pytest.raises(error):
            await send(world, [row("a", "x")], **wrong)
    await check_sums(world.db, files=0)


@pytest.mark.parametrize(
    "data", [b"", b"nonsense", b"{}", body([row("a", "x")])[:-30]], ids=["empty", "text", "json", "cut"]
)
async def test_a_body_that_is_not_arrow_is_refused(world: World, data: bytes) -> None:
    request = BatchRequest(directory="/astro/t", se=SEName("local-se"), prefix="")
    with pytest.raises(BadBatch):
        await service.read_batch(world.ada, request, data)


async def test_missing_columns_and_invalid_text_are_refused(world: World) -> None:
    request = BatchRequest(directory="/astro/t", se=SEName("local-se"), prefix="")
    with pytest.raises(BadBatch, match="size_bytes"):
        await service.read_batch(
            world.ada, request, body([], pa.schema([("path", pa.string()), ("name", pa.string())]))
        )
    names = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff"))
    table = pa.table({"path": [""], "name": names, "size_bytes": [1]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(BadBatch, match="UTF8"):
        await service.read_batch(world.ada, request, sink.getvalue().to_pybytes())


async def test_many_batches_at_once_meet_in_the_same_directories(world: World) -> None:
    rows = [row(f"d{n % 30}", f"f{n}", n) for n in range(900)]
    answers = await asyncio.gather(send(world, rows), send(world, rows[::-1]), send(world, rows[300:] + rows[:300]))
    assert sum(counts.registered for counts in answers) == 900
    assert sum(counts.already for counts in answers) == 1800
    await check_sums(world.db, files=900)


async def test_a_moved_tree_keeps_its_bytes_and_can_be_filled_again(world: World) -> None:
    await send(world, [row("a", "x")])
    async with world.db.transaction() as tx:
        await service.move(tx, world.ada, [Move(source="/astro/tree", target="/astro/moved")])
    await send(world, [row("a", "x")])
    found = await locations(world, "/astro/moved/a/x", "/astro/tree/a/x")
    assert [f.pfn for f in found] == ["data/a/x", "data/a/x"]
    await check_sums(world.db, files=2)
