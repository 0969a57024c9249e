"""Reading: stat, list, find, usage, metadata."""

from typing import Any

import pytest

from spinor.catalog import service
from spinor.catalog.errors import BadMetadata, DirectoryDenied, KeyDeclaredOtherwise, UnknownDirectory, UnknownLFN
from spinor.catalog.models import (
    DirectoryRequest,
    ListRequest,
    MetadataChange,
    MetadataKey,
    MetadataShown,
    MetadataType,
    Move,
)
from spinor.search import Search
from spinor.search.expression import BadQuery

from .workbench import World, new_file, register


async def describe(world: World, *paths: str, **values: Any) -> list[MetadataShown]:
    async with world.db.transaction() as tx:
        return await service.set_metadata(tx, world.ada, MetadataChange(paths=list(paths), set=values))


async def declare(world: World, **types: str) -> None:
    async with world.db.transaction() as tx:
        keys = [MetadataKey(name=name, type=MetadataType(kind)) for name, kind in types.items()]
        await service.declare_keys(tx, world.ada, keys)


async def find(world: World, where: str = "", path: str = "/astro", **search: Any) -> list[str]:
    """The LFNs of all pages, of two rows each."""
    found: list[str] = []
    after = None
    while True:
        async with world.db.transaction() as tx:
            page = await service.find_files(
                tx, world.ada, path, Search(where=where, limit=2, after=after, fields=[], **search)
            )
        found += [row["lfn"].removeprefix("/astro/") for row in page.rows]
        if page.next is None:
            return found
        after = page.next


async def test_stat_keeps_the_order_asked_and_names_what_is_missing(world: World) -> None:
    await register(world.db, world.ada, "/astro/d/b", "/astro/d/a")
    async with world.db.transaction() as tx:
        stats = await service.stat_files(tx, world.ada, ["/astro/d/b", "/astro/d/a", "/astro/d/b"])
        assert [stat.lfn for stat in stats] == ["/astro/d/b", "/astro/d/a", "/astro/d/b"]
        assert await service.stat_files(tx, world.ada, []) == []
        with pytest.raises(UnknownLFN) as caught:
            await service.stat_files(tx, world.ada, ["/astro/d/a", *(f"/astro/d/{n}" for n in range(9))])
    assert caught.value.facts["count"] == 9
    assert '"/astro/d/4" and 4 more' in caught.value.message


async def test_a_listing_has_directories_first_and_pages_by_key(world: World) -> None:
    names = [f"d{n}/x" for n in range(3)] + [f"f{n}" for n in range(4)] + ["z%", "z_"]
    await register(world.db, world.ada, *(f"/astro/top/{name}" for name in names))
    for limit in (1, 2, 3, 4, 100):
        seen: list[str] = []
        after = None
        while True:
            async with world.db.transaction() as tx:
                page = await service.list_directory(
                    tx, world.ada, ListRequest(path="/astro/top/", limit=limit, after=after)
                )
            assert len(page.rows) <= limit
            seen += [row.name for row in page.rows]
            if (after := page.next) is None:
                break
        assert seen == ["d0", "d1", "d2", "f0", "f1", "f2", "f3", "z%", "z_"], limit
    async with world.db.transaction() as tx:
        for glob, names in {"f?": ["f0", "f1", "f2", "f3"], "*2": ["d2", "f2"], "z%": ["z%"], "z_": ["z_"]}.items():
            page = await service.list_directory(tx, world.ada, ListRequest(path="/astro/top", glob=glob))
            assert [row.name for row in page.rows] == names
        (itself,) = (await service.list_directory(tx, world.ada, ListRequest(path="/astro/top/f1"))).rows
        assert (itself.name, itself.lfn, itself.kind, itself.owner) == ("f1", "/astro/top/f1", "file", "ada")
        with pytest.raises(UnknownDirectory):
            await service.list_directory(tx, world.ada, ListRequest(path="/astro/nowhere"))
        with pytest.raises(BadQuery):
            await service.list_directory(tx, world.ada, ListRequest(path="/astro/top", after="?"))


async def test_find_by_fields_of_the_file(world: World) -> None:
    await register(world.db, world.ada, "/astro/a/one.txt", size_bytes=1, adler32="000000ab")
    await register(world.db, world.ada, "/astro/a/two.dat", "/astro/a/b/three.txt", size_bytes=2000, se="second-se")
    await register(world.db, world.alan, "/astro/a_/four.txt", size_bytes=5)
    everything = ["a/one.txt", "a/two.dat", "a/b/three.txt", "a_/four.txt"]
    for where, expected in {
        "": everything,
        "name like *.txt": ["a/one.txt", "a/b/three.txt", "a_/four.txt"],
        "size > 1kB": ["a/two.dat", "a/b/three.txt"],
        "size_bytes = 1 or owner = alan": ["a/one.txt", "a_/four.txt"],
        "se = second-se and not name = two.dat": ["a/b/three.txt"],
        "se in (local-se, nowhere)": ["a/one.txt", "a_/four.txt"],
        "se exists": everything,
        "se like second*": ["a/two.dat", "a/b/three.txt"],
        "adler32 = 000000ab": ["a/one.txt"],
        "adler32 missing and group = astro_users and created > -1h": ["a/two.dat", "a/b/three.txt", "a_/four.txt"],
        'path = "/astro/a"': ["a/one.txt", "a/two.dat"],
        "lfn = /astro/a/one.txt": ["a/one.txt"],
    }.items():
        assert await find(world, where) == expected, where
    assert await find(world, path="/astro/a") == ["a/one.txt", "a/two.dat", "a/b/three.txt"]
    assert await find(world, sort=["-size", "-lfn"]) == ["a/two.dat", "a/b/three.txt", "a_/four.txt", "a/one.txt"]
    with pytest.raises(BadQuery, match="unknown field"):
        await find(world, "siez > 1")
    with pytest.raises(UnknownDirectory):
        await find(world, path="/astro/nowhere")


async def test_find_by_metadata_inherits_down_the_tree_and_the_nearest_wins(world: World) -> None:
    await declare(world, run="integer", quality="float", site="text", good="boolean", taken="timestamp")
    await register(world.db, world.ada, *(f"/astro/data/{name}" for name in ("a/x", "a/y", "b/x", "b/deep/er/x")))
    await describe(world, "/astro/data", run=1, site="alma", taken="2026-01-01T00:00:00+02:00")
    await describe(world, "/astro/data/b", run=2, good=True)
    await describe(world, "/astro/data/b/deep/er/x", run=3, quality=0.5)
    for where, expected in {
        "run = 1": ["data/a/x", "data/a/y"],
        "run >= 2": ["data/b/x", "data/b/deep/er/x"],
        "run = 2": ["data/b/x"],
        "run = 3 and good = true and site = alma": ["data/b/deep/er/x"],
        "quality exists": ["data/b/deep/er/x"],
        "good missing": ["data/a/x", "data/a/y"],
        "taken < 2026-01-01 and name = y": ["data/a/y"],
        "run in (1, 3) and not site = vlt": ["data/a/x", "data/a/y", "data/b/deep/er/x"],
    }.items():
        assert await find(world, where) == expected, where
        # What lies above the path that is searched is inherited too.
        assert await find(world, where, path="/astro/data/b") == [e for e in expected if e.startswith("data/b")], where
    assert await find(world, sort=["-run"]) == ["data/b/deep/er/x", "data/b/x", "data/a/x", "data/a/y"]
    with pytest.raises(BadQuery, match="whole number"):
        await find(world, "run = abc")
    async with world.db.transaction() as tx:
        (shown,) = await service.show_metadata(tx, world.ada, ["/astro/data/b/deep/er/x"])
    assert shown.own == {"run": 3, "quality": 0.5}
    assert shown.inherited == {"site": "alma", "taken": "2025-12-31T22:00:00Z", "good": True}
    assert shown.origins == {"site": "/astro/data", "taken": "/astro/data", "good": "/astro/data/b"}


async def test_metadata_follows_a_moved_file_to_its_new_directories(world: World) -> None:
    await declare(world, run="integer")
    await register(world.db, world.ada, "/astro/a/x", "/astro/b/y")
    await describe(world, "/astro/b", run=7)
    async with world.db.transaction() as tx:
        await service.move(tx, world.ada, [Move(source="/astro/a/x", target="/astro/b/")])
    assert await find(world, "run = 7") == ["b/x", "b/y"]


@pytest.mark.parametrize(
    ("kind", "value"),
    [("integer", 1.5), ("integer", "1"), ("integer", True), ("integer", 2**63), ("float", "x"), ("float", True),
     ("text", 1), ("text", "a\0b"), ("boolean", 1), ("boolean", "true"), ("timestamp", "yesterday"), ("timestamp", 5)],
)  # fmt: skip
async def test_a_value_of_the_wrong_type_is_refused_with_key_and_type(world: World, kind: str, value: Any) -> None:
    await declare(world, key=kind)
    await register(world.db, world.ada, "/astro/d/x", "/astro/d/y")
    with pytest.raises(BadMetadata) as caught:
        await describe(world, "/astro/d/x", "/astro/d/y", other=1, key=value)
    assert "'key'" in caught.value.message
    assert kind in caught.value.message
    async with world.db.transaction() as tx:
        assert (await service.show_metadata(tx, world.ada, ["/astro/d/x"]))[0].own == {}


async def test_undeclared_keys_are_kept_and_can_be_found(world: World) -> None:
    await register(world.db, world.ada, "/astro/a/x", "/astro/b/y")
    await describe(world, "/astro/a", method="monte-carlo", depth=4)
    assert await find(world, "method = monte-carlo") == ["a/x"]
    assert await find(world, "depth > 3.5") == ["a/x"]
    with pytest.raises(BadQuery, match="unknown field"):
        await find(world, "mehtod = monte-carlo")
    await declare(world, method="text", depth="integer")
    with pytest.raises(KeyDeclaredOtherwise):
        await declare(world, method="integer")
    await describe(world, "/astro/a", colour="red")
    with pytest.raises(KeyDeclaredOtherwise, match="'colour' there is a value"):
        await declare(world, colour="float")


@pytest.mark.parametrize("key", ["size", "lfn", "and", "", "a b", "a=b", "1a", "x" * 201, "new\nline", "-a"])
async def test_a_bad_key_is_refused(world: World, key: str) -> None:
    await register(world.db, world.ada, "/astro/x")
    with pytest.raises(BadMetadata):
        await describe(world, "/astro/x", **{key: 1})


async def test_metadata_is_set_by_those_who_may_write(world: World) -> None:
    await register(world.db, world.alan, "/astro/alan/x")
    for path in ("/astro/alan", "/astro/alan/x"):
        with pytest.raises(DirectoryDenied):
            await describe(world, path, key=1)
    with pytest.raises(UnknownLFN):
        await describe(world, "/astro/nowhere", key=1)
    async with world.db.transaction() as tx:
        change = MetadataChange(paths=["/astro/alan", "/astro/alan/x"], set={"key": 1}, unset=["never"])
        await service.set_metadata(tx, world.ada_admin, change)
        (shown, _) = await service.set_metadata(tx, world.alan, MetadataChange(paths=change.paths, unset=["key"]))
    assert shown.own == {}


async def test_usage_of_a_tree_counts_files_once_and_replicas_each(world: World) -> None:
    await register(world.db, world.ada, "/astro/a/x", "/astro/a/b/y", size_bytes=100)
    await register(world.db, world.ada, "/astro/a/x", size_bytes=100, se="second-se")
    await register(world.db, world.ada, "/astro/ab/z", size_bytes=2**62)
    async with world.db.transaction() as tx:
        a, everything = await service.usage(tx, world.ada, ["/astro/a", "/astro"])
        assert (a.directories, a.files, a.size_bytes) == (2, 2, 200)
        assert [(e.se, e.files, e.size_bytes) for e in a.storage_elements] == [
            ("local-se", 2, 200),
            ("second-se", 1, 100),
        ]
        assert everything.size_bytes == 2**62 + 200
        with pytest.raises(UnknownDirectory):
            await service.usage(tx, world.ada, ["/astro/nowhere"])
        page = await service.directories_below(tx, world.ada, DirectoryRequest(path="/astro/a", limit=1))
        assert [(row.path, row.files) for row in page.rows] == [("/astro/a", 1)]
        page = await service.directories_below(tx, world.ada, DirectoryRequest(path="/astro/a", after=page.next))
        assert [(row.path, row.files) for row in page.rows] == [("/astro/a/b", 1)]


async def test_directories_are_made_with_their_parents_once(world: World) -> None:
    async with world.db.transaction() as tx:
        assert await service.make_directories(tx, world.ada, ["/astro/a/b/", "/astro/a/b"]) == ["/astro/a/b"]
        assert await service.make_directories(tx, world.ada, ["/astro/a/b", "/astro/a"]) == []
        await service.register_files(tx, world.ada, [new_file("/astro/a/b/x")])
        with pytest.raises(DirectoryDenied):
            await service.make_directories(tx, world.alan, ["/astro/a/c"])
