"""The status of storage elements: each kind of access has its own, and what may not be used is not used."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from spinor.access import Caller
from spinor.catalog import service as catalog
from spinor.catalog.models import RemoveRequest
from spinor.chores import ChoreContext
from spinor.configuration import service as configuration
from spinor.db import fetch_value
from spinor.errors import BadInput
from spinor.identity import service as identity
from spinor.jobs import service as jobs
from spinor.jobs.control import gates
from spinor.jobs.models import JobStatus, OutputData, Placement
from spinor.resources import service as resources
from spinor.resources.status import service
from spinor.resources.status.models import Access, ChangeStatus, ElementKind, Status, StatusesChanged
from spinor.settings import Settings
from spinor.storage import service as storage
from spinor.storage.chores import remove_bytes
from spinor.storage.plugin import StorageOutOfUse
from tests.conftest import WORLD
from tests.jobs.workbench import Workbench, echo
from tests.storage.workbench import register

if TYPE_CHECKING:
    from tests.conftest import World

SE = ElementKind.SE


@pytest.fixture
async def operator(world: World) -> Caller:
    groups = "      astro_ops: {properties: [operator, normal_user], members: [ada]}\n"
    text = WORLD.format(root=world.storage_root.parent).replace("  bio:\n", f"{groups}  bio:\n", 1)
    async with world.db.transaction() as tx:
        await configuration.apply(tx, text, author="tests")
        return await identity.caller_for(tx, "ada", "astro", "astro_ops")


async def change(
    world: World, who: Caller, name: str, status: Status, *accesses: Access, **more: object
) -> StatusesChanged:
    given = {"kind": SE, "names": [name], "status": status, "accesses": list(accesses), **more}
    async with world.db.transaction() as tx:
        return await service.change_status(tx, who, msgspec.convert(given, ChangeStatus))


async def told(world: World, who: Caller, name: str) -> dict[str, str]:
    async with world.db.transaction() as tx:
        return {str(row.access): row.status.value for row in await service.statuses(tx, who, SE, name)}


async def test_each_access_has_a_status_with_reason_and_history(world: World, operator: Caller) -> None:
    assert await told(world, world.alan, "local-se") == dict.fromkeys(("read", "write", "check", "remove"), "active")
    answer = await change(world, operator, "local-se", Status.BANNED, Access.WRITE, reason="full")
    assert [(each.access, each.status) for each in answer.done] == [(Access.WRITE, Status.BANNED)]
    await change(world, operator, "local-se", Status.DEGRADED, Access.READ, reason="slow")
    assert await told(world, world.alan, "local-se") == {
        "read": "degraded", "write": "banned", "check": "active", "remove": "active",
    }  # fmt: skip
    async with world.db.transaction() as tx:
        element = await resources.storage_element(tx, world.alan, "local-se")
        assert (element.held[Access.WRITE].reason, element.held[Access.WRITE].actor) == ("full", "ada")
        history = await service.status_history(tx, world.alan, SE, "local-se", 10)
        assert await service.status_of(tx) == {}, "a storage's status is no computing element's"
    assert [(each.access, each.status.value) for each in history] == [("read", "degraded"), ("write", "banned")]
    # Resuming without naming an access brings all of it back, and at once: nothing probes it.
    answer = await change(world, operator, "local-se", Status.ACTIVE)
    assert [each.access for each in answer.done] == [Access.READ, Access.WRITE]
    answer = await change(world, operator, "local-se", Status.ACTIVE)
    assert [refused.code for refused in answer.refused] == ["status-refused"]


async def test_who_may_and_what_is_refused(world: World, operator: Caller) -> None:
    answer = await change(world, world.alan, "local-se", Status.BANNED)
    assert [refused.code for refused in answer.refused] == ["not-administrator"]
    answer = await change(world, operator, "nowhere-se", Status.BANNED)
    assert [refused.code for refused in answer.refused] == ["unknown-element"]
    answer = await change(world, operator, "local-se", Status.DRAINING)
    assert [refused.code for refused in answer.refused] == ["status-refused"]
    with pytest.raises(BadInput):
        async with world.db.transaction() as tx:
            asked = ChangeStatus(kind=ElementKind.CE, names=["local-ce"], status=Status.BANNED, accesses=[Access.READ])
            await service.change_status(tx, operator, asked)
    async with world.db.transaction() as tx:
        assert {row.name for row in await service.statuses(tx, world.bea, SE)} == {"bio-se"}


async def test_a_ban_ends_by_itself_and_takes_nothing_else_with_it(world: World, operator: Caller) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    await change(world, operator, "local-se", Status.BANNED, Access.WRITE, until=soon)
    await change(world, operator, "local-se", Status.BANNED, Access.READ)
    async with world.db.transaction() as tx:
        await tx.execute(
            "UPDATE resources.element_status SET until = now() - interval '1 second' WHERE until IS NOT NULL"
        )
        assert await service.end_what_is_over(tx) == ["local-se"]
    assert await told(world, world.alan, "local-se") == {
        "read": "banned", "write": "active", "check": "active", "remove": "active",
    }  # fmt: skip


async def test_reading_goes_elsewhere_and_says_why_when_nothing_is_left(world: World, operator: Caller) -> None:
    await register(world.db, world.ada, "/astro/d/a", adler32="00000001")
    await register(world.db, world.ada, "/astro/d/a", se="second-se", adler32="00000001")

    async def read(who: Caller, **more: bool) -> tuple[list[str], list[str]]:
        async with world.db.transaction() as tx:
            (file,) = await storage.replicas(tx, who, ["/astro/d/a"], **more)
        return [str(replica.se) for replica in file.replicas], file.out_of_use

    await change(world, operator, "local-se", Status.DEGRADED, Access.READ)
    assert await read(world.alan) == (["second-se", "local-se"], [])
    await change(world, operator, "local-se", Status.BANNED, Access.READ, reason="disk died")
    assert await read(world.alan) == (["second-se"], ["reading from local-se is banned by ada (disk died)"])
    assert (await read(world.alan, all_statuses=True))[0] == ["local-se", "second-se"]
    await change(world, operator, "second-se", Status.PROBING, Access.READ)
    seen, why = await read(world.alan)
    assert (seen, len(why)) == ([], 2)
    assert (await read(operator))[0] == ["second-se"], "who looks after it finds out whether it works"


async def test_nothing_is_written_where_that_is_banned(world: World, operator: Caller) -> None:
    await change(world, operator, "local-se", Status.BANNED, Access.WRITE, reason="full")
    async with world.db.transaction() as tx:
        with pytest.raises(StorageOutOfUse, match=r"Writing to local-se is banned by ada \(full\)"):
            await storage.places(tx, world.ada, "local-se", ["/astro/x"])
        assert len(await storage.places(tx, world.ada, "second-se", ["/astro/x"])) == 1


async def test_bytes_are_not_removed_where_that_is_banned(world: World, operator: Caller, tmp_path: Path) -> None:
    env = {"SPINOR_DATABASE_URL": world.db.url, "SPINOR_URL": "https://localhost", "SPINOR_DATA_DIR": str(tmp_path)}
    context = ChoreContext(db=world.db, settings=Settings.from_environment(env), log=logging.getLogger("test"))
    (world.storage_root / "astro").mkdir()
    (world.storage_root / "astro" / "a").write_text("a")
    await register(world.db, world.ada, "/astro/a")
    async with world.db.transaction() as tx:
        await catalog.remove_files(tx, world.ada, RemoveRequest(paths=["/astro/a"]))
    await change(world, operator, "local-se", Status.BANNED, Access.REMOVE)
    await remove_bytes(context, {})
    assert (world.storage_root / "astro" / "a").exists()
    async with world.db.transaction() as tx:
        assert await fetch_value(tx, "SELECT attempts FROM catalog.removal") == 0
    await change(world, operator, "local-se", Status.ACTIVE)
    await remove_bytes(context, {})
    assert not (world.storage_root / "astro" / "a").exists()


async def test_jobs_read_and_write_elsewhere_or_wait_and_are_told_why(world: World, operator: Caller) -> None:
    bench = Workbench(world)
    await register(world.db, world.ada, "/astro/in", adler32="00000001")
    out = OutputData(path="x", lfn="/astro/{job_id}", se="local-se", failover=["second-se"])
    job_id = await bench.submit_one(echo(input_data=["/astro/in"], output_data=[out]))
    await change(world, operator, "local-se", Status.BANNED, reason="disk died")
    explained = await bench.run(jobs.explain_job, world.ada, job_id)
    words = " ".join(explained.sentences)
    assert "No replica can be read of /astro/in: reading from local-se is banned by ada (disk died)." in words
    assert "Its output x goes to second-se, because writing to local-se is banned by ada (disk died)." in words
    assert explained.facts["storage"]["inputs"]["unreadable"] == ["/astro/in"]
    # It is not failed for what will pass: it pauses, and no retry of its own is spent.
    assert await bench.match() == []
    assert await bench.status(job_id) is JobStatus.CHECKING
    ((retried, until),) = await bench.rows(
        "SELECT j.retried, d.until > now() FROM jobs.job j JOIN jobs.delayed d USING (job_id)"
    )
    assert (retried, until) == ([0, 0, 0, 0, 0], True)
    explained = await bench.run(jobs.explain_job, world.ada, job_id)
    assert "disk died" in " ".join(explained.sentences)
    assert await bench.run(gates.end_storage_pauses) == 0
    await change(world, operator, "local-se", Status.ACTIVE, Access.READ)
    assert await bench.run(gates.end_storage_pauses) == 1, "what has come back ends the pause"
    assert await bench.run(gates.end_storage_pauses) == 0
    assert await bench.run(gates.end_pauses) == 1
    (given,) = await bench.match()
    assert [replica.se for replica in given.input_data[0].replicas] == ["local-se"]
    (output,) = given.output_data
    assert ([place.se for place in output.places], output.failover) == (["second-se"], [])


async def test_an_output_that_nothing_takes_lets_its_job_wait(world: World, operator: Caller) -> None:
    bench = Workbench(world)
    job_id = await bench.submit_one(echo(output_data=[OutputData(path="x", lfn="/astro/{job_id}", se="local-se")]))
    other = await bench.submit_one()
    await change(world, operator, "local-se", Status.BANNED, Access.WRITE, reason="full")
    given = await bench.match(max_jobs=5)
    assert [job.job_id for job in given] == [other], "the others go on"
    assert await bench.status(job_id) is JobStatus.CHECKING
    words = " ".join((await bench.run(jobs.explain_job, world.ada, job_id)).sentences)
    assert "Nothing takes its output x: writing to local-se is banned by ada (full)." in words


async def test_jobs_are_not_brought_to_replicas_that_may_not_be_read(world: World, operator: Caller) -> None:
    bench = Workbench(world)
    await register(world.db, world.ada, "/astro/in", adler32="00000001")
    near = await bench.submit_one(echo(input_data=["/astro/in"]))
    await change(world, operator, "local-se", Status.BANNED, Access.READ)
    far = await bench.submit_one(echo(input_data=["/astro/in"], wall_s=99))
    rows = await bench.rows(
        "SELECT j.job_id, q.wants -> 'near_sites' FROM jobs.job j JOIN jobs.task_queue q USING (task_queue_id)"
    )
    assert dict(rows) == {near: ["LOCAL"], far: None}
    with pytest.raises(Exception, match="out of use for reading"):
        await bench.submit_one(echo(input_data=["/astro/in"], placement=Placement.REQUIRE))
