"""The change feed: each change once, in the order in which it happened, however transactions overlap."""

import asyncio
import json
import random
from collections import defaultdict
from typing import Any

import pytest

from spinor.access import Caller
from spinor.catalog import service, store
from spinor.catalog.feed import rules
from spinor.catalog.feed import service as feed
from spinor.catalog.feed.errors import BadPosition, PositionExpired
from spinor.catalog.feed.models import Change, ChangePage, ChangesRequest, StreamRequest
from spinor.catalog.feed.routes import _lines, read_changes
from spinor.catalog.models import BytesFate, MetadataChange, Move, RemoveRequest
from spinor.db import Database, execute, fetch_value
from spinor.http import State
from spinor.signals import Signals

from .direct import Commands
from .test_provenance import close
from .workbench import World, check_sums, new_file, register


async def read(db: Database, caller: Caller, since: str, **asked: Any) -> ChangePage:
    async with db.statements() as reads:
        return await feed.changes(reads, caller, ChangesRequest(since=since, **asked))


async def now(db: Database, caller: Caller) -> str:
    return (await read(db, caller, "now")).next


async def all_after(db: Database, caller: Caller, since: str, **asked: Any) -> tuple[list[Change], str]:
    rows: list[Change] = []
    while True:
        page = await read(db, caller, since, **asked)
        rows += page.rows
        since = page.next
        if not page.more:
            return rows, since


def told(rows: list[Change]) -> list[tuple[str, str]]:
    return [(row.kind, row.path) for row in rows]


async def test_what_happens_is_told_once(world: World) -> None:
    db, ada = world.db, world.ada
    await register(db, ada, "/astro/old")
    since = await now(db, ada)
    assert (await read(db, ada, since)).rows == []
    await register(db, ada, "/astro/d/a", "/astro/d/b", adler32="0000000a")
    async with db.transaction() as tx:
        await service.set_metadata(tx, ada, MetadataChange(paths=["/astro/d/a"], set={"run": 5}))
        await service.move(tx, ada, [Move(source="/astro/d/a", target="/astro/d/c")])
    async with db.transaction() as tx:
        await service.remove_files(tx, ada, RemoveRequest(paths=["/astro/d/c"]))
    rows, after = await all_after(db, ada, since, expand=True)
    assert told(rows) == [
        ("directory-made", "/astro/d"), ("files-registered", "/astro/d"), ("metadata-changed", "/astro/d"),
        ("files-moved", "/astro/d"), ("files-removed", "/astro/d"),
    ]  # fmt: skip
    assert [row.names for row in rows[2:]] == [["a"], ["a"], ["c"]]
    assert rows[2].detail == {"set": {"run": 5}, "unset": []}
    assert rows[1].files == 2
    # Of what was registered the rest is there.
    assert [(file.name, file.adler32) for file in rows[1].expanded or []] == [("b", "0000000a")]
    assert (await read(db, ada, after)).rows == []
    # Each row's position goes on behind it, and pages of any size show the same.
    for n, row in enumerate(rows):
        assert [r.kind for r in (await all_after(db, ada, row.position))[0]] == [r.kind for r in rows[n + 1 :]]
    for limit in (1, 2, 5):
        assert told((await all_after(db, ada, since, limit=limit))[0]) == told(rows)


async def test_every_change_is_told_exactly_once_and_in_order_with_overlapping_writers(world: World) -> None:
    """Eight writers, whose transactions commit in another order than they began, and one that stays open throughout."""
    db, ada, chance = world.db, world.ada, random.Random(5)
    await register(db, ada, *(f"/astro/d{n}/first" for n in range(4)))
    since = await now(db, ada)
    done: dict[str, list[str]] = defaultdict(list)

    async def write(writer: int) -> None:
        for turn in range(12):
            path = f"/astro/d{chance.randrange(4)}"
            async with db.transaction() as tx:
                # The transaction has its number long before it has the directory.
                await execute(tx, "SELECT pg_current_xact_id()")
                await asyncio.sleep(chance.random() * 0.03)
                await service.register_files(tx, ada, [new_file(f"{path}/{writer}-{turn}")])
                done[path].append(f"{writer}-{turn}")  # The directory is locked: this is the order of what happens.
                await asyncio.sleep(chance.random() * 0.02)

    async def follow() -> None:
        position = since
        ended = False
        while not ended:
            ended = writers.done() and not page_now
            page = await read(db, ada, position, limit=chance.choice([1, 3, 1000]), expand=True)
            page_now[:] = page.rows
            seen.extend(page.rows)
            position = page.next
            await asyncio.sleep(0.005)

    seen: list[Change] = []
    page_now: list[Change] = []
    async with db.transaction() as long:
        await execute(long, "SELECT pg_current_xact_id()")
        writers = asyncio.ensure_future(asyncio.gather(*map(write, range(8))))
        await follow()
        await writers
    by_path: dict[str, list[str]] = defaultdict(list)
    for row in seen:
        assert row.expanded is not None
        by_path[row.path] += [file.name for file in row.expanded]
    assert by_path == done
    assert sum(map(len, done.values())) == 96
    await check_sums(db, files=100)


async def test_a_directorys_changes_stand_in_the_order_in_which_they_happened(world: World) -> None:
    """The first transaction has the lower number, and the directory after the second one."""
    db, ada = world.db, world.ada
    await register(db, ada, "/astro/d/x")
    since = await now(db, ada)
    async with db.transaction() as first:
        await execute(first, "SELECT pg_current_xact_id()")
        async with db.transaction() as second:
            await service.remove_files(second, ada, RemoveRequest(paths=["/astro/d/x"], bytes=BytesFate.KEEP))
        await service.register_files(first, ada, [new_file("/astro/d/x")])
    assert [row.kind for row in (await all_after(db, ada, since))[0]] == ["files-removed", "files-registered"]


async def test_a_reader_sees_what_it_may_list_and_what_it_asks_for(world: World) -> None:
    db = world.db
    await register(db, world.ada, "/astro/a/x", "/astro/a/b/x", "/astro/ab/x")
    since = await now(db, world.ada)
    async with db.transaction() as tx:
        await close(tx, "/astro/a/b")
    await register(db, world.ada, "/astro/a/y", "/astro/a/b/y", "/astro/ab/y")
    assert told((await all_after(db, world.ada, since))[0]) == [
        ("files-registered", path) for path in ("/astro/a", "/astro/a/b", "/astro/ab")
    ]
    assert [path for _, path in told((await all_after(db, world.alan, since))[0])] == ["/astro/a", "/astro/ab"]
    within = (await all_after(db, world.ada, since, path="/astro/a"))[0]
    assert [row.path for row in within] == ["/astro/a", "/astro/a/b"]


async def test_old_changes_go_and_positions_before_them_expire(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    db, ada = world.db, world.ada
    monkeypatch.setattr(feed, "_PRUNED_AT_ONCE", 3)
    before = await now(db, ada)
    positions = []
    for n in range(10):
        await register(db, ada, f"/astro/f{n}")
        positions.append(await now(db, ada))
    async with db.transaction() as tx:
        old = "UPDATE catalog.change SET at = now() - interval '91 days' WHERE path = '/astro' AND change_id <= 6"
        await execute(tx, old)
    assert await feed.prune(db) == 5
    assert await feed.prune(db) == 0
    for position in (before, *positions[:4]):
        with pytest.raises(PositionExpired) as caught:
            await read(db, ada, position)
        assert caught.value.status == 410
        assert "spinor file dump" in caught.value.message
    kept = [row for position in positions[5:] for row in (await all_after(db, ada, position))[0]]
    assert len(kept) == 4 + 3 + 2 + 1
    assert len((await all_after(db, ada, "start"))[0]) == 5
    async with db.transaction() as tx:
        assert await fetch_value(tx, "SELECT count(*) FROM catalog.change") == 5


async def test_an_idle_feed_keeps_positions_good(world: World) -> None:
    db, ada = world.db, world.ada
    await register(db, ada, "/astro/x")
    since = await now(db, ada)
    async with db.transaction() as tx:
        await execute(tx, "UPDATE catalog.change SET at = now() - interval '1 year'")
    await feed.prune(db)
    await register(db, ada, "/astro/y")
    assert len((await all_after(db, ada, since))[0]) == 1


@pytest.mark.parametrize("text", ["", "5", "1:2", "1:2:3/4", "a:b:c", "1:1:/2:2:/x", "1:1:' OR 1=1"])
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(BadPosition):
        rules.read_position(text)


async def test_a_position_from_another_life_of_the_database_is_refused(world: World) -> None:
    with pytest.raises(PositionExpired):
        await read(world.db, world.ada, "99999999999:99999999999:")


async def test_a_waiting_reader_is_woken_by_the_commit(world: World) -> None:
    db, ada = world.db, world.ada
    since = await now(db, ada)
    signals = Signals(db.url)
    async with signals.listening():
        await asyncio.sleep(0.5)
        asked = ChangesRequest(since=since, wait_s=60)
        waiting = asyncio.ensure_future(read_changes(db, ada, asked, State(signals)))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        await register(db, world.bea, "/bio/x", se="bio-se")
        await register(db, ada, "/astro/x")
        assert told((await asyncio.wait_for(waiting, 5)).rows) == [("files-registered", "/astro")]
        waiting = asyncio.ensure_future(read_changes(db, ada, ChangesRequest(since="now"), State(signals)))
        assert (await waiting).rows == []
        last = ChangesRequest(since=(await waiting).next, wait_s=60)
        waiting = asyncio.ensure_future(read_changes(db, ada, last, State(signals)))
        await asyncio.sleep(0.1)
    assert (await asyncio.wait_for(waiting, 5)).rows == []  # The server stops.


async def test_a_stream_tells_of_each_change_and_ends_with_the_server(world: World) -> None:
    db, ada = world.db, world.ada
    await register(db, ada, "/astro/x")
    signals = Signals(db.url)
    lines: list[dict[str, Any]] = []

    async def take() -> None:
        async for piece in _lines(db, ada, StreamRequest(since="start"), signals):
            lines.extend(json.loads(line) for line in piece.splitlines() if line)

    async with signals.listening():
        await asyncio.sleep(0.5)
        taking = asyncio.ensure_future(take())
        for n in range(3):
            await register(db, ada, f"/astro/{n}")
            async with asyncio.timeout(5):
                while len(lines) < n + 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
    await asyncio.wait_for(taking, 5)
    assert [line["kind"] for line in lines] == ["files-registered"] * 4
    assert len((await all_after(db, ada, lines[1]["position"]))[0]) == 2


async def test_a_transaction_that_fails_leaves_nothing_in_the_feed(world: World) -> None:
    db, ada = world.db, world.ada
    since = await now(db, ada)
    with pytest.raises(RuntimeError):
        async with db.transaction() as tx:
            await service.register_files(tx, ada, [new_file("/astro/x")])
            raise RuntimeError
    assert (await all_after(db, ada, since))[0] == []


async def test_a_long_record_wakes_once(world: World) -> None:
    """One statement records many directories, and signals once."""
    async with world.db.transaction() as tx:
        await service.make_directories(tx, world.ada, [f"/astro/d{n}" for n in range(50)])
        found = await store.find_directories(tx, world.ada, [f"/astro/d{n}" for n in range(50)])
        rows = [(directory.directory_id, 0, None, None) for directory in found.values()]
        await store.record_changes(tx, world.ada, "directory-changed", rows)
    assert len((await all_after(world.db, world.ada, "start"))[0]) == 100


async def test_the_command(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    await register(world.db, world.ada, "/astro/d/a", "/astro/d/b")
    spinor = Commands(world.db, monkeypatch)
    assert await spinor(world.ada, "file", "changes", "--expand") == 0
    out, err = capsys.readouterr()
    assert [line.split("  ")[1:] for line in out.splitlines()[:2]] == [
        ["directory-made", "/astro/d"], ["files-registered", "/astro/d", "2 files"],
    ]  # fmt: skip
    assert out.splitlines()[2:] == ["    a", "    b"]
    position = err.split()[-1]
    await register(world.db, world.ada, "/astro/c")
    assert await spinor(world.ada, "file", "changes", "--since", position, "--json") == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["path"] == "/astro"
    assert await spinor(world.ada, "file", "changes", "--since", "yesterday") == 2
