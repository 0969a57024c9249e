"""`spinor file find` as it is typed, and the addresses behind it."""

from typing import Any

import msgspec
import pytest

from spinor.catalog import service
from spinor.catalog.errors import UnknownDirectory
from spinor.catalog.models import MetadataChange, MetadataKey, MetadataType
from spinor.catalog.query.models import FacetQuery, Query
from spinor.search import BadQuery, Search

from .direct import Commands
from .workbench import World, check_sums, register


@pytest.fixture
async def filled(world: World) -> World:
    await register(world.db, world.ada, "/astro/a/x.root", "/astro/a/y.dat", size_bytes=2000)
    await register(world.db, world.ada, "/astro/b/x.root", size_bytes=10, se="second-se")
    await register(world.db, world.alan, "/astro/c/z.root", size_bytes=1)
    async with world.db.transaction() as tx:
        types = {"run": MetadataType.INTEGER, "site": MetadataType.TEXT}
        await service.declare_keys(tx, world.ada, [MetadataKey(name=n, type=t) for n, t in types.items()])
        described: dict[str, dict[str, Any]] = {
            "/astro/a": {"run": 5, "site": "a"}, "/astro/b": {"run": 7, "site": "b"}, "/astro/b/x.root": {"run": 8},
        }  # fmt: skip
        for path, values in described.items():
            await service.set_metadata(tx, world.ada_admin, MetadataChange(paths=[path], set=values))
    return world


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["run", ">=", "5", "and", "site", "=", "a,b"], ["/astro/a/x.root", "/astro/a/y.dat", "/astro/b/x.root"]),
        (["run>=5", "site=a,b", "Size>1000", "FileName=*.root", "SE=local-se"], ["/astro/a/x.root"]),
        (["run>=5", "site=a,b", "CreationDate>2024-01-01", "SE=second-se"], ["/astro/b/x.root"]),
        (["run=5", "run=8"], ["/astro/a/x.root", "/astro/a/y.dat", "/astro/b/x.root"]),
        (["run=Missing"], ["/astro/c/z.root"]),
        (["run=Any", "name=y*"], ["/astro/a/y.dat"]),
        (["Size>1000 or name = z.root"], ["/astro/a/x.root", "/astro/a/y.dat", "/astro/c/z.root"]),
        (['{"run": {">": 5}}'], ["/astro/b/x.root"]),
        (["run=5", "--where", "name = y.dat or name = z.root"], ["/astro/a/y.dat"]),
        (["--sort", "-size", "--sort", "name", "--limit", "2"], ["/astro/a/x.root", "/astro/a/y.dat"]),
        (["--sort", "-run", "--limit", "1"], ["/astro/b/x.root"]),
        (["--count"], ["4 files, 4.01 kB"]),
        (["--count", "-q", "run=5"], ["2"]),
        (["--count", "--json", "owner = alan"], ['{"files":1,"size_bytes":1}']),
    ],
)
async def test_find_as_it_is_typed(
    filled: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    lines: list[str],
) -> None:
    run = Commands(filled.db, monkeypatch)
    assert await run(filled.ada, "file", "find", "/astro", *words) == 0
    assert capsys.readouterr().out.splitlines() == lines


async def test_find_shows_fields_facets_and_its_way(
    filled: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Commands(filled.db, monkeypatch)
    assert await run(filled.ada, "file", "find", "/astro/b", "--fields", "run,site,se,owner") == 0
    assert capsys.readouterr().out.split() == ["lfn", "run", "site", "se", "owner", "/astro/b/x.root", "8", "b",
                                               "second-se", "ada"]  # fmt: skip
    assert await run(filled.ada, "file", "find", "/astro", "--facet", "run", "--facet", "owner", "--limit", "2") == 0
    shown = capsys.readouterr()
    assert [line.split() for line in shown.out.splitlines()] == [
        ["key", "value", "files"], ["run", "5", "2"], ["run", "8", "1"], ["owner", "ada", "3"], ["owner", "alan", "1"],
    ]  # fmt: skip
    assert "run has more values" in shown.err
    assert await run(filled.ada, "file", "find", "/astro", "run=5", "site=a", "--explain") == 0
    told = capsys.readouterr().out
    assert "1 files of the tree have metadata of their own" in told
    assert "directory" in told
    assert await run(filled.ada, "file", "find", "/astro", "--count", "--explain") == 2
    assert await run(filled.ada, "file", "find", "/astro/nowhere", "--count") == 3
    assert await run(filled.ada, "file", "find", "/astro", "{run: 5}") == 2
    assert await run(filled.ada, "file", "find", "/astro", "LastAccessDate>2024-01-01") == 2
    assert "CreationDate" in capsys.readouterr().err


async def test_a_path_that_is_not_there_has_no_answer(filled: World) -> None:
    async with filled.db.transaction() as tx:
        for path in ("/astro/nowhere", "/astro/a/x.root", "/astro/a/x.root/y"):
            with pytest.raises(UnknownDirectory):
                await service.find_files(tx, filled.ada, path, Search())
            with pytest.raises(UnknownDirectory):
                await service.count_files(tx, filled.ada, path, "")
            with pytest.raises(UnknownDirectory):
                await service.facets(tx, filled.ada, FacetQuery(path=path, keys=["run"]))
            with pytest.raises(UnknownDirectory):
                await service.explain(tx, filled.ada, Query(path=path))


@pytest.mark.parametrize("key", ["lfn", "name", "size", "guid", "nothing"])
async def test_values_that_are_all_different_have_no_facet(filled: World, key: str) -> None:
    async with filled.db.transaction() as tx:
        with pytest.raises(BadQuery):
            await service.facets(tx, filled.ada, FacetQuery(path="/astro", keys=[key]))


async def test_a_page_token_belongs_to_its_query_and_its_path(filled: World) -> None:
    async with filled.db.transaction() as tx:
        page = await service.find_files(tx, filled.ada, "/astro", Search(limit=1, fields=[]))
        for path, where in (("/astro/a", ""), ("/astro", "run=5")):
            with pytest.raises(BadQuery, match="another query"):
                await service.find_files(tx, filled.ada, path, Search(where=where, limit=1, after=page.next))


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("run = 5", "Directories decide it"),
        ("name = x.root", "Only files decide it (name)"),
        ("run = 5 and name = x.root", "Directories are asked first (run)"),
        ('path = "/astro/a"', "Directories decide it"),
        ({"run": {">": 5}}, "have metadata of their own"),
        ("", "Directories decide it"),
    ],
)
async def test_explain_says_which_way_is_taken(filled: World, where: Any, told: str) -> None:
    async with filled.db.transaction() as tx:
        explained = await service.explain(tx, filled.ada, Query(path="/astro", where=where))
    assert any(told in sentence for sentence in explained.way), explained.way
    assert explained.plan
    assert msgspec.json.encode(explained)


async def test_an_equality_over_many_annotated_files_goes_by_the_index(
    filled: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spinor.catalog.service.querying._FEW", 0)

    async def few(*_: object) -> int:
        return 0

    monkeypatch.setattr("spinor.catalog.query.store.estimated_files", few)
    async with filled.db.transaction() as tx:
        explained = await service.explain(tx, filled.ada, Query(path="/astro", where="run = 8 and site = b"))
        found = await service.find_files(tx, filled.ada, "/astro", Search(where="run = 8 and site = b", fields=[]))
    assert any("file_metadata" in sentence for sentence in explained.way)
    assert [row["lfn"] for row in found.rows] == ["/astro/b/x.root"]


async def test_what_is_closed_is_neither_found_nor_counted(filled: World) -> None:
    async with filled.db.transaction() as tx:
        await tx.execute(
            "WITH closed AS (INSERT INTO catalog.access (vo_id, owner_id, group_id, mode) VALUES (%s, %s, %s, 384)"
            " RETURNING access_id) UPDATE catalog.file SET access_id = closed.access_id"
            " FROM closed WHERE name = 'y.dat'",
            [filled.alan.vo_id, filled.alan.user_id, filled.alan.group_id],
        )
    async with filled.db.transaction() as tx:
        assert (await service.count_files(tx, filled.ada, "/astro", "run = 5")).files == 1
        assert (await service.count_files(tx, filled.ada_admin, "/astro", "run = 5")).files == 2
        assert (await service.count_files(tx, filled.alan, "/astro", "run = 5")).files == 2
        (facet,) = await service.facets(tx, filled.ada, FacetQuery(path="/astro/a", keys=["site"]))
        assert [(value.value, value.files) for value in facet.values] == [("a", 1)]


async def test_names_of_dirac_are_known_everywhere_but_behind_keys(filled: World) -> None:
    async with filled.db.transaction() as tx:
        assert (await service.count_files(tx, filled.ada, "/astro", "FileName=*.root and not (Size > 1000)")).files == 2
        await service.declare_keys(tx, filled.ada, [MetadataKey(name="Size", type=MetadataType.TEXT)])
        await service.set_metadata(tx, filled.ada, MetadataChange(paths=["/astro/a"], set={"Size": "big"}))
        assert (await service.count_files(tx, filled.ada, "/astro", "Size = big")).files == 2
    await check_sums(filled.db)
