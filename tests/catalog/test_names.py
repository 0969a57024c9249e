"""Names of any Unicode, of up to 255 bytes, in paths of up to 4,096: registered, found, moved, dumped and removed."""

import pytest

from spinor.catalog import service
from spinor.catalog.errors import BadLFN, BadMove
from spinor.catalog.models import ListRequest, MetadataChange, Move, RemoveRequest
from spinor.search import Search

from .workbench import World, check_sums, register

# 255 bytes of letters that take four bytes each, and some one-byte ones; no path of it is compressible.
LONG_NAME = "".join(chr(0x10000 + 977 * n % 0xFFFF) for n in range(63)) + "abc"


def deep(base: str, bytes_: int) -> str:
    """A path of exactly so many bytes, of different names."""
    path, n = base, 0
    while len(path.encode()) < bytes_ - 256:
        path += f"/{n:03d}" + "".join(chr(0x4E00 + (n * 131 + k * 17) % 20_000) for k in range(83))
        n += 1
    return path + "/" + "z" * (bytes_ - len(path.encode()) - 1)


NAMES = [
    LONG_NAME, "new\nline", "tab\t", "quote\"'`", "back\\slash", "%_*?[x]", "\u00e9", "e\u0301",
    "\U0001f469\u200d\U0001f52c", " ", "-rf", "{a,b}", "$1",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
async def test_any_name_is_a_name(world: World, name: str) -> None:
    lfn = f"/astro/d/{name}"
    await register(world.db, world.ada, lfn, "/astro/d/other")
    async with world.db.transaction() as tx:
        assert [stat.lfn for stat in await service.stat_files(tx, world.ada, [lfn])] == [lfn]
        page = await service.list_directory(tx, world.ada, ListRequest(path="/astro/d"))
        assert {entry.lfn for entry in page.rows} == {lfn, "/astro/d/other"}
        assert lfn in {
            row["lfn"] for row in (await service.find_files(tx, world.ada, "/astro", Search(fields=[]))).rows
        }
        (located,) = await service.locate_files(tx, world.ada, [lfn])
        assert [replica.pfn for replica in located.replicas] == [f"astro/d/{name}"]
        await service.set_metadata(tx, world.ada, MetadataChange(paths=[lfn], set={"k": name}))
        await service.move(tx, world.ada, [Move(source=lfn, target=f"/astro/{name}")])
        outcome = await service.remove_files(tx, world.ada, RemoveRequest(paths=[f"/astro/{name}"]))
        assert outcome.refused == []
    await check_sums(world.db, files=1)


async def test_a_path_of_4096_bytes_works_and_one_more_is_refused(world: World) -> None:
    lfn = deep("/astro", 4096)
    assert len(lfn.encode()) == 4096
    directory = lfn.rpartition("/")[0]
    await register(world.db, world.ada, lfn)
    async with world.db.transaction() as tx:
        assert (await service.stat_files(tx, world.ada, [lfn]))[0].lfn == lfn
        assert (await service.usage(tx, world.ada, ["/astro"]))[0].files == 1
        found = await service.find_files(tx, world.ada, directory, Search(fields=[]))
        assert [row["lfn"] for row in found.rows] == [lfn]
        # A sibling whose first 512 characters are the same is not below it.
        twin = directory[:-1] + "y"
        await service.make_directories(tx, world.ada, [twin])
        assert (await service.usage(tx, world.ada, [twin]))[0].files == 0
    with pytest.raises(BadLFN, match="more than 4,096 bytes"):
        await register(world.db, world.ada, lfn + "z")
    first = "/".join(lfn.split("/")[:3])
    async with world.db.transaction() as tx:
        await service.make_directories(tx, world.ada, ["/astro/longer"])
    with pytest.raises(BadMove, match="more than 4,096 bytes"):
        async with world.db.transaction() as tx:
            await service.move(tx, world.ada, [Move(source=first, target="/astro/longer")])
    async with world.db.transaction() as tx:
        await service.move(tx, world.ada, [Move(source=first, target="/astro/short")])
    async with world.db.transaction() as tx:
        outcome = await service.remove_files(tx, world.ada, RemoveRequest(paths=["/astro/short"], recursive=True))
        assert outcome.refused == []
    await check_sums(world.db, files=0)


@pytest.mark.parametrize(
    ("name", "words"), [("a" * 256, "at most 255"), ("nul\0", "NUL"), ("..", ".."), ("\ud800", "Unicode")]
)
async def test_what_is_no_name_says_why(world: World, name: str, words: str) -> None:
    with pytest.raises(BadLFN, match=words):
        await register(world.db, world.ada, f"/astro/{name}")
