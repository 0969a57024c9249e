"""Single replicas: added, removed, judged and re-hosted, with exact sums, and never two files on the same bytes."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from spinor.catalog import service as catalog
from spinor.catalog.errors import (
    BytesLeaving,
    DirectoryDenied,
    FileDenied,
    FileDiffers,
    PlaceTaken,
    UnknownLFN,
    UnknownReplica,
)
from spinor.catalog.models import BytesFate, FileStatus, ReplicaStatus
from spinor.catalog.replicas import service
from spinor.catalog.replicas.models import Checksums, NewReplica, RemoveReplicas, ReplicaName
from spinor.db import fetch_rows
from spinor.errors import SpinorError
from spinor.types import LFN, PFN, SEName

from .workbench import World, check_sums, register


def name(lfn: str, se: str = "local-se") -> ReplicaName:
    return ReplicaName(lfn=LFN(lfn), se=SEName(se))


async def carried_out(world: World, verb: Any, *arguments: Any, caller: Any = None, **options: Any) -> Any:
    async with world.db.transaction() as tx:
        return await verb(tx, caller or world.ada, *arguments, **options)


async def places(world: World, lfn: str) -> list[tuple[int, str, str]]:
    async with world.db.transaction() as tx:
        (file,) = await catalog.locate_files(tx, world.ada, [lfn])
    return [(replica.se_id, replica.pfn, replica.status.value) for replica in file.replicas]


async def add(world: World, lfn: str, se: str = "second-se", pfn: str | None = None) -> Any:
    new = NewReplica(lfn=LFN(lfn), se=SEName(se), pfn=None if pfn is None else PFN(pfn))
    return await carried_out(world, service.add_replicas, [new])


async def test_a_replica_is_added_once(world: World) -> None:
    await register(world.db, world.ada, "/astro/d/x", "/astro/d/y")
    (first,) = await add(world, "/astro/d/x")
    (again,) = await add(world, "/astro/d/x")
    assert (first.outcome, again.outcome) == ("replica_added", "already")
    await add(world, "/astro/d/y", pfn="own/place")
    assert [pfn for _, pfn, _ in await places(world, "/astro/d/x")] == ["astro/d/x", "astro/d/x"]
    assert [pfn for _, pfn, _ in await places(world, "/astro/d/y")] == ["astro/d/y", "own/place"]
    await check_sums(world.db, files=2)


async def test_two_files_do_not_get_the_same_bytes(world: World) -> None:
    await register(world.db, world.ada, "/astro/d/x", "/astro/d/y")
    await register(world.db, world.ada, "/astro/e/z", pfn="own/z")
    await register(world.db, world.ada, "/astro/f", se="second-se")
    for taken in ("astro/d/y", "own/z"):
        with pytest.raises(PlaceTaken):
            await add(world, "/astro/f", "local-se", taken)
    await check_sums(world.db, files=4)


async def test_removing_one_of_two_replicas_takes_its_bytes_only(world: World) -> None:
    await register(world.db, world.ada, "/astro/d/x")
    await add(world, "/astro/d/x")
    request = RemoveReplicas(replicas=[name("/astro/d/x"), name("/astro/d/x", "second-se")])
    outcome = await carried_out(world, service.remove_replicas, request)
    assert outcome.done == ["/astro/d/x local-se"]
    assert [refusal.code for refusal in outcome.refused] == ["last-replica"]
    async with world.db.transaction() as tx:
        assert await fetch_rows(tx, "SELECT path, names FROM catalog.removal") == [("astro/d", ["x"])]
    with pytest.raises(BytesLeaving):
        await add(world, "/astro/d/x", "local-se")
    outcome = await carried_out(
        world, service.remove_replicas,
        RemoveReplicas(replicas=[name("/astro/d/x", "second-se")], last=True, bytes=BytesFate.KEEP),
    )  # fmt: skip
    assert outcome.refused == []
    assert await places(world, "/astro/d/x") == []
    await check_sums(world.db, files=1)


async def test_statuses_stay_with_their_replicas(world: World) -> None:
    await register(world.db, world.ada, "/astro/x", "/astro/y")
    await add(world, "/astro/x")
    done = await carried_out(world, service.set_replica_status, [name("/astro/x", "second-se")], ReplicaStatus.SUSPECT)
    assert done.changed == 1
    assert [status for _, _, status in await places(world, "/astro/x")] == ["available", "suspect"]
    await carried_out(world, service.remove_replicas, RemoveReplicas(replicas=[name("/astro/x")]))
    assert [status for _, _, status in await places(world, "/astro/x")] == ["suspect"]
    with pytest.raises(UnknownReplica):
        await carried_out(
            world, service.set_replica_status, [name("/astro/y"), name("/astro/x")], ReplicaStatus.UNAVAILABLE
        )
    assert [status for _, _, status in await places(world, "/astro/y")] == ["available"]
    await check_sums(world.db, files=2)


async def test_a_rehosted_replica_keeps_its_pfn(world: World) -> None:
    await register(world.db, world.ada, "/astro/d/x", "/astro/d/y")
    await register(world.db, world.ada, "/astro/d/y", se="second-se")
    assert (await carried_out(world, service.rehost_replicas, [name("/astro/d/x")], "second-se")).changed == 1
    assert [pfn for _, pfn, _ in await places(world, "/astro/d/x")] == ["astro/d/x"]
    with pytest.raises(PlaceTaken):
        await carried_out(world, service.rehost_replicas, [name("/astro/d/y")], "second-se")
    await check_sums(world.db, files=2)


async def test_checksums_are_filled_and_never_written_over(world: World) -> None:
    await register(world.db, world.ada, "/astro/x")
    filled = Checksums(lfn=LFN("/astro/x"), adler32="fedcba98", sha256="ab" * 32)
    assert (await carried_out(world, service.fill_checksums, [filled])).changed == 1
    assert (await carried_out(world, service.fill_checksums, [filled])).changed == 0
    (stat,) = await carried_out(world, catalog.stat_files, ["/astro/x"])
    assert (stat.adler32, stat.sha256) == ("fedcba98", "ab" * 32)
    with pytest.raises(FileDiffers, match="fedcba98, not 00000001"):
        await carried_out(world, service.fill_checksums, [Checksums(lfn=LFN("/astro/x"), adler32="00000001")])


async def test_a_file_has_a_status(world: World) -> None:
    await register(world.db, world.ada, "/astro/x")
    assert (await carried_out(world, service.set_file_status, ["/astro/x"], FileStatus.SUSPECT)).changed == 1
    (stat,) = await carried_out(world, catalog.stat_files, ["/astro/x"])
    assert stat.status is FileStatus.SUSPECT
    assert stat.modified_at > stat.created_at


async def test_what_exists_and_who_has_a_guid(world: World) -> None:
    guid = UUID("01234567-89ab-7def-8123-456789abcdef")
    await register(world.db, world.ada, "/astro/d/x", guid=guid)
    found = await carried_out(world, service.existing, ["/astro/d/x", "/astro/d", "/astro/d/x/y", "/astro/no"])
    assert [each.kind for each in found] == ["file", "directory", None, None]
    other = uuid4()
    owners = await carried_out(world, service.lfns_of_guids, [other, guid])
    assert [each.lfn for each in owners] == [None, "/astro/d/x"]


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        (service.add_replicas, [[NewReplica(lfn=LFN("/astro/x"), se=SEName("second-se"))]]),
        (service.remove_replicas, [RemoveReplicas(replicas=[name("/astro/x")], last=True)]),
        (service.set_replica_status, [[name("/astro/x")], ReplicaStatus.SUSPECT]),
        (service.rehost_replicas, [[name("/astro/x")], "second-se"]),
        (service.set_file_status, [["/astro/x"], FileStatus.SUSPECT]),
        (service.fill_checksums, [[Checksums(lfn=LFN("/astro/x"), adler32="00000001")]]),
    ],
)
async def test_others_may_not_change_a_file(world: World, verb: Any, arguments: list[Any]) -> None:
    await register(world.db, world.ada, "/astro/x")
    with pytest.raises(FileDenied):
        await carried_out(world, verb, *arguments, caller=world.alan)
    with pytest.raises((UnknownLFN, DirectoryDenied, SpinorError)):
        await carried_out(world, verb, *arguments, caller=world.bea)
    await check_sums(world.db, files=1)
