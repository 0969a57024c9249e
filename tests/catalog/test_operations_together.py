"""Operations beside others: workers that die, two workers at once, people who register into what is going away."""

import asyncio
import sys
from pathlib import Path

import psycopg
import pytest

from spinor.catalog import service as catalog
from spinor.catalog import store as catalog_store
from spinor.catalog.models import BytesFate
from spinor.catalog.operations import rules
from spinor.catalog.operations.models import Remove, SetMetadata
from spinor.catalog.operations.runner import run_open, run_slice
from spinor.db import Database, execute

from .operating import ask, finished, lfns, paths, shown, smaller_slices, value
from .workbench import World, check_sums, new_file, register

WORKER = Path(__file__).with_name("operations_process.py")


async def until(world: World, operation_id: int, slices: int) -> None:
    for _ in range(600):
        found = await shown(world.db, world.ada, operation_id)
        if found.slices >= slices or found.ended_at:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"not {slices} slices within 12 s")


async def test_a_worker_killed_at_any_moment_repeats_nothing_and_forgets_nothing(
    world: World, database_url: str
) -> None:
    for n in range(6):
        await register(world.db, world.ada, *(f"/astro/t/d{n}/f{m:04d}" for m in range(800)))
    operation_id = await ask(world, Remove(paths=["/astro/t"]))
    for kill in range(4):
        await smaller_slices(world, operation_id, 60)
        process = await asyncio.create_subprocess_exec(sys.executable, WORKER, database_url)
        try:
            await until(world, operation_id, 3 * (kill + 1))
        finally:
            process.kill()
            await process.wait()
        await check_sums(world.db)
    left = len(await lfns(world))
    half = await shown(world.db, world.ada, operation_id)
    assert half.done_files == 4800 - left
    ended = await finished(world, operation_id)
    assert (ended.state, ended.done_files, ended.done_bytes, ended.done_directories) == ("done", 4800, 48_000, 7)
    assert await value(world, "SELECT sum(cardinality(names)) FROM catalog.removal") == 4800
    assert await value(world, "SELECT sum(files) FROM catalog.change WHERE kind = 'files-removed'") == 4800
    await check_sums(world.db, files=0)


async def test_what_breaks_inside_a_slice_leaves_no_trace(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await register(world.db, world.ada, *(f"/astro/t/d{n % 3}/f{n}" for n in range(30)))
    operation_id = await ask(world, Remove(paths=["/astro/t"]))

    def locked_out(*_: object, **__: object) -> None:
        raise psycopg.errors.LockNotAvailable

    monkeypatch.setattr("spinor.catalog.operations.removing.end_of_files", locked_out)
    assert await run_slice(world.db, operation_id) is not None
    waiting = await shown(world.db, world.ada, operation_id)
    assert (waiting.state, waiting.slices, waiting.done_files) == ("waiting", 0, 0)
    assert "goes on by itself" in waiting.error
    await check_sums(world.db, files=30)
    monkeypatch.undo()
    ended = await finished(world, operation_id)
    assert (ended.state, ended.error, ended.done_files) == ("done", "", 30)
    await check_sums(world.db, files=0)


async def test_what_cannot_go_on_fails_and_says_why(world: World) -> None:
    await register(world.db, world.ada, *(f"/astro/t/d{n % 3}/f{n}" for n in range(30)))
    operation_id = await ask(world, SetMetadata(paths=["/astro/t"], set={"run": 1}))
    async with world.db.transaction() as tx:
        await execute(tx, "UPDATE catalog.directory SET annotated_files = file_count WHERE path = '/astro/t/d1'")
    ended = await finished(world, operation_id)
    assert (ended.state, ended.done_files) == ("failed", 0)
    assert "counters" in ended.error and ended.ended_at is not None
    assert await run_slice(world.db) is None


async def test_two_workers_share_operations_and_never_one(world: World) -> None:
    """Each file is counted once, whoever removed it."""
    ids = []
    for n in range(3):
        await register(world.db, world.ada, *(f"/astro/t{n}/d{m % 5}/f{m:04d}" for m in range(400)))
        ids.append(await ask(world, Remove(paths=[f"/astro/t{n}"], bytes=BytesFate.KEEP)))
        await smaller_slices(world, ids[-1], 50)
    await asyncio.gather(*(run_open(world.db, until_s=60) for _ in range(4)))
    for operation_id in ids:
        ended = await finished(world, operation_id)
        assert (ended.state, ended.done_files, ended.done_directories) == ("done", 400, 6)
    await check_sums(world.db, files=0)


async def test_operations_take_turns_between_vos_and_among_themselves(world: World) -> None:
    for n in range(2):
        await register(world.db, world.ada, *(f"/astro/t{n}/f{m:04d}" for m in range(300)))
    await register(world.db, world.bea, *(f"/bio/t/f{m:04d}" for m in range(300)), se="bio-se")
    ids = [await ask(world, Remove(paths=[f"/astro/t{n}"])) for n in range(2)]
    ids.append(await ask(world, Remove(paths=["/bio/t"]), world.bea))
    for operation_id in ids:
        await smaller_slices(world, operation_id, 50)
    for _ in range(4):
        await run_slice(world.db)
    counts = "SELECT slices FROM catalog.operation WHERE operation_id = %(id)s::bigint"
    assert [await value(world, counts, id=operation_id) for operation_id in ids] == [1, 1, 2]


async def test_one_operation_is_never_taken_twice(world: World) -> None:
    await register(world.db, world.ada, "/astro/t/x")
    operation_id = await ask(world, Remove(paths=["/astro/t"]))
    async with world.db.transaction() as tx:
        await execute(tx, "SELECT FROM catalog.operation FOR NO KEY UPDATE")
        assert await run_slice(world.db, operation_id) is None
    assert await run_slice(world.db, operation_id) is not None


async def test_people_who_register_into_a_tree_that_goes_away_lose_nothing_half(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file that was registered meanwhile is either gone with all that hangs on it, or there with its directory."""
    monkeypatch.setattr(rules, "MOST", 40)
    await register(world.db, world.ada, *(f"/astro/t/d{n % 10}/f{n}" for n in range(600)))
    operation_id = await ask(world, Remove(paths=["/astro/t"]))
    await smaller_slices(world, operation_id, 20)
    registered: list[str] = []
    over = asyncio.Event()

    async def go_on_registering(db: Database) -> None:
        n = 0
        while not over.is_set():
            n += 1
            lfn = f"/astro/t/d{n % 12}/e{n % 3}/new{n}"
            async with db.transaction() as tx:
                await catalog.register_files(tx, world.ada, [new_file(lfn, pfn=f"new/{n}")])
            registered.append(lfn)
            await asyncio.sleep(0)

    async def remove_all() -> None:
        try:
            await run_open(world.db, until_s=60)
        finally:
            over.set()

    await asyncio.gather(go_on_registering(world.db), remove_all())
    ended = await shown(world.db, world.ada, operation_id)
    assert ended.state == "done"
    left = await lfns(world)
    assert {*left} <= {*registered}
    assert ended.done_files == 600 + len(registered) - len(left)
    queued = await value(world, "SELECT sum(cardinality(names)) FROM catalog.removal")
    assert queued == ended.done_files
    kept = {"/astro"} | {above for lfn in left for above in _above(lfn)}
    assert kept <= {*await paths(world)}
    await check_sums(world.db, files=len(left))
    await finished(world, await ask(world, Remove(paths=["/astro/t"]))) if left else None
    await check_sums(world.db, files=0)


def _above(lfn: str) -> list[str]:
    parts = lfn.split("/")
    return ["/".join(parts[:n]) for n in range(2, len(parts))]


async def test_whoever_holds_a_directory_delays_the_slice_and_no_more(world: World) -> None:
    await register(world.db, world.ada, *(f"/astro/t/d{n % 3}/f{n}" for n in range(30)))
    operation_id = await ask(world, Remove(paths=["/astro/t"]))
    async with world.db.transaction() as tx:
        await catalog_store.hold_tree(tx, world.ada)
        await catalog_store.lock_directories(tx, world.ada, ["/astro/t/d1"])
        assert await run_slice(world.db, operation_id) is not None
        waiting = await shown(world.db, world.ada, operation_id)
        assert (waiting.done_files, waiting.state) == (0, "waiting")
    assert (await finished(world, operation_id)).done_files == 30
    await check_sums(world.db, files=0)


async def test_the_caller_keeps_the_rights_of_the_moment_of_asking(world: World) -> None:
    """A person who loses a role later had it when they asked."""
    await register(world.db, world.alan, "/astro/alan/x")
    operation_id = await ask(world, Remove(paths=["/astro/alan"]), world.ada_admin)
    async with world.db.transaction() as tx:
        await execute(tx, "DELETE FROM identity.membership")
    assert (await finished(world, operation_id)).done_files == 1
