"""Quotas: exact at the limit, held by everything that uses more, and nobody else's business."""

import asyncio
import json

import pytest

from spinor.access import Caller
from spinor.catalog import service
from spinor.catalog.errors import BadQuota, QuotaExceeded, UnknownDirectory, UnknownQuota, UnknownUser
from spinor.catalog.models import BatchRequest, Move, RemoveRequest
from spinor.catalog.quotas import service as quotas
from spinor.catalog.quotas.models import Quota, QuotaSetting, QuotaSubject
from spinor.db import fetch_rows
from spinor.errors import Denied
from spinor.types import SEName

from .direct import Commands
from .roles import change
from .test_batches import body, row
from .workbench import World, check_sums, register


async def limit(world: World, *, by: Caller | None = None, **setting: object) -> Quota:
    async with world.db.transaction() as tx:
        wanted = QuotaSetting(**setting)  # type: ignore[arg-type]
        (quota,) = await quotas.set_quotas(tx, by or world.ada_admin, [wanted])
        return quota


async def quotas_of(world: World, caller: Caller, **subject: str) -> list[Quota]:
    async with world.db.transaction() as tx:
        return await quotas.find_quotas(tx, caller, QuotaSubject(**subject))


async def test_exactly_at_the_limit_is_fine_and_one_more_is_not(world: World) -> None:
    await limit(world, user="ada", max_files=3, max_bytes=100)
    await register(world.db, world.ada, "/astro/a", "/astro/b", size_bytes=50)
    with pytest.raises(QuotaExceeded, match="the user 'ada' would be exceeded: 101 bytes, 100 are allowed; nothing"):
        await register(world.db, world.ada, "/astro/c", size_bytes=1)
    await register(world.db, world.ada, "/astro/c", size_bytes=0)
    with pytest.raises(QuotaExceeded, match="4 files, 3 are allowed"):
        await register(world.db, world.ada, "/astro/d", size_bytes=0)
    with pytest.raises(QuotaExceeded, match="4 files, 3 are allowed"):
        await register(world.db, world.ada, "/astro/c", size_bytes=0, se="second-se")
    await register(world.db, world.ada, "/astro/c", size_bytes=0)  # It is there already, and uses no more.
    await register(world.db, world.alan, "/astro/alans", size_bytes=1000)
    await check_sums(world.db, files=4)


async def test_removing_makes_room(world: World) -> None:
    await register(world.db, world.ada, "/astro/d/a", "/astro/d/b")
    quota = await limit(world, directory="/astro/d", max_files=2)
    assert (quota.files, quota.size_bytes, quota.directory) == (2, 20, "/astro/d")
    with pytest.raises(QuotaExceeded, match='the tree "/astro/d" would be exceeded: 3 files, 2 are allowed'):
        await register(world.db, world.ada, "/astro/d/sub/c")
    async with world.db.transaction() as tx:
        await service.remove_files(tx, world.ada, RemoveRequest(paths=["/astro/d/a"]))
    await register(world.db, world.ada, "/astro/d/sub/c")
    await check_sums(world.db, files=2)


async def test_a_storage_element_and_combinations_have_quotas(world: World) -> None:
    await register(world.db, world.alan, "/astro/first")
    await limit(world, se="second-se", max_files=1)
    await limit(world, user="ada", directory="/astro", se="local-se", max_files=1)
    await register(world.db, world.ada, "/astro/a")
    with pytest.raises(QuotaExceeded, match="the user 'ada' on the tree \"/astro\" on the storage element 'local-se'"):
        await register(world.db, world.ada, "/astro/b")
    await register(world.db, world.ada, "/astro/b", se="second-se")
    with pytest.raises(QuotaExceeded, match="the storage element 'second-se' would be exceeded"):
        await register(world.db, world.alan, "/astro/c", se="second-se")
    await register(world.db, world.alan, "/astro/c")
    await check_sums(world.db, files=4)


async def test_a_batch_goes_in_whole_or_not_at_all(world: World) -> None:
    await limit(world, user="ada", max_files=9)
    request = BatchRequest(directory="/astro/tree", se=SEName("local-se"), prefix="data")
    batch = await service.read_batch(world.ada, request, body([row(f"d{n % 3}", f"f{n}") for n in range(10)]))
    with pytest.raises(QuotaExceeded, match="10 files, 9 are allowed"):
        async with world.db.transaction() as tx:
            await service.register_batch(tx, world.ada, request, batch)
    await check_sums(world.db, files=0)


async def test_many_at_once_never_exceed_together(world: World) -> None:
    await register(world.db, world.ada, *(f"/astro/s{n}/first" for n in range(8)))
    await limit(world, user="ada", max_files=60)
    await limit(world, directory="/astro", max_bytes=500)

    async def fill(session: int) -> int:
        done = 0
        for n in range(10):
            try:
                await register(world.db, world.ada, f"/astro/s{session}/f{n}")
                done += 1
            except QuotaExceeded:
                pass
        return done

    assert sum(await asyncio.gather(*map(fill, range(8)))) == 42, "all of the 500 bytes, and no more"
    await check_sums(world.db, files=50)


async def test_moves_into_a_tree_are_checked_and_moves_inside_are_not(world: World) -> None:
    await register(world.db, world.ada, "/astro/full/a", "/astro/full/sub/b", "/astro/other/c", "/astro/other/deep/d")
    await limit(world, directory="/astro/full", max_files=1)  # Less than is there: nothing comes in, all may go.
    await limit(world, user="ada", max_files=1)
    for source, target in (("/astro/other/c", "/astro/full/c"), ("/astro/other/deep", "/astro/full/deep")):
        with pytest.raises(QuotaExceeded, match=r'"/astro/full" would be exceeded: (3|4) files, 1 are allowed'):
            async with world.db.transaction() as tx:
                await service.move(tx, world.ada, [Move(source=source, target=target)])
    for source, target in (
        ("/astro/full/a", "/astro/full/sub/a"),
        ("/astro/full/sub", "/astro/full/sub2"),
        ("/astro/full/sub2", "/astro/sub"),
        ("/astro/other/c", "/astro/full/c"),
    ):
        async with world.db.transaction() as tx:
            await service.move(tx, world.ada, [Move(source=source, target=target)])
    await check_sums(world.db, files=4)


async def test_what_is_in_trees_of_an_owner_is_checked_when_trees_move(world: World) -> None:
    await register(world.db, world.alan, "/astro/alan/t/x")
    await register(world.db, world.ada, "/astro/ada/y")
    await change(world.db, world.ada, "/astro/ada", mode="0777")
    await limit(world, user="alan", directory="/astro/ada", max_files=0)
    with pytest.raises(QuotaExceeded, match="the user 'alan' on the tree"):
        async with world.db.transaction() as tx:
            await service.move(tx, world.alan, [Move(source="/astro/alan/t", target="/astro/ada/t")])
    await check_sums(world.db, files=2)


async def test_a_new_owner_needs_room(world: World) -> None:
    await register(world.db, world.ada, "/astro/d/a", "/astro/d/b")
    await limit(world, user="alan", max_files=1)
    await limit(world, directory="/astro/d", max_files=1)  # Exceeded, but it does not grow.
    with pytest.raises(QuotaExceeded, match="the user 'alan' would be exceeded: 2 files, 1 are allowed"):
        await change(world.db, world.ada_admin, "/astro/d", owner="alan", recursive=True)
    done = await change(world.db, world.ada_admin, "/astro/d/a", owner="alan")
    assert done.files == 1
    assert [(quota.user, quota.files) for quota in await quotas_of(world, world.alan, user="alan")] == [("alan", 1)]
    await check_sums(world.db, files=2)


async def test_another_vos_quota_is_nobodys_business(world: World) -> None:
    bio_admin = Caller(
        **{**{n: getattr(world.bea, n) for n in world.bea.__struct_fields__}, "scopes": world.ada_admin.scopes}
    )
    await register(world.db, world.bea, "/bio/x", se="bio-se")
    await limit(world, by=bio_admin, user="bea", max_files=0)
    await limit(world, by=bio_admin, directory="/bio", max_bytes=0)
    await register(world.db, world.ada, "/astro/x")
    assert await quotas_of(world, world.ada_admin) == []
    with pytest.raises(QuotaExceeded):
        await register(world.db, world.bea, "/bio/y", se="bio-se")
    with pytest.raises(UnknownUser):
        await limit(world, user="bea", max_files=0)
    await check_sums(world.db, files=2)


async def test_who_manages_files_sets_quotas_and_each_sees_what_concerns_them(world: World) -> None:
    await register(world.db, world.ada, "/astro/d/a")
    await change(world.db, world.ada, "/astro/d", mode="0700")
    await limit(world, user="ada", max_files=5)
    await limit(world, user="alan", max_files=6)
    await limit(world, directory="/astro/d", max_files=7)
    await limit(world, se="local-se", max_files=8)

    async def seen(caller: Caller) -> list[int | None]:
        return [quota.max_files for quota in await quotas_of(world, caller)]

    assert await seen(world.ada_admin) == [5, 6, 7, 8]
    assert await seen(world.ada) == [5, 7, 8]
    assert await seen(world.alan) == [6, 8]
    with pytest.raises(Denied, match="files:manage"):
        await limit(world, by=world.ada, user="ada", max_files=10**6)
    for setting, error in (
        ({"max_files": 1}, BadQuota), ({"user": "ada"}, BadQuota), ({"user": "nobody", "max_files": 1}, UnknownUser),
        ({"directory": "/astro/nowhere", "max_files": 1}, UnknownDirectory),
    ):  # fmt: skip
        with pytest.raises(error):
            await limit(world, **setting)
    async with world.db.transaction() as tx:
        assert await quotas.remove_quotas(tx, world.ada_admin, [QuotaSubject(user="ada")]) == 1
    with pytest.raises(UnknownQuota):
        async with world.db.transaction() as tx:
            await quotas.remove_quotas(tx, world.ada_admin, [QuotaSubject(user="alan"), QuotaSubject(user="ada")])
    assert await seen(world.ada_admin) == [6, 7, 8]
    async with world.db.transaction() as tx:  # A removed directory takes its quota along.
        await service.remove_files(tx, world.ada, RemoveRequest(paths=["/astro/d"], recursive=True))
        assert await fetch_rows(tx, "SELECT FROM catalog.quota WHERE directory_id IS NOT NULL") == []
    await check_sums(world.db, files=0)


async def test_quotas_on_the_command_line(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spinor = Commands(world.db, monkeypatch)
    await register(world.db, world.ada, "/astro/d/a", size_bytes=1500)
    for words, out in (
        (("set", "--user", "ada", "--max-files", "5", "--max-bytes", "10TB"), "ada - - 1 5 1.5 kB 10 TB"),
        (("set", "--directory", "/astro/d/", "--max-bytes", "1.5kB"), "- /astro/d - 1 - 1.5 kB 1.5 kB"),
        (("set", "--user", "ada", "--se", "local-se", "--max-files", "1", "-q"), ""),
        (("show", "--directory", "/astro/d"), "- /astro/d - 1 - 1.5 kB 1.5 kB"),
        (("rm", "--user", "ada", "--se", "local-se"), ""),
    ):
        assert await spinor(world.ada_admin, "file", "quota", *words) == 0, words
        lines = capsys.readouterr().out.splitlines()
        assert " ".join(lines[1].split() if out else lines[1:]) == out, words
    assert await spinor(world.ada, "file", "quota", "show", "--json") == 0
    assert [json.loads(line)["max_bytes"] for line in capsys.readouterr().out.splitlines()] == [10**13, 1500]
    for caller, words, code in (
        (world.ada, ("set", "--user", "ada", "--max-files", "5"), 4),
        (world.ada_admin, ("set", "--user", "ada", "--max-bytes", "much"), 2),
        (world.ada_admin, ("set", "--user", "ada"), 2),
        (world.ada_admin, ("set", "--user", "nobody", "--max-files", "1"), 3),
        (world.ada_admin, ("set", "--se", "no-se", "--max-files", "1"), 3),
        (world.ada_admin, ("rm", "--user", "alan"), 3),
    ):
        assert await spinor(caller, "file", "quota", *words) == code, words
