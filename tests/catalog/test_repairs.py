"""The server's verbs behind `spinor file fsck`: each change only where it is allowed, and things are as it says."""

from collections.abc import AsyncIterator, Sequence

import psycopg
import pyarrow as pa
import pytest

from spinor.access import Caller
from spinor.catalog.errors import BadPFN, ReplicaReadOnly
from spinor.catalog.fsck.changes import (
    AddReplica,
    ClearChecksum,
    Register,
    RemoveReplica,
    SetChecksum,
    SetStatus,
    Unregister,
)
from spinor.catalog.models import RemoveRequest
from spinor.catalog.repairs import changing, removals
from spinor.catalog.repairs.models import FileChange, Repaired
from spinor.catalog.replicas.models import NewReplica
from spinor.catalog.replicas.service import add_replicas
from spinor.catalog.service import due_removals, remove_files
from spinor.db import fetch_rows, fetch_value
from spinor.errors import Denied
from spinor.resources.service import UnknownStorageElement
from spinor.types import LFN, PFN, SEName

from .workbench import World, check_sums, register

SE = "local-se"


async def make(world: World, caller: Caller, *changes: FileChange) -> Repaired:
    async with world.db.transaction() as tx:
        return await changing.make(tx, caller, changes)


async def codes(world: World, caller: Caller, *changes: FileChange) -> list[str]:
    """Those of the refusals, which must be of all changes."""
    answer = await make(world, caller, *changes)
    assert answer.done == 0
    return [refusal.code for refusal in answer.refused]


def status(lfn: str, before: str, after: str) -> SetStatus:
    return SetStatus(lfn=lfn, se=SE, before=before, after=after)


def shared(database_url: str) -> None:
    """The storage element belongs to both VOs."""
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(
            """INSERT INTO resources.storage_access (se_id, vo_id) SELECT se_id, v.vo_id
               FROM resources.storage_element, identity.vo AS v
               WHERE storage_element.name = 'local-se' AND v.name = 'bio'"""
        )


async def rows(stream: AsyncIterator[bytes]) -> list[dict[str, object]]:
    data = b"".join([piece async for piece in stream])
    found: list[dict[str, object]] = pa.ipc.open_stream(data).read_all().to_pylist()
    return found


async def test_status_only_from_what_is_expected(world: World) -> None:
    await register(world.db, world.ada, "/astro/a", "/astro/b")
    answer = await make(
        world, world.ada, status("/astro/a", "available", "unavailable"), status("/astro/none", "available", "suspect")
    )
    assert (answer.done, [(each.n, each.code) for each in answer.refused]) == (1, [(1, "unknown-lfn")])
    assert await codes(
        world, world.ada,
        status("/astro/a", "available", "unavailable"), status("/astro/a", "available", "suspect"),
        status("/astro/b", "available", "nonsense"), status("/bio/a", "available", "suspect"),
        SetStatus(lfn="/astro/b", se="second-se", before="available", after="suspect"),
    ) == ["already", "moved-on", "bad-status", "path-outside-vo", "unknown-replica"]  # fmt: skip
    await check_sums(world.db)


async def test_who_may_not_write_repairs_nothing(world: World) -> None:
    await register(world.db, world.ada, "/astro/a")
    assert await codes(world, world.alan, status("/astro/a", "available", "suspect")) == ["file-denied"]
    unregister = Unregister(lfn="/astro/a", se=SE, pfn="astro/a", size_bytes=10)
    assert await codes(world, world.alan, unregister) == ["file-denied"]
    with pytest.raises(UnknownStorageElement):
        await make(world, world.bea, status("/bio/a", "available", "suspect"))
    assert (await make(world, world.ada_admin, status("/astro/a", "available", "suspect"))).done == 1


async def test_replicas_go_and_come_back_as_they_were(world: World) -> None:
    await register(world.db, world.ada, "/astro/a")
    await register(world.db, world.ada, "/astro/b", pfn="elsewhere/b")
    gone = [
        RemoveReplica(lfn="/astro/a", se=SE, pfn="astro/a", status="available"),
        RemoveReplica(lfn="/astro/b", se=SE, pfn="elsewhere/b", status="available"),
    ]
    other = RemoveReplica(lfn="/astro/a", se=SE, pfn="astro/other", status="available")
    assert await codes(world, world.ada, other) == ["moved-on"]
    async with world.db.transaction() as tx:
        before = await fetch_rows(tx, "SELECT name, se_ids, pfns FROM catalog.file ORDER BY name")
    assert (await make(world, world.ada, *gone)).done == 2
    assert await codes(world, world.ada, *gone) == ["already", "already"]
    await check_sums(world.db)
    back = [AddReplica(lfn=each.lfn, se=each.se, pfn=each.pfn, status=each.status) for each in gone]
    wrong = [AddReplica(lfn="/astro/a", se=SE, pfn="astro/a", status="nonsense")]
    assert await codes(world, world.ada, *wrong) == ["bad-status"]
    assert (await make(world, world.ada, *back)).done == 2
    assert await codes(world, world.ada, *back) == ["already", "already"]
    async with world.db.transaction() as tx:
        assert await fetch_rows(tx, "SELECT name, se_ids, pfns FROM catalog.file ORDER BY name") == before
        kinds = await fetch_rows(tx, "SELECT DISTINCT kind::text FROM catalog.change WHERE detail ->> 'by' = 'fsck'")
    assert sorted(kinds) == [("replicas-added",), ("replicas-removed",)]
    await check_sums(world.db)


async def test_a_replica_takes_no_place_of_others(world: World) -> None:
    await register(world.db, world.ada, "/astro/a", se="second-se")
    await register(world.db, world.ada, "/astro/b", "/astro/c")
    async with world.db.transaction() as tx:
        await remove_files(tx, world.ada, RemoveRequest(paths=["/astro/c"]))
    for pfn in ("astro/b", "astro/c"):
        change = AddReplica(lfn="/astro/a", se=SE, pfn=pfn, status="available")
        assert await codes(world, world.ada, change) == ["place-taken"]
    with pytest.raises(BadPFN):
        await make(world, world.ada, AddReplica(lfn="/astro/a", se=SE, pfn="../x", status="available"))
    await check_sums(world.db)


async def test_checksums_only_where_they_are_as_expected(world: World) -> None:
    await register(world.db, world.ada, "/astro/a")
    await register(world.db, world.ada, "/astro/b", adler32="00000001")
    assert (await make(world, world.ada, SetChecksum(lfn="/astro/a", se=SE, adler32="ffffffff"))).done == 1
    assert await codes(
        world, world.ada,
        SetChecksum(lfn="/astro/a", se=SE, adler32="ffffffff"), SetChecksum(lfn="/astro/b", se=SE, adler32="ffffffff"),
    ) == ["already", "moved-on"]  # fmt: skip
    assert await codes(world, world.ada, ClearChecksum(lfn="/astro/b", se=SE, adler32="ffffffff")) == ["moved-on"]
    assert (await make(world, world.ada, ClearChecksum(lfn="/astro/a", se=SE, adler32="ffffffff"))).done == 1
    async with world.db.transaction() as tx:
        assert await fetch_rows(tx, "SELECT adler32 FROM catalog.file ORDER BY name") == [(None,), (1,)]


async def test_files_are_adopted_and_let_go(world: World) -> None:
    await register(world.db, world.ada, "/astro/there", "/astro/d/other")
    new = Register(lfn="/astro/new", se=SE, pfn="astro/new", size_bytes=5, adler32="00000005")
    refused = [
        Register(lfn="/astro/there", se=SE, pfn="astro/there", size_bytes=10),
        Register(lfn="/astro/there", se=SE, pfn="astro/there", size_bytes=11),
        Register(lfn="/astro/mine", se=SE, pfn="astro/d/other", size_bytes=10),
        Register(lfn="/bio/x", se=SE, pfn="bio/x", size_bytes=10),
    ]
    answer = await make(world, world.ada, refused[0], new, *refused[1:])
    assert answer.done == 1
    assert [(each.n, each.code) for each in answer.refused] == [
        (0, "already"), (2, "file-differs"), (3, "place-taken"), (4, "path-outside-vo"),
    ]  # fmt: skip
    await check_sums(world.db, files=3)
    gone = Unregister(lfn="/astro/new", se=SE, pfn="astro/new", size_bytes=5, adler32="00000005")
    for size_bytes, adler32, pfn in ((6, "00000005", "astro/new"), (5, None, "astro/new"), (5, "00000005", "x")):
        change = Unregister(lfn="/astro/new", se=SE, pfn=pfn, size_bytes=size_bytes, adler32=adler32)
        assert await codes(world, world.ada, change) == ["moved-on"]
    assert (await make(world, world.ada, gone)).done == 1
    async with world.db.transaction() as tx:
        assert await fetch_value(tx, "SELECT count(*) FROM catalog.removal") == 0, "the bytes must stay"
    await check_sums(world.db, files=2)


async def test_a_file_with_other_replicas_is_not_let_go(world: World) -> None:
    await register(world.db, world.ada, "/astro/a")
    async with world.db.transaction() as tx:
        await add_replicas(tx, world.ada, [NewReplica(lfn=LFN("/astro/a"), se=SEName("second-se"), pfn=PFN("x"))])
    gone = Unregister(lfn="/astro/a", se=SE, pfn="astro/a", size_bytes=10)
    assert await codes(world, world.ada, gone) == ["moved-on"]


async def test_changes_of_one_call_are_of_one_kind(world: World) -> None:
    change = SetChecksum(lfn="/astro/a", se=SE, adler32="ffffffff")
    with pytest.raises(changing.ManyKinds):
        await make(world, world.ada, change, status("/astro/a", "available", "suspect"))
    assert (await make(world, world.ada)).done == 0


async def queue(
    world: World, *pfns: str, caller: Caller | None = None, delay_s: int = 60
) -> tuple[list[str], list[str]]:
    async with world.db.transaction() as tx:
        outcome = await removals.queue_removals(tx, caller or world.ada_admin, SE, pfns, delay_s)
    return outcome.done, [refusal.code for refusal in outcome.refused]


async def cancel(world: World, *pfns: str) -> tuple[list[str], list[str]]:
    async with world.db.transaction() as tx:
        outcome = await removals.cancel_removals(tx, world.ada_admin, SE, pfns)
    return outcome.done, [refusal.code for refusal in outcome.refused]


async def pending(world: World) -> Sequence[object]:
    return [row["pfn"] for row in await rows(removals.removals_on(world.db, world.ada_admin, SE))]


async def test_dark_bytes_wait_and_can_be_kept(world: World) -> None:
    await register(world.db, world.ada, "/astro/a")
    assert await queue(world, "x/1", "x/2", "y", "astro/a", "../z") == (
        ["x/1", "x/2", "y"], ["bad-pfn", "place-taken"],
    )  # fmt: skip
    assert await queue(world, "x/1") == ([], ["already"])
    assert sorted(map(str, await pending(world))) == ["x/1", "x/2", "y"]
    assert await cancel(world, "x/1", "y", "never") == (["x/1", "y"], ["not-waiting"])
    assert await pending(world) == ["x/2"]
    async with world.db.transaction() as tx:
        assert await due_removals(tx, 10) == ([], set()), "they wait"
    assert await queue(world, "now", delay_s=0) == (["now"], [])
    async with world.db.transaction() as tx:
        assert [removal.names for removal in (await due_removals(tx, 10))[0]] == [["now"]]
    assert await cancel(world, "now") == ([], ["not-waiting"]), "its deletion has begun"


async def test_dark_bytes_need_who_may_manage(world: World, database_url: str) -> None:
    for verb in (removals.queue_removals, removals.cancel_removals):
        with pytest.raises(Denied):
            async with world.db.transaction() as tx:
                await verb(tx, world.ada, SE, ["x"], *([60] if verb is removals.queue_removals else []))
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("UPDATE resources.storage_element SET read_only = true")
    with pytest.raises(ReplicaReadOnly):
        await queue(world, "x")


async def test_bytes_of_another_vo_are_nobodys_to_delete(world: World, database_url: str) -> None:
    shared(database_url)
    await register(world.db, world.bea, "/bio/a", se=SE)
    await register(world.db, world.bea, "/bio/b", se=SE, pfn="deep/b")
    await register(world.db, world.bea, "/bio/gone", se=SE)
    async with world.db.transaction() as tx:
        await remove_files(tx, world.bea, RemoveRequest(paths=["/bio/gone"]))
        pfns = ["bio/a", "deep/b", "bio/gone", "free"]
        assert await removals.unnamed(tx, world.ada_admin, SE, pfns) == ["free"]
    assert await queue(world, "bio/a", "deep/b", "bio/gone") == ([], ["already", "place-taken", "place-taken"])
    assert await cancel(world, "bio/gone") == ([], ["not-waiting"])
    assert await pending(world) == []
    adopt = Register(lfn="/astro/mine", se=SE, pfn="bio/a", size_bytes=10)
    assert await codes(world, world.ada_admin, adopt) == ["place-taken"]
    await check_sums(world.db, files=2)


async def test_the_catalogs_side_is_of_ones_own_vo(world: World, database_url: str) -> None:
    shared(database_url)
    await register(world.db, world.bea, "/bio/a", se=SE)
    await register(world.db, world.ada, "/astro/d/a", adler32="ffffffff")
    await register(world.db, world.ada, "/astro/b", pfn="deep/b")
    await register(world.db, world.ada, "/astro/c", se="second-se")
    await make(world, world.ada, status("/astro/b", "available", "suspect"))
    found = await rows(removals.replicas_on(world.db, world.ada_admin, SE, None))
    told = sorted([str(row[name]) for name in ("lfn", "pfn", "adler32", "status")] for row in found)
    assert told == [
        ["/astro/b", "deep/b", "None", "suspect"], ["/astro/d/a", "astro/d/a", str(0xFFFFFFFF), "available"],
    ]  # fmt: skip
    below = await rows(removals.replicas_on(world.db, world.ada_admin, SE, "/astro/d"))
    assert [row["lfn"] for row in below] == ["/astro/d/a"]
    with pytest.raises(UnknownStorageElement):
        await rows(removals.replicas_on(world.db, world.ada_admin, "bio-se", None))
