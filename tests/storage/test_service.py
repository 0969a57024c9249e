"""Addresses for reading and writing."""

import pytest

from spinor.catalog import service as catalog
from spinor.catalog.errors import BadLFN, DirectoryDenied, PathOutsideVO, UnknownLFN
from spinor.resources.service import UnknownStorageElement
from spinor.storage import service

from .workbench import World, new_file, register


async def test_replicas_come_in_the_order_asked_with_addresses(world: World) -> None:
    await register(world.db, world.ada, "/astro/d/b", "/astro/d/a", adler32="00000001")
    await register(world.db, world.ada, "/astro/d/a", se="second-se", pfn="else where/ä;1")
    async with world.db.transaction() as tx:
        b, a, again = await service.replicas(tx, world.alan, ["/astro/d/b", "/astro/d/a", "/astro/d/b"])
    assert (b.lfn, a.lfn, again) == ("/astro/d/b", "/astro/d/a", b)
    assert [replica.se for replica in a.replicas] == ["local-se", "second-se"]
    assert a.replicas[0].url.endswith("/local-se//astro/d/a")
    assert a.replicas[1].url.endswith("/second-se//else%20where/%C3%A4%3B1")


async def test_unknown_files_are_named(world: World) -> None:
    await register(world.db, world.ada, "/astro/d/a")
    with pytest.raises(UnknownLFN) as caught:
        async with world.db.transaction() as tx:
            await service.replicas(tx, world.ada, ["/astro/d/a", "/astro/d/b", "/astro/d"])
    assert caught.value.facts["count"] == 2
    assert '"/astro/d" (a directory)' in caught.value.message


async def test_places_are_never_given_twice(world: World) -> None:
    async with world.db.transaction() as tx:
        first = await service.places(tx, world.ada, "local-se", ["/astro/d/a", "/astro/d/" + "é" * 127])
        second = await service.places(tx, world.ada, "local-se", ["/astro/d/a"])
        (job,) = await service.places(tx, world.ada, "local-se", ["/astro/d/a"], suffix=";7.1")
    assert first[0].pfn != second[0].pfn
    assert first[0].pfn.startswith("astro/d/a;")
    assert len(first[1].pfn.rpartition("/")[2].encode()) <= 255
    assert (job.pfn, job.url[-16:]) == ("astro/d/a;7.1", "//astro/d/a%3B7.1"[-16:])


async def test_a_place_is_promised_only_where_the_caller_may_write(world: World) -> None:
    await register(world.db, world.ada, "/astro/ada/x")
    async with world.db.transaction() as tx:
        for lfn, error in (
            ("/astro/ada/y", DirectoryDenied),
            ("/astro/ada/new/y", DirectoryDenied),
            ("/bio/x", PathOutsideVO),
            ("/astro/../x", BadLFN),
        ):
            with pytest.raises(error):
                await service.places(tx, world.alan, "local-se", [lfn])
        with pytest.raises(UnknownStorageElement):
            await service.places(tx, world.alan, "bio-se", ["/astro/x"])


async def test_a_file_without_bytes_anywhere_has_no_replicas_to_read(world: World) -> None:
    async with world.db.transaction() as tx:
        await catalog.register_files(tx, world.ada, [new_file("/astro/x")])
        await tx.execute("UPDATE catalog.file SET se_ids = '{}'")
        (file,) = await service.replicas(tx, world.ada, ["/astro/x"])
    assert file.replicas == []
