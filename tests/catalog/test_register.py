"""Registration: one transaction, any number of files, exact answers."""

import asyncio
import uuid
from typing import Any

import pytest

from spinor.access import Caller
from spinor.catalog import service
from spinor.catalog.errors import BadLFN, BadPFN, DirectoryDenied, FileDiffers, GuidTaken, LFNExists, PathOutsideVO
from spinor.catalog.models import NewFile, Registered, RegisterOutcome
from spinor.db import Database
from spinor.errors import SpinorError
from spinor.resources.service import UnknownStorageElement

from .workbench import World, check_sums, new_file, register


async def test_a_file_is_registered_with_its_parents(world: World) -> None:
    done = await register(world.db, world.ada, "/astro/a/b/c.txt", size_bytes=7, adler32="0000002a", sha256="ab" * 32)
    assert [row.outcome for row in done] == [RegisterOutcome.REGISTERED]
    async with world.db.transaction() as tx:
        (stat,) = await service.stat_files(tx, world.alan, ["/astro/a/b/c.txt"])
    assert (stat.size_bytes, stat.adler32, stat.sha256, stat.owner, stat.group) == (
        7, "0000002a", "ab" * 32, "ada", "astro_users",
    )  # fmt: skip
    assert stat.storage_elements == ["local-se"]
    assert stat.guid.version == 7
    await check_sums(world.db)


async def test_registering_again_is_idempotent_and_adds_replicas(world: World) -> None:
    first = await register(world.db, world.ada, "/astro/x", adler32="00000001")
    again = await register(world.db, world.ada, "/astro/x", adler32="00000001")
    second = await register(world.db, world.ada, "/astro/x", se="second-se")
    assert [again[0].outcome, second[0].outcome] == [RegisterOutcome.ALREADY, RegisterOutcome.REPLICA_ADDED]
    assert first[0].file_id == again[0].file_id == second[0].file_id
    await check_sums(world.db)


async def test_one_call_may_name_a_file_with_two_storage_elements(world: World) -> None:
    files = [new_file("/astro/d/x"), new_file("/astro/d/y"), new_file("/astro/d/x", se="second-se")]
    async with world.db.transaction() as tx:
        done = await service.register_files(tx, world.ada, files)
    assert [row.outcome for row in done] == ["registered", "registered", "replica_added"]
    assert done[0].file_id == done[2].file_id
    await check_sums(world.db)


@pytest.mark.parametrize(
    ("field", "there", "given"),
    [("size_bytes", 10, 11), ("adler32", "00000001", "00000002"), ("sha256", "aa" * 32, "bb" * 32)],
)
async def test_a_difference_is_refused_with_both_values(world: World, field: str, there: Any, given: Any) -> None:
    await register(world.db, world.ada, "/astro/x", **{field: there})
    with pytest.raises(FileDiffers) as caught:
        async with world.db.transaction() as tx:
            files = [new_file("/astro/other"), new_file("/astro/x", **{field: given})]
            await service.register_files(tx, world.ada, files)
    assert caught.value.facts["catalog"] == str(there)
    assert caught.value.facts["given"] == str(given)
    assert str(there) in caught.value.message
    await check_sums(world.db, files=1)


async def test_a_file_and_a_directory_cannot_share_a_name(world: World) -> None:
    await register(world.db, world.ada, "/astro/x")
    with pytest.raises(LFNExists):
        await register(world.db, world.ada, "/astro/x/below")
    await register(world.db, world.ada, "/astro/d/file")
    with pytest.raises(LFNExists):
        await register(world.db, world.ada, "/astro/d")


async def test_a_guid_belongs_to_one_file(world: World) -> None:
    guid = uuid.uuid4()
    await register(world.db, world.ada, "/astro/x", guid=guid)
    with pytest.raises(GuidTaken):
        await register(world.db, world.ada, "/astro/y", guid=guid)
    await check_sums(world.db, files=1)


async def test_only_owners_write_in_their_directories(world: World) -> None:
    await register(world.db, world.ada, "/astro/ada/x")
    with pytest.raises(DirectoryDenied) as caught:
        await register(world.db, world.alan, "/astro/ada/sub/y")
    assert "/astro/ada" in caught.value.message
    with pytest.raises(DirectoryDenied):
        await register(world.db, world.alan, "/astro/ada/y")
    await register(world.db, world.alan, "/astro/alan/y")
    await register(world.db, world.ada_admin, "/astro/alan/z")


BAD_LFNS = {
    "empty": "",
    "relative": "astro/x",
    "the top": "/astro",
    "only slashes": "//",
    "double slash": "/astro//x",
    "slash at the end": "/astro/x/",
    "dots": "/astro/../bio/x",
    "one dot": "/astro/./x",
    "NUL": "/astro/a\0b",
    "4000 characters": "/astro/" + "x" * 4000,
    "256 bytes in 128 characters": "/astro/" + "é" * 128,
    "a lone surrogate": "/astro/\udc80",
    "a long path": "/astro/" + "/".join(["d" * 200] * 21),
}


@pytest.mark.parametrize("lfn", BAD_LFNS.values(), ids=BAD_LFNS.keys())
async def test_a_bad_name_is_refused_and_nothing_is_written(world: World, lfn: str) -> None:
    with pytest.raises(BadLFN) as caught:
        async with world.db.transaction() as tx:
            await service.register_files(tx, world.ada, [new_file("/astro/good"), new_file(lfn)])
    assert "\0" not in caught.value.message
    assert len(caught.value.message) < 400
    await check_sums(world.db, files=0)


@pytest.mark.parametrize("name", ["new\nline", "quo\"te's", "🔭", "-rf", "~", "a b", "é" * 127, "%(x)s {y}", "\\", "*"])
async def test_any_other_name_is_kept_as_it_is(world: World, name: str) -> None:
    lfn = f"/astro/{name}/{name}"
    await register(world.db, world.ada, lfn)
    async with world.db.transaction() as tx:
        (stat,) = await service.stat_files(tx, world.ada, [lfn])
    assert stat.lfn == lfn
    await check_sums(world.db, files=1)


@pytest.mark.parametrize("pfn", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a\0b", "a/./b"])
async def test_a_pfn_cannot_leave_its_storage_element(world: World, pfn: str) -> None:
    with pytest.raises(BadPFN):
        await register(world.db, world.ada, "/astro/x", pfn=pfn)


async def test_storage_elements_must_be_known_to_the_vo(world: World) -> None:
    for se in ("bio-se", "nowhere", ""):
        with pytest.raises(UnknownStorageElement) as caught:
            await register(world.db, world.ada, "/astro/x", se=se)
        assert caught.value.status == 404
    await check_sums(world.db, files=0)


async def test_another_vo_is_outside(world: World) -> None:
    with pytest.raises(PathOutsideVO) as caught:
        await register(world.db, world.bea, "/astro/x", se="bio-se")
    assert caught.value.status == 403
    assert "'bio'" in caught.value.message


async def _outcome(db: Database, caller: Caller, files: list[NewFile]) -> list[Registered] | SpinorError:
    try:
        async with db.transaction() as tx:
            return await service.register_files(tx, caller, files)
    except SpinorError as error:
        return error


async def test_many_writers_of_one_new_file_make_exactly_one(world: World) -> None:
    answers = await asyncio.gather(
        *(_outcome(world.db, world.ada, [new_file("/astro/new/dir/x", adler32=f"0000000{n % 2}")]) for n in range(16))
    )
    registered = [a for a in answers if isinstance(a, list) and a[0].outcome == "registered"]
    already = [a for a in answers if isinstance(a, list) and a[0].outcome == "already"]
    differs = [a for a in answers if isinstance(a, FileDiffers)]
    assert (len(registered), len(already), len(differs)) == (1, 7, 8)
    await check_sums(world.db, files=1)


@pytest.mark.parametrize("existing", [False, True], ids=["new directories", "existing directories"])
async def test_opposite_orders_do_not_deadlock(world: World, existing: bool) -> None:
    lfns = [f"/astro/d{n % 20:02d}/sub/f{n:04d}" for n in range(400)]
    if existing:
        await register(world.db, world.ada, *(f"/astro/d{n:02d}/sub/first" for n in range(20)))
    files = [new_file(lfn) for lfn in lfns]
    orders = [files, files[::-1], files[::2] + files[1::2], files[200:] + files[:200]]
    answers = await asyncio.gather(*(_outcome(world.db, world.ada, order) for order in orders))
    assert all(isinstance(answer, list) for answer in answers), answers
    outcomes = [row.outcome for answer in answers if isinstance(answer, list) for row in answer]
    assert outcomes.count(RegisterOutcome.REGISTERED) == 400
    assert outcomes.count(RegisterOutcome.ALREADY) == 1200
    await check_sums(world.db, files=400 + 20 * existing)
