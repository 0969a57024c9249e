"""Who looks at what waits: the watch while it can, and otherwise whoever asks."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from spinor.db import Tx
from spinor.jobs.matching import store
from spinor.jobs.matching.rows import Waiting
from spinor.jobs.service import Watch
from tests.conftest import World
from tests.jobs.workbench import Workbench


class Looks:
    """Counts the looks at what waits, and may let them fail."""

    def __init__(self) -> None:
        self.count = 0
        self.fail = False

    async def read_waiting(self, tx: Tx) -> Waiting:
        self.count += 1
        if self.fail:
            raise ConnectionError("the database is gone")
        return await _read_waiting(tx)


_read_waiting = store.read_waiting


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    found = Looks()
    monkeypatch.setattr(store, "read_waiting", found.read_waiting)
    return found


@pytest.fixture
async def bench(world: World) -> AsyncIterator[Workbench]:
    yield Workbench(world)


@pytest.fixture
async def watch(bench: Workbench) -> AsyncIterator[Watch]:
    watch = Watch(bench.db, bench.matcher.view)
    yield watch
    watch.stop()


async def test_many_who_heard_of_jobs_share_a_look_that_began_after_the_news(
    bench: Workbench, watch: Watch, looks: Looks
) -> None:
    await watch.news()
    await bench.submit()
    before = looks.count
    await asyncio.gather(*(watch.news() for _ in range(50)))
    assert 1 <= looks.count - before <= 2
    view = bench.matcher.view
    assert sum(int(board.waiting.sum()) for board in view.boards.values()) == 1


async def test_who_asks_does_not_look_while_somebody_watches(bench: Workbench, watch: Watch, looks: Looks) -> None:
    await watch.news()
    watch.stop()  # It was here a moment ago, which is what counts.
    await asyncio.sleep(0)
    before = looks.count
    for _ in range(3):
        async with bench.db.transaction() as tx:
            await bench.matcher.view.look(tx)
    assert looks.count == before


async def test_who_asks_looks_when_the_watch_cannot(bench: Workbench, watch: Watch, looks: Looks) -> None:
    looks.fail = True
    await watch.news()  # It comes back all the same: the asker will hear of it.
    with pytest.raises(ConnectionError):
        async with bench.db.transaction() as tx:
            await bench.matcher.view.look(tx)
    looks.fail = False
    async with bench.db.transaction() as tx:
        await bench.matcher.view.look(tx)
    await bench.submit()
    await watch.news()
    assert sum(int(board.waiting.sum()) for board in bench.matcher.view.boards.values()) == 1


async def test_it_rests_when_nobody_asks(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spinor.jobs.matching.watch._ASKED_S", 0.0)
    watch = Watch(bench.db, bench.matcher.view)
    watch.asked()
    [task] = [each for each in asyncio.all_tasks() if each.get_name() == "watch"]
    await asyncio.wait_for(task, 10)
    monkeypatch.undo()
    await watch.news()  # And begins again.
    watch.stop()
