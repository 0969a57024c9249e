"""The whole way: real pilots of the local element take real jobs from a real server, whatever happens meanwhile."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from spinor.jobs import service as jobs
from spinor.jobs.control import gates
from spinor.jobs.models import CommandJobs, JobSpec, JobStatus, Retries
from spinor.pilots import service
from spinor.pilots.chores import follow_pilots, submit_pilots
from spinor.pilots.models import Pilot
from spinor_pilot import system

from .conftest import Site, running, until

ENDED = (JobStatus.DONE, JobStatus.FAILED, JobStatus.KILLED)


@pytest.fixture
async def pilots(site: Site) -> AsyncIterator[Site]:
    """A site whose pilots are gone when the test ends."""
    yield site
    root = site.world.storage_root.parent / "computing"
    for file in root.glob("pilot-*/process"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group_of(file.parent), signal.SIGKILL)


def group_of(home: Path) -> int:
    """The process group of a pilot of the local element."""
    return int((home / "process").read_text().rpartition(")")[2].split()[2])


def guardian_of(seconds: str) -> int:
    """The ancestor of a payload that runs the pilot's program in a session of its own."""
    known = {process.pid: process for process in system.processes()}
    process = known[pids_of(seconds)[0]]
    while process.session != process.pid or b"spinor-pilot" not in Path(f"/proc/{process.pid}/cmdline").read_bytes():
        process = known[process.parent]
    return process.pid


def home_of(site: Site, pilot_id: int) -> Path:
    return site.world.storage_root.parent / "computing" / f"pilot-{pilot_id}"


async def pilot_of(site: Site, job_id: int) -> int:
    job = await site.job(site.world.ada, job_id)
    assert job.pilot_id is not None
    return job.pilot_id


async def show(site: Site, pilot_id: int) -> Pilot:
    async with site.context.db.transaction() as tx:
        return await service.pilot(tx, site.world.ada, pilot_id)


def script(text: str, **changes: object) -> JobSpec:
    return JobSpec(executable="/bin/sh", arguments=["-c", text], **changes)  # type: ignore[arg-type]


async def test_a_job_runs_from_end_to_end(pilots: Site) -> None:
    site, ada = pilots, pilots.world.ada
    (job_id,) = await site.submit(
        ada,
        script("echo hello $SPINOR_JOB_ID $COLOUR; echo oops >&2; echo kept >out.txt", environment={"COLOUR": "blue"},
               output_sandbox=["*.txt", "*.root"]),
    )  # fmt: skip
    await submit_pilots(site.context, {})
    job = await site.until_job(ada, job_id, *ENDED)
    assert (job.status, job.exit_code) == (JobStatus.DONE, 0)
    assert await site.log(job_id) == f"hello {job_id} blue\n"
    assert await site.log(job_id, "stderr") == "oops\n"
    assert job.output_sandbox is not None
    assert job.output_sandbox.missing == ["*.root"]
    assert job.wall_s is not None
    assert job.max_rss_bytes
    pilot_id = await pilot_of(site, job_id)

    async def told() -> bool:
        async with site.context.db.transaction() as tx:
            return f"job {job_id}.1 taken" in (await service.pilot_log(tx, ada, pilot_id, 0)).decode()

    await until(told, 5)


async def test_a_warm_pilot_takes_the_next_job_at_once(pilots: Site) -> None:
    site, ada = pilots, pilots.world.ada
    (first,) = await site.submit(ada, script("true"))
    await submit_pilots(site.context, {})
    await site.until_job(ada, first, *ENDED)
    began = time.monotonic()
    (second,) = await site.submit(ada, script("true"))
    await site.until_job(ada, second, *ENDED)
    assert await pilot_of(site, first) == await pilot_of(site, second)
    assert time.monotonic() - began < 4


async def test_the_environment_holds_no_secret(pilots: Site) -> None:
    site, ada = pilots, pilots.world.ada
    (job_id,) = await site.submit(
        ada,
        script(
            "env; for p in $PPID $(ps -o ppid= -p $PPID 2>/dev/null); do tr '\\0' '\\n' </proc/$p/environ; "
            "tr '\\0' '\\n' </proc/$p/cmdline; done; ls -a ../..; cat ../../launch.json"
        ),
    )
    await submit_pilots(site.context, {})
    await site.until_job(ada, job_id, *ENDED)
    text = await site.log(job_id)
    assert f"SPINOR_JOB_ID={job_id}" in text
    assert "DATABASE_URL" not in text
    assert "eyJ" not in text  # What every token begins with.
    assert "secret" not in text
    assert "No such file" in await site.log(job_id, "stderr")  # The launch file is gone.


async def test_a_kill_reaches_the_payload_within_five_seconds(pilots: Site) -> None:
    site, ada = pilots, pilots.world.ada
    (warm,) = await site.submit(ada, script("true"))
    await submit_pilots(site.context, {})
    await site.until_job(ada, warm, *ENDED)
    for number in (1, 2):  # The second one is taken in the middle of a long heartbeat.
        payload = sleeper(number)
        (job_id,) = await site.submit(ada, script(f"trap '' TERM; sleep {payload}"))
        await until(lambda payload=payload: begun(payload))  # type: ignore[misc]
        began = time.monotonic()
        await jobs.kill_jobs(site.context.db, ada, CommandJobs(job_ids=[job_id], reason="enough"))
        await until(lambda payload=payload: gone(payload), 10)  # type: ignore[misc]
        assert time.monotonic() - began < 5


def sleeper(number: int) -> str:
    """An argument for `sleep` that no other process has. Payloads do not know their process ids out here."""
    return f"{number}{os.getpid()}"


def pids_of(seconds: str) -> list[int]:
    found = []
    for process in system.processes():
        with contextlib.suppress(OSError):
            if Path(f"/proc/{process.pid}/cmdline").read_bytes() == b"sleep\0%b\0" % seconds.encode():
                found.append(process.pid)
    return found


async def begun(seconds: str) -> bool:
    return bool(pids_of(seconds))


async def gone(seconds: str) -> bool:
    return not pids_of(seconds)


async def test_a_dead_pilot_gives_its_job_back_at_once(pilots: Site) -> None:
    site, ada = pilots, pilots.world.ada
    payload = sleeper(3)
    (job_id,) = await site.submit(ada, script(f"sleep {payload}"))
    await submit_pilots(site.context, {})
    await until(lambda: begun(payload))
    pilot_id = await pilot_of(site, job_id)
    os.killpg(group_of(home_of(site, pilot_id)), signal.SIGKILL)
    await until(lambda: gone(payload), 5)
    await follow_pilots(site.context, {})
    assert (await show(site, pilot_id)).status == "aborted"
    job = await site.job(ada, job_id)
    assert (job.status, job.attempt) == (JobStatus.WAITING, 1)


async def test_a_pilot_whose_guardian_is_killed_gives_its_job_back(pilots: Site) -> None:
    site, ada = pilots, pilots.world.ada
    payload = sleeper(3)
    (job_id,) = await site.submit(ada, script(f"sleep {payload}"))
    await submit_pilots(site.context, {})
    await until(lambda: begun(payload))
    pilot_id = await pilot_of(site, job_id)
    guardian = guardian_of(payload)
    os.kill(guardian, signal.SIGKILL)
    job = await site.until_job(ada, job_id, JobStatus.WAITING, *ENDED, timeout_s=40)
    assert (job.status, job.attempt) == (JobStatus.WAITING, 1)
    assert await gone(payload)
    assert (await show(site, pilot_id)).ended_at is not None


async def set_options(site: Site, options: str) -> None:
    async with site.context.db.pool.connection() as conn:
        await conn.execute("UPDATE resources.computing_element SET options = options || %s::jsonb", (options,))


async def test_a_drained_pilot_gives_its_job_back_itself(pilots: Site) -> None:
    """A payload hears its stop signal before; what ends well then is done, and what does not runs elsewhere."""
    site, ada = pilots, pilots.world.ada
    await set_options(site, '{"drain_s": 6}')
    (short,) = await site.submit(ada, script("trap 'echo asked; exit 0' USR1; sleep 60 & wait", stop_signal="SIGUSR1"))
    (long,) = await site.submit(ada, script("trap '' TERM; sleep 60 & wait; sleep 60"))
    await submit_pilots(site.context, {})
    for job_id in (short, long):
        await site.until_job(ada, job_id, JobStatus.RUNNING)
    pilot_id = await pilot_of(site, long)
    os.killpg(group_of(home_of(site, pilot_id)), signal.SIGTERM)
    assert (await site.until_job(ada, short, *ENDED)).status is JobStatus.DONE
    assert await site.log(short) == "asked\n"
    job = await site.until_job(ada, long, JobStatus.WAITING, timeout_s=40)
    assert job.attempt == 1
    assert (await show(site, pilot_id)).status == "done"


async def ended_pilot(site: Site, pilot_id: int, timeout_s: float = 40) -> Pilot:
    async def look() -> Pilot | None:
        pilot = await show(site, pilot_id)
        return pilot if pilot.ended_at else None

    return await until(look, timeout_s)


async def test_an_unfit_node_is_told_and_takes_no_job(pilots: Site) -> None:
    site, ada = pilots, pilots.world.ada
    await set_options(site, '{"node": {"reach": ["root://127.0.0.1:1/"], "benchmark_s": 0}}')
    (job_id,) = await site.submit(ada, script("true"))
    await submit_pilots(site.context, {})
    pilot = await ended_pilot(site, 1)
    assert "storage: 127.0.0.1:1" in pilot.reason
    job = await site.job(ada, job_id)
    assert (job.status, job.attempt) == (JobStatus.WAITING, 0)
    code = home_of(site, 1) / "exit-code"
    assert await until(lambda: asyncio.to_thread(lambda: code.exists() and code.read_text().strip()), 20) == "5"


async def test_a_node_where_every_payload_fails_at_once_takes_no_more(pilots: Site) -> None:
    site, ada = pilots, pilots.world.ada
    (first,) = await site.submit(ada, script("true"))
    await submit_pilots(site.context, {})
    await site.until_job(ada, first, *ENDED)
    pilot_id = await pilot_of(site, first)
    for job_id in range(first + 1, first + 5):
        (home_of(site, pilot_id) / f"job-{job_id}.1").touch()  # There its directory cannot be made.
    for _ in range(4):
        await site.submit(ada, script("true", retries=Retries(site=0)))
    pilot = await ended_pilot(site, pilot_id)
    assert "payloads in a row failed at once" in pilot.reason
    assert "EEXIST" in pilot.reason


async def test_a_job_that_ran_out_of_memory_runs_again_with_more(pilots: Site) -> None:
    site, ada = pilots, pilots.world.ada
    hungry = script("exec python3 -c 'x = bytearray(150_000_000); print(len(x))'", memory_bytes=100_000_000,
                    retries=Retries(memory=1, memory_growth=3, delay_s=0))  # fmt: skip
    (job_id,) = await site.submit(ada, hungry)
    await submit_pilots(site.context, {})
    await site.until_job(ada, job_id, JobStatus.CHECKING, *ENDED)

    async def released() -> bool:
        async with site.context.db.transaction() as tx:
            return bool(await gates.end_pauses(tx))

    await until(released)
    job = await site.until_job(ada, job_id, *ENDED)
    assert (job.status, job.attempt) == (JobStatus.DONE, 2)


async def test_a_wrong_image_is_not_the_nodes_fault(pilots: Site) -> None:
    site, ada = pilots, pilots.world.ada
    bad = [
        (await site.submit(ada, script("true", container_image="/no/such/image", retries=Retries(site=0))))[0]
        for _ in range(4)
    ]
    await submit_pilots(site.context, {})
    for job_id in bad:
        assert (await site.until_job(ada, job_id, *ENDED)).status is JobStatus.FAILED
    (good,) = await site.submit(ada, script("true"))
    assert (await site.until_job(ada, good, *ENDED)).status is JobStatus.DONE
    assert (await show(site, await pilot_of(site, bad[0]))).diagnosis == []


async def test_nothing_is_lost_while_the_server_is_away(pilots: Site) -> None:
    """The server stops while a payload runs and ends; its log and its result arrive when there is one again."""
    site, ada = pilots, pilots.world.ada
    (job_id,) = await site.submit(
        ada, script("echo before; sleep 2; echo after; echo kept >x.txt", output_sandbox=["x.txt"])
    )
    await submit_pilots(site.context, {})
    await until(lambda: site.log(job_id))
    await site.server.stop()
    await asyncio.sleep(3)
    assert (await site.job(ada, job_id)).status is JobStatus.RUNNING
    async with running(site.context.settings):
        job = await site.until_job(ada, job_id, *ENDED, timeout_s=30)
        assert job.status is JobStatus.DONE
        assert await site.log(job_id) == "before\nafter\n"
        assert job.output_sandbox is not None


async def test_wall_time_is_enforced(pilots: Site) -> None:
    site, ada = pilots, pilots.world.ada
    (job_id,) = await site.submit(ada, script("trap 'echo asked; exit 9' TERM; sleep 60 & wait", wall_s=2))
    await submit_pilots(site.context, {})
    job = await site.until_job(ada, job_id, *ENDED)
    assert job.status is JobStatus.FAILED
    assert await site.log(job_id) == "asked\n"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (JobSpec(executable="/no/such/program"), "ENOENT"),
        (JobSpec(executable="no-such-program"), "no-such-program"),
        (script("kill -SEGV $$"), "SIGSEGV"),
        (script("exit 3"), "3"),
    ],
)
async def test_a_failing_payload_is_explained_and_harms_nobody(pilots: Site, spec: JobSpec, says: str) -> None:
    site, ada = pilots, pilots.world.ada
    (bad,), (good,) = await site.submit(ada, spec), await site.submit(ada, script("echo fine"))
    await submit_pilots(site.context, {})
    assert (await site.until_job(ada, bad, *ENDED)).status is JobStatus.FAILED
    assert (await site.until_job(ada, good, *ENDED)).status is JobStatus.DONE
    async with site.context.db.transaction() as tx:
        history = await jobs.job_history(tx, ada, bad)
    assert says in " ".join(f"{entry.minor_status} {entry.reason}" for entry in history)


async def test_several_payloads_run_at_once(pilots: Site) -> None:
    site, ada = pilots, pilots.world.ada
    cores = min(2, len(os.sched_getaffinity(0)))
    ids = [(await site.submit(ada, script("sleep 2")))[0] for _ in range(cores)]
    await submit_pilots(site.context, {})
    ended = [await site.until_job(ada, job_id, *ENDED) for job_id in ids]
    assert len({job.pilot_id for job in ended}) == 1
    starts = [job.started_at for job in ended if job.started_at]
    assert (max(starts) - min(starts)).total_seconds() < 1.5


async def test_a_cancelled_pilot_stops(pilots: Site) -> None:
    site, ada = pilots, pilots.world.ada
    payload = sleeper(3)
    (job_id,) = await site.submit(ada, script(f"sleep {payload}"))
    await submit_pilots(site.context, {})
    await until(lambda: begun(payload))
    pilot_id = await pilot_of(site, job_id)
    async with site.context.db.transaction() as tx:
        cancelled = await service.cancel_pilots(tx, site.world.ada_admin, [pilot_id, 999], "maintenance")
    assert cancelled.done == [pilot_id]
    assert [refused.code for refused in cancelled.refused] == ["unknown-pilot"]
    await until(lambda: gone(payload), 5)
    assert (await site.job(ada, job_id)).status is JobStatus.WAITING
    await follow_pilots(site.context, {})
    assert "maintenance" in (await show(site, pilot_id)).reason


async def test_an_idle_pilot_leaves_when_the_server_is_gone(pilots: Site) -> None:
    site, ada = pilots, pilots.world.ada
    await set_options(site, '{"idle_s": 2}')
    (job_id,) = await site.submit(ada, script("true"))
    await submit_pilots(site.context, {})
    await site.until_job(ada, job_id, *ENDED)
    home = home_of(site, await pilot_of(site, job_id))
    await site.server.stop()

    async def left() -> bool:
        return await asyncio.to_thread((home / "exit-code").exists)

    await until(left, 40)
