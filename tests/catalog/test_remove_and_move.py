"""Names go and change; counters stay exact and bytes keep their places."""

import pytest

from spinor.access import Caller
from spinor.catalog import rules, service
from spinor.catalog.errors import BadMove, DirectoryDenied, LFNExists, UnknownDirectory, UnknownLFN
from spinor.catalog.models import BytesFate, Contents, Move, Moved, Outcome, RemoveRequest
from spinor.db import fetch_rows

from .workbench import World, check_sums, register


async def remove(
    world: World, *paths: str, caller: Caller | None = None, recursive: bool = False, fate: BytesFate = BytesFate.DELETE
) -> Outcome:
    async with world.db.transaction() as tx:
        request = RemoveRequest(paths=list(paths), recursive=recursive, bytes=fate)
        return await service.remove_files(tx, caller or world.ada, request)


async def move(world: World, *pairs: tuple[str, str], caller: Caller | None = None) -> list[Moved]:
    async with world.db.transaction() as tx:
        moves = [Move(source=source, target=target) for source, target in pairs]
        return await service.move(tx, caller or world.ada, moves)


async def pfns(world: World, *lfns: str) -> list[str | None]:
    async with world.db.transaction() as tx:
        return [replica.pfn for file in await service.locate_files(tx, world.ada, lfns) for replica in file.replicas]


QUEUED = "SELECT concat_ws('/', NULLIF(path, ''), name) AS pfn FROM catalog.removal, unnest(names) AS name ORDER BY pfn"


async def queued(world: World) -> list[str]:
    async with world.db.transaction() as tx:
        return [row[0] for row in await fetch_rows(tx, QUEUED)]


async def test_each_refused_path_has_its_reason_and_the_others_go(world: World) -> None:
    await register(world.db, world.ada, "/astro/a/x", "/astro/a/y", "/astro/a/b/z", pfn="own/place")
    await register(world.db, world.ada, "/astro/a/x", se="second-se")
    await register(world.db, world.alan, "/astro/alan/x")
    outcome = await remove(
        world,
        "/astro/a/x",
        "/astro/a/nope",
        "/astro/a/b",
        "/astro/alan/x",
        "/bio/x",
        "rel",
        "/astro/../x",
        "/astro/a/x",
    )
    assert outcome.done == ["/astro/a/x"]
    assert {refusal.id: refusal.code for refusal in outcome.refused} == {
        "/astro/a/nope": "unknown-lfn",
        "/astro/a/b": "unknown-lfn",
        "/astro/alan/x": "directory-denied",
        "/bio/x": "path-outside-vo",
        "rel": "bad-lfn",
        "/astro/../x": "bad-lfn",
    }
    assert all(refusal.reason for refusal in outcome.refused)
    assert await queued(world) == ["astro/a/x", "own/place"]
    await check_sums(world.db, files=3)
    again = await remove(world, "/astro/a/x")
    assert [refusal.code for refusal in again.refused] == ["unknown-lfn"]


async def test_a_tree_goes_whole_or_not_at_all(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await register(world.db, world.ada, *(f"/astro/t/d{n % 3}/f{n}" for n in range(9)), "/astro/ta/x")
    await register(world.db, world.ada_admin, "/astro/t/d0/admin/x")
    refused = await remove(world, "/astro/t", caller=world.alan, recursive=True)
    assert [refusal.code for refusal in refused.refused] == ["directory-denied"]
    monkeypatch.setattr(rules, "MAX_REMOVED_FILES", 5)
    assert [refusal.code for refusal in (await remove(world, "/astro/t", recursive=True)).refused] == [
        "directory-too-large"
    ]
    monkeypatch.undo()
    await check_sums(world.db, files=11)
    assert (await remove(world, "/astro/t", "/astro/t/d1", recursive=True)).refused == []
    await check_sums(world.db, files=1)
    assert len(await queued(world)) == 10
    assert [r.code for r in (await remove(world, "/astro", recursive=True, caller=world.ada_admin)).refused] == [
        "directory-too-large"
    ]


async def test_bytes_can_be_kept(world: World) -> None:
    await register(world.db, world.ada, "/astro/a/x")
    await remove(world, "/astro/a", recursive=True, fate=BytesFate.KEEP)
    assert await queued(world) == []
    await check_sums(world.db, files=0)


async def test_bytes_on_a_read_only_storage_keep_the_file(world: World) -> None:
    await register(world.db, world.ada, "/astro/a/x", "/astro/a/y")
    await register(world.db, world.ada, "/astro/a/y", se="second-se")
    async with world.db.transaction() as tx:
        await tx.execute("UPDATE resources.storage_element SET read_only = true WHERE name = 'second-se'")
    outcome = await remove(world, "/astro/a/x", "/astro/a/y")
    assert (outcome.done, outcome.refused[0].code) == (["/astro/a/x"], "replica-read-only")
    assert "second-se" in outcome.refused[0].reason
    assert (await remove(world, "/astro/a", recursive=True)).refused[0].code == "replica-read-only"
    assert (await remove(world, "/astro/a", recursive=True, fate=BytesFate.KEEP)).refused == []


async def test_bytes_that_are_about_to_go_are_not_registered(world: World) -> None:
    from spinor.catalog.errors import BytesLeaving

    await register(world.db, world.ada, "/astro/a/x", pfn="place")
    await remove(world, "/astro/a/x")
    with pytest.raises(BytesLeaving, match="about to be deleted"):
        await register(world.db, world.ada, "/astro/a/new", pfn="place")
    await register(world.db, world.ada, "/astro/a/new", pfn="place2")


async def test_a_moved_file_keeps_its_bytes(world: World) -> None:
    await register(world.db, world.ada, "/astro/a/x", "/astro/a/y", "/astro/b/z", size_bytes=5)
    await register(world.db, world.ada, "/astro/a/x", se="second-se", pfn="own", size_bytes=5)
    done = await move(world, ("/astro/a/x", "/astro/b"), ("/astro/a/y", "/astro/a/y2"))
    assert [(m.target, m.kind) for m in done] == [("/astro/b/x", "file"), ("/astro/a/y2", "file")]
    assert await pfns(world, "/astro/b/x", "/astro/a/y2", "/astro/b/z") == [
        "astro/a/x",
        "own",
        "astro/a/y",
        "astro/b/z",
    ]
    await check_sums(world.db, files=3)


async def test_a_moved_directory_keeps_its_bytes_and_all_below(world: World) -> None:
    await register(world.db, world.ada, "/astro/a/x", "/astro/a/b/c/y", "/astro/ab/z", "/astro/into/w")
    done = await move(world, ("/astro/a", "/astro/into"))
    assert [(m.target, m.kind) for m in done] == [("/astro/into/a", "directory")]
    await move(world, ("/astro/into/a", "/astro/new"))
    assert await pfns(world, "/astro/new/x", "/astro/new/b/c/y", "/astro/ab/z") == [
        "astro/a/x", "astro/a/b/c/y", "astro/ab/z",
    ]  # fmt: skip
    await check_sums(world.db, files=4)
    await register(world.db, world.ada, "/astro/new/b/c/later")
    assert await pfns(world, "/astro/new/b/c/later") == ["astro/a/b/c/later"]


@pytest.mark.parametrize(
    ("source", "target", "error"),
    [
        ("/astro/a/nope", "/astro/a/z", UnknownLFN),
        ("/astro/a/x", "/astro/a/y", LFNExists),
        ("/astro/a/x", "/astro/nowhere/x", UnknownDirectory),
        ("/astro/a/x", "/astro/a/x", LFNExists),
        ("/astro/a/x", "/astro/alan/x", DirectoryDenied),
        ("/astro/a/x", "/astro/a/y/below", UnknownDirectory),
        ("/astro/alan/x", "/astro/a/z", DirectoryDenied),
        ("/astro/alan", "/astro/a/z", DirectoryDenied),
        ("/astro/a", "/astro/a/b/a", BadMove),
        ("/astro/a", "/astro/a", BadMove),
        ("/astro/a", "/astro/nowhere/b", UnknownDirectory),
        ("/astro/a/b", "/astro/a/x", LFNExists),
        ("/astro", "/astro/a", BadMove),
        ("/astro/a/b", "/astro/c", LFNExists),
    ],
)
async def test_a_refused_move_changes_nothing(world: World, source: str, target: str, error: type[Exception]) -> None:
    await register(world.db, world.ada, "/astro/a/x", "/astro/a/y", "/astro/a/b/z", "/astro/a/w", "/astro/c/b/v")
    await register(world.db, world.alan, "/astro/alan/x")
    with pytest.raises(error):
        await move(world, ("/astro/a/w", "/astro/a/w2"), (source, target))
    async with world.db.transaction() as tx:
        await service.stat_files(tx, world.ada, ["/astro/a/x", "/astro/a/y", "/astro/a/b/z", "/astro/a/w"])
    await check_sums(world.db, files=6)


async def test_a_move_does_not_make_paths_too_long(world: World) -> None:
    await register(world.db, world.ada, "/astro/a/" + "/".join(["d" * 200] * 18) + "/x")
    async with world.db.transaction() as tx:
        await service.make_directories(tx, world.ada, ["/astro/" + "/".join(["e" * 200] * 5)])
    with pytest.raises(BadMove, match="4,096"):
        await move(world, ("/astro/a", "/astro/" + "/".join(["e" * 200] * 5)))


async def test_a_directory_goes_only_with_what_may_be_in_it(world: World) -> None:
    await register(world.db, world.ada, "/astro/full/sub/x")
    async with world.db.transaction() as tx:
        await service.make_directories(tx, world.ada, ["/astro/empty/sub", "/astro/bare"])
    expected = {
        ("/astro/full", Contents.DIRECTORIES): "directory-not-empty",
        ("/astro/full", Contents.NOTHING): "directory-not-empty",
        ("/astro/empty", Contents.NOTHING): "directory-not-empty",
        ("/astro/empty", Contents.DIRECTORIES): "",
        ("/astro/bare", Contents.NOTHING): "",
    }
    for (path, contents), code in expected.items():
        async with world.db.transaction() as tx:
            request = RemoveRequest(paths=[path], recursive=True, contents=contents)
            outcome = await service.remove_files(tx, world.ada, request)
        assert [refusal.code for refusal in outcome.refused] == ([code] if code else []), (path, contents)
    await check_sums(world.db, files=1)
