"""From which files a file was made: to any depth, never in a circle, and only as far as the reader may see."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from spinor.access import Caller
from spinor.catalog import service
from spinor.catalog.errors import DirectoryDenied, UnknownLFN
from spinor.catalog.models import Move, RemoveRequest
from spinor.catalog.provenance import service as provenance
from spinor.catalog.provenance.errors import AncestorLeaving, LineageCycle
from spinor.catalog.provenance.models import LineageRequest, SetAncestors
from spinor.db import Database, fetch_value
from spinor.types import LFN

from .direct import Commands
from .workbench import World, check_sums, new_file, register

D = "/astro/d"


async def made_from(db: Database, caller: Caller, lfn: str, *ancestors: str, replace: bool = False) -> Any:
    async with db.transaction() as tx:
        change = SetAncestors(lfn=LFN(lfn), ancestors=[LFN(a) for a in ancestors], replace=replace)
        return await provenance.set_ancestors(tx, caller, [change])


async def ancestors(db: Database, caller: Caller, lfn: str, depth: int | None = None) -> list[tuple[str, int]]:
    async with db.transaction() as tx:
        (found,) = await provenance.ancestors(tx, caller, LineageRequest(lfns=[LFN(lfn)], depth=depth))
    return [(relative.lfn, relative.depth) for relative in found.ancestors]


async def descendants(db: Database, caller: Caller, lfn: str, depth: int | None = None) -> list[tuple[str, int]]:
    async with db.transaction() as tx:
        (found,) = await provenance.descendants(tx, caller, LineageRequest(lfns=[LFN(lfn)], depth=depth))
    return [(relative.lfn, relative.depth) for relative in found.descendants]


async def links(db: Database) -> int:
    async with db.transaction() as tx:
        return int(await fetch_value(tx, "SELECT count(*) FROM catalog.file_ancestor"))


async def files(world: World, names: Sequence[str]) -> None:
    await register(world.db, world.ada, *(f"{D}/{name}" for name in names))


async def test_a_lineage_is_told_with_its_shortest_depths_both_ways(world: World) -> None:
    await files(world, "abcde")
    await made_from(world.db, world.ada, f"{D}/a", f"{D}/b", f"{D}/c")
    await made_from(world.db, world.ada, f"{D}/b", f"{D}/c")
    await made_from(world.db, world.ada, f"{D}/c", f"{D}/d")
    assert await ancestors(world.db, world.ada, f"{D}/a") == [(f"{D}/b", 1), (f"{D}/c", 1), (f"{D}/d", 2)]
    assert await ancestors(world.db, world.ada, f"{D}/a", 1) == [(f"{D}/b", 1), (f"{D}/c", 1)]
    assert await descendants(world.db, world.ada, f"{D}/d") == [(f"{D}/c", 1), (f"{D}/a", 2), (f"{D}/b", 2)]
    assert await descendants(world.db, world.ada, f"{D}/e") == []
    await check_sums(world.db, files=5)


async def test_a_deep_and_wide_lineage_is_walked_once_per_depth(world: World) -> None:
    # Two ways at each of 40 steps: 2**40 ways, and no more than 80 files.
    names = [f"{step}{side}" for step in range(40) for side in "lr"]
    await files(world, [*names, "top"])
    async with world.db.transaction() as tx:
        changes = [
            SetAncestors(lfn=LFN(f"{D}/{n}{side}"), ancestors=[LFN(f"{D}/{n + 1}{other}") for other in "lr"])
            for n in range(39)
            for side in "lr"
        ]
        top = SetAncestors(lfn=LFN(f"{D}/top"), ancestors=[LFN(f"{D}/0l"), LFN(f"{D}/0r")])
        await provenance.set_ancestors(tx, world.ada, [*changes, top])
    found = await ancestors(world.db, world.ada, f"{D}/top")
    assert len(found) == 80
    assert found[-1] == (f"{D}/39r", 40)


async def test_adding_keeps_and_replacing_takes_what_was_there(world: World) -> None:
    await files(world, "abc")
    await made_from(world.db, world.ada, f"{D}/a", f"{D}/b")
    (now,) = await made_from(world.db, world.ada, f"{D}/a", f"{D}/c", f"{D}/c", f"{D}/b")
    assert [relative.lfn for relative in now.ancestors] == [f"{D}/b", f"{D}/c"]
    (now,) = await made_from(world.db, world.ada, f"{D}/a", f"{D}/c", replace=True)
    assert [relative.lfn for relative in now.ancestors] == [f"{D}/c"]
    await made_from(world.db, world.ada, f"{D}/a", replace=True)
    assert await links(world.db) == 0


async def test_a_cycle_is_refused_with_its_way(world: World) -> None:
    await files(world, "abc")
    await made_from(world.db, world.ada, f"{D}/a", f"{D}/b")
    await made_from(world.db, world.ada, f"{D}/b", f"{D}/c")
    with pytest.raises(LineageCycle) as caught:
        await made_from(world.db, world.ada, f"{D}/c", f"{D}/a")
    assert caught.value.facts["lfns"] == [f"{D}/c", f"{D}/a", f"{D}/b", f"{D}/c"]
    assert "'/astro/d/c' <- '/astro/d/a' <- '/astro/d/b' <- '/astro/d/c'" in caught.value.message.replace('"', "'")
    with pytest.raises(LineageCycle):
        await made_from(world.db, world.ada, f"{D}/a", f"{D}/a")
    assert await links(world.db) == 2


async def test_two_writers_close_no_cycle_together(world: World) -> None:
    await register(world.db, world.ada, *(f"/astro/{n}/f" for n in range(4)))
    # 0 <- 1 and 2 <- 3 are there; 1 <- 2 and 3 <- 0 touch no common directory, and only one of them may come.
    await made_from(world.db, world.ada, "/astro/0/f", "/astro/1/f")
    await made_from(world.db, world.ada, "/astro/2/f", "/astro/3/f")
    for _ in range(5):
        answers = await asyncio.gather(
            made_from(world.db, world.ada, "/astro/1/f", "/astro/2/f"),
            made_from(world.db, world.ada, "/astro/3/f", "/astro/0/f"),
            return_exceptions=True,
        )
        assert sorted(isinstance(answer, LineageCycle) for answer in answers) == [False, True]
        await made_from(world.db, world.ada, "/astro/1/f", replace=True)
        await made_from(world.db, world.ada, "/astro/3/f", replace=True)


async def test_links_are_made_with_the_files_or_not_at_all(world: World) -> None:
    await register(world.db, world.ada, f"{D}/raw")
    async with world.db.transaction() as tx:
        batch = [
            new_file(f"{D}/final", ancestors=[LFN(f"{D}/middle")]),
            new_file(f"{D}/middle", ancestors=[LFN(f"{D}/raw")]),
            new_file(f"{D}/raw", ancestors=[LFN(f"{D}/final")]),  # It is there, and keeps what it has.
        ]
        await service.register_files(tx, world.ada, batch)
    assert await ancestors(world.db, world.ada, f"{D}/final") == [(f"{D}/middle", 1), (f"{D}/raw", 2)]
    circle = [new_file(f"{D}/x", ancestors=[LFN(f"{D}/y")]), new_file(f"{D}/y", ancestors=[LFN(f"{D}/x")])]
    for refused, error in ((circle, LineageCycle), ([new_file(f"{D}/x", ancestors=[LFN(f"{D}/no")])], UnknownLFN)):
        with pytest.raises(error):
            async with world.db.transaction() as tx:
                await service.register_files(tx, world.ada, refused)
    await check_sums(world.db, files=3)


async def test_links_follow_a_move_and_go_with_a_removed_file(world: World) -> None:
    await files(world, "abc")
    await made_from(world.db, world.ada, f"{D}/a", f"{D}/b")
    await made_from(world.db, world.ada, f"{D}/b", f"{D}/c")
    async with world.db.transaction() as tx:
        await service.move(tx, world.ada, [Move(source=f"{D}/b", target=f"{D}/moved")])
    assert await ancestors(world.db, world.ada, f"{D}/a") == [(f"{D}/moved", 1), (f"{D}/c", 2)]
    async with world.db.transaction() as tx:
        await service.remove_files(tx, world.ada, RemoveRequest(paths=[f"{D}/moved"]))
    assert await ancestors(world.db, world.ada, f"{D}/a") == []
    assert await links(world.db) == 0
    await check_sums(world.db, files=2)


async def test_no_link_outlives_an_ancestor_that_is_removed_meanwhile(world: World) -> None:
    for n in range(12):
        child, ancestor = f"/astro/children/{n}", f"/astro/ancestors/{n}"
        await register(world.db, world.ada, child, ancestor)

        async def remove(path: str = ancestor) -> None:
            async with world.db.transaction() as tx:
                await service.remove_files(tx, world.ada, RemoveRequest(paths=[path]))

        def later(k: int, child: str = child, ancestor: str = ancestor) -> Any:
            return made_from(world.db, world.ada, child, ancestor) if k % 2 else remove()

        answers = await asyncio.gather(later(n), later(n + 1), return_exceptions=True)
        for answer in answers:
            assert not isinstance(answer, Exception) or isinstance(answer, UnknownLFN | AncestorLeaving)
        assert await links(world.db) == 0


async def test_what_the_reader_may_not_see_is_left_out_and_what_lies_behind_is_not(world: World) -> None:
    await register(world.db, world.ada, f"{D}/a", f"{D}/b")
    await register(world.db, world.ada, "/astro/hidden/x")
    await made_from(world.db, world.ada, f"{D}/a", "/astro/hidden/x")
    await made_from(world.db, world.ada, "/astro/hidden/x", f"{D}/b")
    async with world.db.transaction() as tx:
        await close(tx, "/astro/hidden")
    assert await ancestors(world.db, world.alan, f"{D}/a") == [(f"{D}/b", 2)]
    assert await ancestors(world.db, world.ada, f"{D}/a") == [("/astro/hidden/x", 1), (f"{D}/b", 2)]
    await register(world.db, world.alan, "/astro/alan/mine")
    for lfn, ancestor, error in (
        ("/astro/alan/mine", "/astro/hidden/x", DirectoryDenied),
        (f"{D}/a", "/astro/alan/mine", DirectoryDenied),
    ):
        with pytest.raises(error):
            await made_from(world.db, world.alan, lfn, ancestor)


async def close(tx: Any, path: str) -> None:
    """Let nobody but the owner pass the directory."""
    await tx.execute(
        """WITH made AS (
               INSERT INTO catalog.access (vo_id, owner_id, group_id, mode)
               SELECT a.vo_id, a.owner_id, a.group_id, 448
               FROM catalog.directory AS d JOIN catalog.access AS a USING (access_id) WHERE d.path = %(path)s
               RETURNING access_id, vo_id
           ), gate AS (
               INSERT INTO catalog.gate (vo_id, access_ids)
               SELECT m.vo_id, array(SELECT DISTINCT a FROM unnest(g.access_ids || m.access_id) AS a ORDER BY a)
               FROM made AS m, catalog.directory AS d JOIN catalog.directory AS p ON p.directory_id = d.parent_id
               JOIN catalog.gate AS g ON g.gate_id = p.gate_id WHERE d.path = %(path)s
               RETURNING gate_id
           )
           UPDATE catalog.directory SET access_id = made.access_id, gate_id = gate.gate_id
           FROM made, gate WHERE path = %(path)s""",
        {"path": path},
    )


async def test_the_commands(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    await files(world, "abc")
    spinor = Commands(world.db, monkeypatch)
    assert await spinor(world.ada, "file", "set-ancestors", f"{D}/a", f"{D}/b", f"{D}/c") == 0
    assert await spinor(world.ada, "file", "ancestors", f"{D}/a", "-q") == 0
    assert capsys.readouterr().out == f"{D}/b\n{D}/c\n"
    assert await spinor(world.ada, "file", "descendants", f"{D}/b", "--depth", "1") == 0
    assert capsys.readouterr().out.split() == ["file", "depth", "descendant", f"{D}/b", "1", f"{D}/a"]
    assert await spinor(world.ada, "file", "set-ancestors", f"{D}/b", f"{D}/a") == 5
    assert await spinor(world.ada, "file", "ancestors", f"{D}/nothing") == 3
    assert await spinor(world.ada, "file", "set-ancestors", f"{D}/b") == 2
