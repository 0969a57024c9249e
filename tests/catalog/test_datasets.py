"""Datasets: a query under a name, and what it found when it was frozen."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from spinor.access import Caller
from spinor.catalog import service
from spinor.catalog.datasets import service as datasets
from spinor.catalog.datasets.errors import (
    BadDatasetName,
    DatasetDenied,
    DatasetExists,
    DatasetFrozen,
    UnknownDataset,
    UnknownVersion,
)
from spinor.catalog.datasets.models import (
    AnnotateDatasets,
    Dataset,
    DatasetCheck,
    DatasetFiles,
    DatasetSearch,
    DatasetState,
    FreezeDatasets,
    NewDataset,
    RenameDataset,
)
from spinor.catalog.models import BytesFate, MetadataChange, Move, RemoveRequest
from spinor.db import Database, Tx
from spinor.search import BadQuery

from .direct import Commands
from .test_provenance import close
from .workbench import World, check_sums, register


async def make(db: Database, caller: Caller, name: str, path: str = "/astro", query: str = "") -> Dataset:
    async with db.transaction() as tx:
        return (await datasets.create(tx, caller, [NewDataset(name=name, path=path, query=query)]))[0]


async def check(db: Database, caller: Caller, name: str) -> DatasetCheck:
    async with db.transaction() as tx:
        return (await datasets.check(tx, caller, [name]))[0]


async def freeze(db: Database, caller: Caller, name: str, annotation: str = "") -> int:
    async with db.transaction() as tx:
        request = FreezeDatasets(names=[name], annotation=annotation)
        return (await datasets.freeze(tx, caller, request))[0].version


async def files(db: Database, caller: Caller, name: str, version: int | None = None) -> list[dict[str, Any]]:
    pieces = [p async for p in datasets.stream_files(db, caller, DatasetFiles(name=name, version=version))]
    return sorted((json.loads(line) for line in b"".join(pieces).splitlines()), key=lambda line: str(line["lfn"]))


async def lfns(db: Database, caller: Caller, name: str, version: int | None = None) -> list[str]:
    return [line["lfn"] for line in await files(db, caller, name, version)]


async def remove(db: Database, caller: Caller, *paths: str) -> None:
    async with db.transaction() as tx:
        await service.remove_files(tx, caller, RemoveRequest(paths=list(paths), bytes=BytesFate.KEEP))


async def test_a_dataset_is_what_its_query_finds_now(world: World) -> None:
    db, ada = world.db, world.ada
    await register(db, ada, "/astro/r/a", "/astro/r/b", "/astro/other/c", size_bytes=2**40)
    async with db.transaction() as tx:
        await service.set_metadata(tx, ada, MetadataChange(paths=["/astro/r"], set={"run": 5}))
    made = await make(db, ada, "run five", query="run = 5")
    assert (made.files, made.size_bytes, made.state, made.version) == (2, 2**41, DatasetState.DYNAMIC, 0)
    assert (made.owner, made.group) == ("ada", "astro_users")
    await register(db, ada, "/astro/r/d")
    assert await lfns(db, ada, "run five") == ["/astro/r/a", "/astro/r/b", "/astro/r/d"]
    found = await check(db, ada, "run five")
    assert (found.changed, found.files, found.files_now) == (True, 2, 3)
    async with db.transaction() as tx:
        assert (await datasets.update(tx, ada, ["run five"]))[0].files == 3
    assert not (await check(db, ada, "run five")).changed


async def test_the_digest_tells_what_numbers_do_not(world: World) -> None:
    db, ada = world.db, world.ada
    await register(db, ada, "/astro/a", adler32="00000001")
    await register(db, ada, "/astro/b", adler32="00000002")
    first = await make(db, ada, "d")
    assert (await check(db, ada, "d")).digest_now == first.digest
    async with db.transaction() as tx:
        await service.move(tx, ada, [Move(source="/astro/a", target="/astro/z")])
    found = await check(db, ada, "d")
    assert (found.changed, found.files_now, found.size_bytes_now) == (True, found.files, found.size_bytes)
    async with db.transaction() as tx:
        await service.move(tx, ada, [Move(source="/astro/z", target="/astro/a")])
    assert not (await check(db, ada, "d")).changed
    # The same names, with their checksums exchanged.
    await remove(db, ada, "/astro/a", "/astro/b")
    await register(db, ada, "/astro/a", adler32="00000002")
    await register(db, ada, "/astro/b", adler32="00000001")
    assert (await check(db, ada, "d")).changed


async def test_a_version_keeps_files_as_they_were(world: World) -> None:
    db, ada = world.db, world.ada
    await register(db, ada, "/astro/d/a", "/astro/d/b", adler32="0000000a")
    await make(db, ada, "d", "/astro/d")
    assert await freeze(db, ada, "d", "for the paper") == 1
    await remove(db, ada, "/astro/d/a")
    await register(db, ada, "/astro/d/c")
    async with db.transaction() as tx:
        await service.move(tx, ada, [Move(source="/astro/d/b", target="/astro/d/moved")])
    frozen = await files(db, ada, "d")
    assert [(f["lfn"], f["adler32"], f["is_there"]) for f in frozen] == [
        ("/astro/d/a", "0000000a", False), ("/astro/d/b", "0000000a", True),
    ]  # fmt: skip
    found = await check(db, ada, "d")
    assert (found.changed, found.gone, found.state) == (True, 1, DatasetState.FROZEN)
    with pytest.raises(DatasetFrozen):
        await freeze(db, ada, "d")
    with pytest.raises(DatasetFrozen):
        async with db.transaction() as tx:
            await datasets.update(tx, ada, ["d"])
    async with db.transaction() as tx:
        await datasets.release(tx, ada, ["d"])
    assert await lfns(db, ada, "d") == ["/astro/d/c", "/astro/d/moved"]
    assert await freeze(db, ada, "d") == 2
    assert await lfns(db, ada, "d", 1) == ["/astro/d/a", "/astro/d/b"]
    assert await lfns(db, ada, "d", 2) == ["/astro/d/c", "/astro/d/moved"]
    async with db.transaction() as tx:
        versions = await datasets.versions(tx, ada, ["d"])
    assert [(v.version, v.files, v.annotation, v.frozen_by) for v in versions] == [
        (1, 2, "for the paper", "ada"), (2, 2, "", "ada"),
    ]  # fmt: skip
    assert versions[0].digest != versions[1].digest
    with pytest.raises(UnknownVersion):
        await lfns(db, ada, "d", 3)
    await check_sums(db)


async def test_a_dataset_shows_nobody_what_they_may_not_read(world: World) -> None:
    db = world.db
    await register(db, world.ada, "/astro/d/open/x", "/astro/d/closed/x", "/astro/d/closed/gone")
    await make(db, world.ada, "d", "/astro/d")
    await freeze(db, world.ada, "d")
    async with db.transaction() as tx:
        await close(tx, "/astro/d/closed")
    await remove(db, world.ada, "/astro/d/closed/gone")
    assert await lfns(db, world.ada, "d") == ["/astro/d/closed/gone", "/astro/d/closed/x", "/astro/d/open/x"]
    assert await lfns(db, world.alan, "d") == ["/astro/d/closed/gone", "/astro/d/open/x"]
    async with db.transaction() as tx:
        await datasets.release(tx, world.ada, ["d"])
    assert await lfns(db, world.alan, "d") == ["/astro/d/open/x"]
    assert (await check(db, world.alan, "d")).files_now == 1


CHANGES: dict[str, Callable[[Tx, Caller], Awaitable[Any]]] = {
    "update": lambda tx, c: datasets.update(tx, c, ["d"]),
    "freeze": lambda tx, c: datasets.freeze(tx, c, FreezeDatasets(names=["d"])),
    "release": lambda tx, c: datasets.release(tx, c, ["d"]),
    "annotate": lambda tx, c: datasets.annotate(tx, c, AnnotateDatasets(names=["d"], annotation="x")),
    "rename": lambda tx, c: datasets.rename(tx, c, RenameDataset(name="d", to="e")),
    "remove": lambda tx, c: datasets.remove(tx, c, ["d"]),
}
READS: dict[str, Callable[[Tx, Caller], Awaitable[Any]]] = {
    "show": lambda tx, c: datasets.show(tx, c, ["d"]),
    "check": lambda tx, c: datasets.check(tx, c, ["d"]),
    "versions": lambda tx, c: datasets.versions(tx, c, ["d"]),
}


async def test_others_may_look_and_not_touch_and_other_vos_see_nothing(world: World) -> None:
    db = world.db
    await register(db, world.ada, "/astro/a")
    await make(db, world.ada, "d")
    for verb in CHANGES.values():
        with pytest.raises(DatasetDenied):
            async with db.transaction() as tx:
                await verb(tx, world.alan)
    for verb in READS.values():
        async with db.transaction() as tx:
            await verb(tx, world.alan)
    for verb in [*CHANGES.values(), *READS.values()]:
        with pytest.raises(UnknownDataset):
            async with db.transaction() as tx:
                await verb(tx, world.bea)
    with pytest.raises(UnknownDataset):
        await lfns(db, world.bea, "d")
    async with db.transaction() as tx:
        assert (await datasets.search(tx, world.bea, DatasetSearch())).rows == []
        await datasets.remove(tx, world.ada_admin, ["d"])


async def test_names_are_searched_page_by_page_and_are_unique(world: World) -> None:
    db, ada = world.db, world.ada
    await register(db, ada, "/astro/a")
    async with db.transaction() as tx:
        await datasets.create(tx, ada, [NewDataset(name=f"d{n}", path="/astro") for n in range(5)])
        await datasets.create(tx, ada, [NewDataset(name="/astro/other", path="/astro")])
    names: list[str] = []
    after = None
    while True:
        async with db.transaction() as tx:
            page = await datasets.search(tx, ada, DatasetSearch(beginning="d", limit=2, after=after))
        names += [row.name for row in page.rows]
        after = page.next
        if after is None:
            break
    assert names == ["d0", "d1", "d2", "d3", "d4"]
    for name, error in (("d1", DatasetExists), ("a\nb", BadDatasetName)):
        with pytest.raises(error):
            await make(db, ada, name)
    with pytest.raises(DatasetExists):
        async with db.transaction() as tx:
            await datasets.rename(tx, ada, RenameDataset(name="d0", to="d1"))
    with pytest.raises(BadQuery):
        await make(db, ada, "new", query="run >")


async def test_the_commands(world: World, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    db, ada = world.db, world.ada
    await register(db, ada, "/astro/d/a", "/astro/d/b")
    spinor = Commands(db, monkeypatch)

    async def says(*words: str, exit_code: int = 0) -> str:
        capfd.readouterr()
        assert await spinor(ada, "file", "dataset", *words) == exit_code
        return capfd.readouterr().out

    assert "dynamic" in await says("create", "raw", "/astro/d", "name", "like", "*")
    assert await says("files", "raw") == "/astro/d/a\n/astro/d/b\n"
    await says("annotate", "raw", "what there is")
    await says("freeze", "raw", "--annotation", "first")
    await register(db, ada, "/astro/d/c")
    assert len((await says("files", "raw", "--json")).splitlines()) == 2
    assert await says("check", "raw", "-q") == "raw\n"
    assert "first" in await says("versions", "raw")
    await says("update", "raw", exit_code=5)
    await says("release", "raw")
    await says("update", "raw")
    assert await says("check", "raw", "-q") == ""
    assert "annotation  what there is" in await says("show", "raw", "-l")
    await says("rename", "raw", "cooked")
    assert await says("list", "-q") == "cooked\n"
    await says("rm", "cooked")
    await says("show", "cooked", exit_code=3)
