"""The counters of jobs: exact whatever folds meanwhile, and read without what an old snapshot keeps."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from spinor.db import execute
from spinor.jobs.matching import store
from tests.conftest import World
from tests.jobs.workbench import Workbench, echo


@pytest.fixture
async def bench(world: World) -> AsyncIterator[Workbench]:
    yield Workbench(world)


async def counts(bench: Workbench) -> dict[str, int]:
    return dict(await bench.rows("SELECT status::text, sum(jobs)::integer FROM jobs.tally_now GROUP BY 1"))


async def fold(bench: Workbench) -> int:
    return await bench.run(store.fold_tally)


async def test_what_is_committed_after_a_fold_is_counted_by_the_next(bench: Workbench) -> None:
    """Its transaction is older than those that the fold took, and must not lie below the mark."""
    await bench.submit(echo())
    [(queue,)] = await bench.rows("SELECT task_queue_id FROM jobs.tally_change")
    async with bench.db.transaction() as late:
        await execute(
            late,
            "INSERT INTO jobs.tally_change (task_queue_id, ce_id, status, jobs, cores) VALUES (%(q)s, 0, 'done', 5, 0)",
            {"q": queue},
        )
        await bench.submit(echo())
        assert await fold(bench) == 1
        assert await counts(bench) == {"waiting": 2}
    assert await counts(bench) == {"waiting": 2, "done": 5}
    assert await fold(bench) == 1
    assert await counts(bench) == {"waiting": 2, "done": 5}
    assert await fold(bench) == 0
    assert await bench.rows("SELECT count(*) FROM jobs.tally_change") == [(0,)]


async def test_a_new_edition_has_the_same_counts(bench: Workbench) -> None:
    await bench.submit(echo(), echo(name="other"))
    job = await bench.running()
    await fold(bench)
    await bench.finish(job)
    await fold(bench)
    assert await bench.run(store.renew_tally) == 0
    before = await counts(bench)
    assert await bench.rows("SELECT count(*) FROM jobs.tally_live WHERE jobs = 0") == [(1,)]  # Running.
    await bench.submit(echo())
    await bench.run(execute, "UPDATE jobs.tally_mark SET renewed_at = now() - interval '61 min'")
    assert await bench.run(store.renew_tally) == 1
    assert await counts(bench) == before | {"waiting": before["waiting"] + 1}
    await bench.run(execute, "UPDATE jobs.tally_mark SET live_renewed_at = now() - interval '11 s'")
    await bench.submit(echo())
    await fold(bench)
    assert await counts(bench) == before | {"waiting": before["waiting"] + 2}
    await bench.submit(echo())
    await fold(bench)
    assert await counts(bench) == before | {"waiting": before["waiting"] + 3}
    [(edition, live)] = await bench.rows("SELECT edition, live_edition FROM jobs.tally_mark")
    assert await bench.rows("SELECT DISTINCT edition FROM jobs.tally") == [(edition,)] == [(2,)]
    assert await bench.rows("SELECT DISTINCT edition FROM jobs.tally_live") == [(live,)] != [(1,)]
    assert await bench.rows("SELECT count(*) FROM jobs.tally_live WHERE jobs = 0") == [(0,)]
    assert await bench.run(store.renew_tally) == 0


async def test_a_database_restored_elsewhere_counts_on(bench: Workbench) -> None:
    """There the numbers of transactions are smaller than those that came with the rows."""
    await bench.submit(echo())
    await bench.run(execute, "UPDATE jobs.tally_mark SET below = '900000000000'")
    await bench.run(execute, "UPDATE jobs.tally_change SET xid = '900000000001'")
    await bench.submit(echo())
    assert await counts(bench) == {"waiting": 2}
    assert await fold(bench) == 1
    await bench.submit(echo())
    assert await counts(bench) == {"waiting": 3}
    assert await fold(bench) == 1
    assert await counts(bench) == {"waiting": 3}


async def test_a_dear_fold_is_followed_by_a_rest(bench: Workbench) -> None:
    await bench.submit(echo())
    await bench.run(execute, "UPDATE jobs.tally_mark SET rest_until = now() + interval '1 min'")
    await bench.run(store.fold_tally_when_due)
    assert await bench.rows("SELECT count(*) FROM jobs.tally_change") == [(1,)]
    await bench.run(execute, "UPDATE jobs.tally_mark SET rest_until = now()")
    await bench.run(store.fold_tally_when_due)
    assert await bench.rows("SELECT count(*) FROM jobs.tally_change") == [(0,)]


async def test_what_an_old_snapshot_keeps_is_not_read(bench: Workbench, database_url: str) -> None:
    """The journal is folded again and again; no row of it can be cleaned away, and none is looked at again."""
    await bench.submit(echo())
    [(queue,)] = await bench.rows("SELECT task_queue_id FROM jobs.tally_change")
    many = (
        "INSERT INTO jobs.tally_change (task_queue_id, ce_id, status, jobs, cores)"
        " SELECT %(q)s, n %% 50, 'done', 1, 0 FROM generate_series(1, 20000) AS n"
    )
    async with bench.db.snapshot() as old:
        await execute(old, "SELECT count(*) FROM jobs.tally")
        for _ in range(3):
            await bench.run(execute, many, {"q": queue})
            await fold(bench)
        await bench.run(execute, "ANALYZE jobs.tally_change")
        await bench.submit(echo())
        [(plan,)] = await bench.rows(
            "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT sum(jobs) FROM jobs.tally_part WHERE status = 'waiting'"
        )
        assert await counts(bench) == {"waiting": 2, "done": 60_000}
    assert _blocks(plan if isinstance(plan, list) else json.loads(plan)) < 100


def _blocks(plan: list[dict[str, Any]]) -> int:
    top = plan[0]["Plan"]
    return int(top["Shared Hit Blocks"]) + int(top["Shared Read Blocks"])
