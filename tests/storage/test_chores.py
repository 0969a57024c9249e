"""Bytes of removed files go, and none is forgotten."""

import logging
from pathlib import Path

from spinor.catalog import service as catalog
from spinor.catalog.models import BytesFate, RemoveRequest
from spinor.chores import ChoreContext, count_chores
from spinor.db import fetch_rows, fetch_value
from spinor.settings import Settings
from spinor.storage.chores import remove_bytes

from .workbench import World, register


def context(world: World, tmp_path: Path) -> ChoreContext:
    env = {"SPINOR_DATABASE_URL": world.db.url, "SPINOR_URL": "https://localhost", "SPINOR_DATA_DIR": str(tmp_path)}
    return ChoreContext(db=world.db, settings=Settings.from_environment(env), log=logging.getLogger("test"))


async def remove(world: World, *lfns: str, fate: BytesFate = BytesFate.DELETE) -> None:
    async with world.db.transaction() as tx:
        outcome = await catalog.remove_files(tx, world.ada, RemoveRequest(paths=list(lfns), bytes=fate))
    assert outcome.refused == []


def written(world: World, *names: str) -> None:
    for name in names:
        (world.storage_root / "astro").mkdir(exist_ok=True)
        (world.storage_root / "astro" / name).write_text(name)


async def test_removed_bytes_go_and_others_stay(world: World, tmp_path: Path) -> None:
    written(world, "a", "b", "c")
    await register(world.db, world.ada, "/astro/a", "/astro/b", "/astro/c")
    await remove(world, "/astro/a")
    await remove(world, "/astro/b", fate=BytesFate.KEEP)
    async with world.db.transaction() as tx:
        assert [chore.name for chore in await count_chores(tx)] == ["storage.remove_bytes"]
    await remove_bytes(context(world, tmp_path), {})
    assert sorted(path.name for path in (world.storage_root / "astro").iterdir()) == ["b", "c"]
    async with world.db.transaction() as tx:
        assert await fetch_value(tx, "SELECT count(*) FROM catalog.removal") == 0


async def test_what_cannot_be_deleted_stays_recorded_and_is_tried_later(world: World, tmp_path: Path) -> None:
    written(world, "a", "b")
    (world.storage_root / "astro" / "a").unlink()
    (world.storage_root / "astro" / "a").mkdir()  # A directory in the way: unlink fails, even for root.
    await register(world.db, world.ada, "/astro/a", "/astro/b")
    await remove(world, "/astro/a", "/astro/b")
    await remove_bytes(context(world, tmp_path), {})
    async with world.db.transaction() as tx:
        rows = await fetch_rows(tx, "SELECT path, names, attempts, not_before > now(), error FROM catalog.removal")
    assert [row[:4] for row in rows] == [("astro", ["a"], 1, True)]
    assert rows[0][4]
    await remove_bytes(context(world, tmp_path), {})  # Not due yet.
    (world.storage_root / "astro" / "a").rmdir()
    (world.storage_root / "astro").mkdir(exist_ok=True)
    written(world, "a")
    async with world.db.transaction() as tx:
        assert await fetch_value(tx, "SELECT attempts FROM catalog.removal") == 1
        await tx.execute("UPDATE catalog.removal SET not_before = now()")
    await remove_bytes(context(world, tmp_path), {})
    assert not (world.storage_root / "astro" / "a").exists()
    async with world.db.transaction() as tx:
        assert await fetch_value(tx, "SELECT count(*) FROM catalog.removal") == 0


async def test_a_worker_that_dies_after_taking_forgets_nothing(world: World, tmp_path: Path) -> None:
    written(world, "a")
    await register(world.db, world.ada, "/astro/a")
    await remove(world, "/astro/a")
    async with world.db.transaction() as tx:
        assert len((await catalog.due_removals(tx, 10))[0]) == 1  # And here the worker is killed.
    async with world.db.transaction() as tx:
        assert (await catalog.due_removals(tx, 10))[0] == []
        await tx.execute("UPDATE catalog.removal SET not_before = now()")
    await remove_bytes(context(world, tmp_path), {})
    assert not (world.storage_root / "astro" / "a").exists()
