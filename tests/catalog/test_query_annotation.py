"""Metadata in bulk: batches of paths with their own values, and all files that a query names."""

from typing import Any

import msgspec
import pyarrow as pa
import pytest

from spinor.access import Caller
from spinor.catalog import service
from spinor.catalog.annotation import service as annotation
from spinor.catalog.annotation.models import Described, SelectionChange, SelectionDescribed
from spinor.catalog.errors import BadBatch, BadMetadata, UnknownKey
from spinor.catalog.models import MetadataKey, MetadataType
from spinor.db import fetch_rows
from spinor.search import Search

from .direct import Commands
from .workbench import World, check_sums, register


def stream(rows: list[tuple[str | None, Any]]) -> bytes:
    texts = [v if isinstance(v, str) or v is None else msgspec.json.encode(v).decode() for _, v in rows]
    table = pa.table({"lfn": pa.array([lfn for lfn, _ in rows], pa.string()), "metadata": pa.array(texts, pa.string())})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


async def describe(world: World, *rows: tuple[str | None, Any], caller: Caller | None = None) -> Described:
    async with world.db.transaction() as tx:
        return await annotation.describe_batch(tx, caller or world.ada, stream(list(rows)))


async def select(world: World, caller: Caller | None = None, **change: Any) -> SelectionDescribed:
    async with world.db.transaction() as tx:
        return await annotation.describe_selection(tx, caller or world.ada, SelectionChange(path="/astro", **change))


async def find(world: World, where: str) -> list[str]:
    async with world.db.transaction() as tx:
        page = await service.find_files(tx, world.ada_admin, "/astro", Search(where=where, limit=1000, fields=[]))
    return [row["lfn"].removeprefix("/astro/") for row in page.rows]


async def declare(world: World, **types: str) -> None:
    async with world.db.transaction() as tx:
        keys = [MetadataKey(name=name, type=MetadataType(kind)) for name, kind in types.items()]
        await service.declare_keys(tx, world.ada, keys)


async def test_a_batch_describes_files_and_directories_and_tells_refusals(world: World) -> None:
    await declare(world, run="integer", taken="timestamp")
    await register(world.db, world.ada, *(f"/astro/d/{n}" for n in range(4)), "/astro/d/e/f/deep")
    await register(world.db, world.alan, "/astro/alan/x")
    done = await describe(
        world,
        ("/astro/d/0", {"run": 1, "note": "a", "taken": "2026-01-01T00:00:00+02:00"}),
        ("/astro/d/1", {"run": "five"}),
        ("/astro/d/2", {"run": 2}),
        ("/astro/d/2", {"note": "b"}),
        ("/astro/d/3", "[]"),
        ("/astro/d", {"run": 7, "site": "x"}),
        ("/astro/d/e/f", {"run": 8}),
        ("/astro/alan/x", {"run": 1}),
        ("/astro/alan", {"run": 1}),
        ("/astro/nowhere", {"run": 1}),
        ("/bio/x", {"run": 1}),
        ("/astro/d/0/", {"size": 1}),
        (None, {"run": 1}),
    )
    assert (done.changed, done.already) == (4, 0)
    assert sorted(refusal.lfn for refusal in done.refused) == sorted(
        ["/astro/d/1", "/astro/d/3", "/astro/alan/x", "/astro/alan", "/astro/nowhere", "/bio/x", "/astro/d/0/", ""]
    )
    assert await find(world, "run = 1 and note = a and taken = 2025-12-31") == ["d/0"]
    assert await find(world, "run = 2 and note = b and site = x") == ["d/2"]
    assert await find(world, "run = 7") == ["d/1", "d/3"]
    assert await find(world, "run = 8 and site = x") == ["d/e/f/deep"]
    again = await describe(world, ("/astro/d/2", {"run": 2}), ("/astro/d", {"run": 7}))
    assert (again.changed, again.already) == (0, 2)
    gone = await describe(world, ("/astro/d/2", {"run": None, "note": None}), ("/astro/d", {"run": None}))
    assert gone.changed == 2
    assert await find(world, "run exists") == ["d/0", "d/e/f/deep"]
    await check_sums(world.db)
    async with world.db.transaction() as tx:
        changes = await fetch_rows(
            tx, "SELECT path, names, detail FROM catalog.change WHERE kind = 'metadata-changed' ORDER BY change_id"
        )
    assert changes[0] == ("/astro/d", ["0", "2"], {"keys": ["note", "run", "site", "taken"]})
    assert changes[-1][:2] == ("/astro/d", None)


async def test_a_batch_that_is_none_is_refused(world: World) -> None:
    table = pa.table({"lfn": ["/astro/x"]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    for body in (b"", b"no arrow", bytes(sink.getvalue())):
        async with world.db.transaction() as tx:
            with pytest.raises(BadBatch):
                await annotation.describe_batch(tx, world.ada, body)
    assert (await describe(world)).changed == 0


async def test_a_selection_is_changed_in_pieces(world: World) -> None:
    await declare(world, run="integer")
    await register(world.db, world.ada, *(f"/astro/d/{n}" for n in range(5)))
    await register(world.db, world.alan, "/astro/alan/x")
    first = await select(world, where={"name": {"!=": "3"}}, set={"run": 5, "note": "n"}, limit=3)
    assert (first.changed, len(first.refused)) == (2, 1)
    assert first.refused[0].lfn == "/astro/alan/x"
    rest = await select(world, where={"name": {"!=": "3"}}, set={"run": 5, "note": "n"}, limit=3, after=first.next)
    assert (rest.changed, rest.next) == (2, None)
    assert await find(world, "run = 5") == ["d/0", "d/1", "d/2", "d/4"]
    # What is looked for may be what is taken away.
    assert (await select(world, where="run = 5", unset=["run"])).changed == 4
    assert (await select(world, where="run = 5", unset=["run"])).changed == 0
    assert await find(world, "run missing and note = n") == ["d/0", "d/1", "d/2", "d/4"]
    with pytest.raises(BadMetadata):
        await select(world)
    with pytest.raises(BadMetadata):
        await select(world, set={"run": "x"})
    await check_sums(world.db)


async def test_undeclaring_a_key_keeps_its_values(world: World) -> None:
    await declare(world, run="integer", site="text")
    await register(world.db, world.ada, "/astro/d/x")
    await describe(world, ("/astro/d", {"run": 5}))
    async with world.db.transaction() as tx:
        left = await service.undeclare_keys(tx, world.ada, ["run"])
    assert [key.name for key in left] == ["site"]
    assert await find(world, "run = 5") == ["d/x"]
    async with world.db.transaction() as tx:
        with pytest.raises(UnknownKey):
            await service.undeclare_keys(tx, world.ada, ["site", "run"])
    await describe(world, ("/astro/d", {"run": 5.5}))
    assert await find(world, "run = 5.5") == ["d/x"]


async def test_the_command_changes_selections_and_undeclares(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await declare(world, run="integer")
    await register(world.db, world.ada, "/astro/d/x", "/astro/d/y")
    run = Commands(world.db, monkeypatch)
    await describe(world, ("/astro/d/x", {"run": 3}), ("/astro/d/y", {"run": 2}))
    assert await run(world.ada, "file", "metadata", "unset", "/astro", "run", "--where", "run = 3") == 0
    assert await run(world.ada, "file", "metadata", "set", "/astro", "run=9", "--where", "run = 2") == 0
    assert await find(world, "run exists") == ["d/y"]
    assert await run(world.ada, "file", "metadata", "undeclare", "run") == 0
    assert await run(world.ada, "file", "metadata", "undeclare", "run") == 3
    await check_sums(world.db)
