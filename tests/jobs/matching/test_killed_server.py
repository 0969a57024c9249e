"""A server that is killed between its claim and its answer gives nothing away for good."""

import asyncio
import json
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from spinor.jobs import service
from tests.conftest import World
from tests.jobs.matching.test_claims import ask, ids, many, running
from tests.jobs.workbench import Workbench

# A server process as far as matching goes: it claims, and dies before anybody hears of it.
_SERVER = """
import asyncio, json, os, signal, sys
from spinor.db import Database
from spinor.jobs import service
from spinor.jobs.models import Offer, Slot

url, vo_id, moment = sys.argv[1], int(sys.argv[2]), sys.argv[3]

async def serve():
    offer = Offer(cores=8, memory_bytes=64 * 10**9, disk_bytes=10**12, wall_s=86_400)
    slots = [Slot(pilot_id=n, site="LOCAL", site_id=1, ce="local-ce", ce_id=1, offer=offer) for n in (1, 2)]
    async with Database.open(url, size=2) as db:
        async with db.transaction() as tx:
            given = await service.match_asks(tx, service.Matcher(), [service.Ask(vo_id, slot, 3) for slot in slots])
            print(json.dumps([job.job_id for each in given for job in each]), flush=True)
            if moment == "before-commit":
                os.kill(os.getpid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(serve())
"""


@pytest.mark.parametrize("moment", ["before-commit", "before-answer"])
async def test_its_jobs_come_back(world: World, database_url: str, moment: str) -> None:
    bench = Workbench(world)
    await bench.submit(many(8))
    died = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", _SERVER, database_url, str(world.ada.vo_id), moment],
        capture_output=True, text=True, check=False, timeout=120, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert died.returncode == -signal.SIGKILL, died.stderr
    lost = json.loads(died.stdout)
    assert len(lost) == 6
    if moment == "before-answer":
        assert await running(bench) == 6
        expired = await bench.run(service.expire_leases, datetime.now(UTC) + timedelta(seconds=61))
        assert sorted(expired) == sorted(lost)
        bench.matcher.forget()
    # What was never committed comes back as soon as the database has seen that the connection is gone.
    again: set[int] = set()
    for pilot in range(3, 200):
        again |= set(ids(await ask(bench, [pilot], 8)))
        if len(again) == 8:
            break
        bench.matcher.forget()
    assert len(again) == 8
    attempts = dict(await bench.rows("SELECT job_id, attempt FROM jobs.running"))
    expected = 2 if moment == "before-answer" else 1
    assert {attempts[job_id] for job_id in lost} == {expected}
