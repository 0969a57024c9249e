"""Sites under care: what a status does to pilots, bad nodes, pauses that operators see, counts that are exact."""

import asyncio
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from spinor import cli
from spinor.access import Caller, Scope
from spinor.configuration import service as configuration
from spinor.db import fetch_rows
from spinor.identity import service as identity
from spinor.jobs import service as jobs
from spinor.jobs.models import ErrorClass, FinishReport, JobSpec, Offer, Retries, Slot
from spinor.pilots import chores, launching, service
from spinor.pilots.models import (
    ElementPilots,
    ElementState,
    Enrolment,
    Finding,
    MaskNodes,
    MatchRequest,
    NewPilot,
    PilotStatus,
)
from spinor.pilots.service.factory import new_pilots
from spinor.resources import service as resources
from spinor.resources.status import service as statuses
from spinor.resources.status.models import ChangeStatus, ElementKind, Status
from tests.conftest import WORLD, World

from .conftest import Site, until
from .test_enrolment import OFFER, call, enrolled, new_pilot, offer
from .test_factory import SLEEP, PaperElement, rows
from .test_running import script

CE = ElementKind.CE
NO_RETRIES = Retries(site=0, data=0, payload=0, memory=0, time=0)


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch) -> PaperElement:
    element = PaperElement()
    monkeypatch.setattr(launching, "plugin_named", lambda name: lambda settings: element)
    return element


@pytest.fixture
async def operator(world: World) -> Caller:
    groups = "      astro_ops: {properties: [operator], members: [ada]}\n"
    text = WORLD.format(root=world.storage_root.parent).replace("  bio:\n", f"{groups}  bio:\n", 1)
    async with world.db.transaction() as tx:
        await configuration.apply(tx, text, author="tests")
        return await identity.caller_for(tx, "ada", "astro", "astro_ops")


async def change(site: Site, who: Caller, status: Status, name: str = "local-ce", kind: ElementKind = CE) -> None:
    async with site.context.db.transaction() as tx:
        asked = ChangeStatus(kind=kind, names=[name], status=status, reason="tests")
        assert not (await statuses.change_status(tx, who, asked)).refused


async def status_of(site: Site, name: str = "local-ce") -> Status:
    async with site.context.db.transaction() as tx:
        return (await resources.status_of(tx)).get(name, Status.ACTIVE)


async def stats(site: Site) -> ElementPilots:
    async with site.context.db.transaction() as tx:
        (row,) = await service.pilot_stats(tx, site.world.ada, 3600, "local-ce")
    return row


# ----------------------------------------------------------------------------------------------------------- statuses


@pytest.mark.parametrize("status", [Status.DRAINING, Status.BANNED, Status.PROBING])
async def test_no_pilot_goes_where_nothing_may_go(
    site: Site, paper: PaperElement, operator: Caller, status: Status
) -> None:
    await site.submit(site.world.ada, SLEEP)
    await change(site, operator, status)
    await chores.submit_pilots(site.context, {})
    assert paper.submitted == []


async def test_pilots_in_the_queue_of_a_draining_element_are_cancelled(
    site: Site, paper: PaperElement, operator: Caller
) -> None:
    await site.submit(site.world.ada, SLEEP)
    await chores.submit_pilots(site.context, {})
    await change(site, operator, Status.DRAINING)
    await chores.follow_pilots(site.context, {})
    assert await rows(site, "status::text, reason") == [("deleted", "its computing element is draining")]
    (launch,) = paper.submitted
    assert paper.cancelled == [f"paper-{launch.pilot_id}"]


async def test_a_heartbeat_hears_at_once_that_its_element_drains(site: Site, operator: Caller) -> None:
    server = await enrolled(site, await new_pilot(site))
    beat = asyncio.create_task(call(server, "POST", "/api/pilot/heartbeat", {"held": [], "wait_s": 25}))
    await asyncio.sleep(0.5)
    assert not beat.done()
    await change(site, operator, Status.DRAINING, "LOCAL", ElementKind.SITE)
    assert (await asyncio.wait_for(beat, 10))["drain"] is True
    # One that knows already is not told again and again.
    again = {"held": [], "wait_s": 1, "draining": True}
    assert (await call(server, "POST", "/api/pilot/heartbeat", again))["drain"] is True
    await change(site, operator, Status.ACTIVE, "LOCAL", ElementKind.SITE)
    assert (await call(server, "POST", "/api/pilot/heartbeat", {"held": []}))["drain"] is False


async def test_a_running_pilot_finishes_its_job_and_leaves_a_draining_site(site: Site, operator: Caller) -> None:
    ada = site.world.ada
    (first,) = await site.submit(ada, script("sleep 3; echo done"))
    await chores.submit_pilots(site.context, {})
    job = await site.until_job(ada, first, "running", timeout_s=60)
    await change(site, operator, Status.DRAINING, "LOCAL", ElementKind.SITE)
    (second,) = await site.submit(ada, script("true"))
    assert (await site.until_job(ada, first, "done", "failed", timeout_s=60)).status == "done"

    async def gone() -> bool:
        return await rows(site, "status::text, reason") == [("done", "the server asks to drain")]

    await until(gone, 60)
    assert (await site.job(ada, second)).status == "waiting"
    assert job.pilot_id is not None


# -------------------------------------------------------------------------------------------------------- bad nodes


async def at(site: Site, pilot: NewPilot, hostname: str) -> Caller:
    """The pilot, enrolled on a node of that name."""
    asked = Enrolment(
        pilot_id=pilot.pilot_id, secret=pilot.secret, offer=OFFER, node={"hostname": hostname, "cpu_model": "X"}
    )
    async with site.context.db.transaction() as tx:
        answer = await service.enrol(tx, site.keys, site.url, asked)
    if isinstance(answer, service.NodeMasked):
        raise answer
    return Caller(
        vo_id=site.world.ada.vo_id, vo="astro", user_id=0, user="pilot", group_id=0, group="pilot",
        scopes=frozenset({Scope.PILOT_ACT}), pilot_id=pilot.pilot_id,
    )  # fmt: skip


async def another_pilot(site: Site) -> NewPilot:
    async with site.context.db.transaction() as tx:
        (element,) = await resources.computing_elements(tx)
        made = await new_pilots(tx, [(site.world.ada.vo_id, element.ce_id)])
    return made[element.ce_id][0]


async def unfit(site: Site, hostname: str) -> int:
    pilot = await another_pilot(site)
    caller = await at(site, pilot, hostname)
    async with site.context.db.transaction() as tx:
        await service.report_unfit(tx, caller, [Finding(check="disk", detail="3 MB left")])
        await service.report_unfit(tx, caller, [Finding(check="disk", detail="said twice")])
    return pilot.pilot_id


async def test_an_unfit_node_is_masked_before_its_element_is_suspect(site: Site) -> None:
    pilot_id = await unfit(site, "bad-1")
    async with site.context.db.transaction() as tx:
        shown = await service.pilot(tx, site.world.ada, pilot_id)
        assert await service.masked_nodes(tx, site.world.ada, "") == []
    assert (shown.status, shown.diagnosis) == (PilotStatus.FAILED, [Finding(check="disk", detail="3 MB left")])
    assert (shown.node or {})["cpu_model"] == "X"
    resident = await at(site, await another_pilot(site), "bad-1")
    await unfit(site, "bad-1")
    async with site.context.db.transaction() as tx:
        (mask,) = await service.masked_nodes(tx, site.world.ada, "local-ce")
        assert (mask.hostname, mask.actor) == ("bad-1", "spinor")
        assert (await service.beat(tx, resident, [])).drains({}), "who is there already leaves"
    await site.submit(site.world.ada, SLEEP)
    async with site.context.db.transaction() as tx:
        asked = MatchRequest(offer=OFFER, max_jobs=1)
        assert await service.match(tx, jobs.Matcher(), resident, asked) == [], "and gets no job in between"
    with pytest.raises(service.NodeMasked, match="3 MB left"):
        await at(site, await another_pilot(site), "bad-1")
    await at(site, await another_pilot(site), "good-1")
    assert await status_of(site) is Status.ACTIVE
    await unfit(site, "bad-2")
    assert await status_of(site) is Status.ACTIVE
    await unfit(site, "bad-3")
    assert await status_of(site) is Status.PROBING
    # After a probe has brought it back, what was before does not count any more.
    async with site.context.db.transaction() as tx:
        await statuses.note_probe(tx, CE, "local-ce", succeeded=True, reason="tests")
    await unfit(site, "bad-4")
    assert await status_of(site) is Status.ACTIVE


async def test_an_old_mask_and_a_lifted_one_hold_nobody_off(site: Site, operator: Caller) -> None:
    asked = MaskNodes(computing_element="local-ce", hostnames=["n1", "n2"], reason="memory errors")
    async with site.context.db.transaction() as tx:
        await service.mask_nodes(tx, operator, asked)
        with pytest.raises(Exception, match="resources:manage"):
            await service.mask_nodes(tx, site.world.ada, asked)
    with pytest.raises(service.NodeMasked):
        await at(site, await another_pilot(site), "n1")
    async with site.context.db.transaction() as tx:
        await service.mask_nodes(tx, operator, msgspec.structs.replace(asked, hostnames=["n1"], lasting_s=0))
        await tx.execute("UPDATE pilots.node_mask SET until = now()")
    for node in ("n1", "n2"):
        await at(site, await another_pilot(site), node)


async def test_the_refused_pilot_is_told_so_over_https_and_has_ended(site: Site, operator: Caller) -> None:
    async with site.context.db.transaction() as tx:
        asked = MaskNodes(computing_element="local-ce", hostnames=["n1"], reason="memory errors")
        await service.mask_nodes(tx, operator, asked)
    pilot = await another_pilot(site)
    from spinor_pilot.server import Refused, Server

    server = Server(site.url, site.ca_file.read_text())
    body = {"pilot_id": pilot.pilot_id, "secret": pilot.secret, "offer": offer(), "node": {"hostname": "n1"}}
    with pytest.raises(Refused, match="memory errors"):
        await call(server, "POST", "/api/pilot/enrol", body)
    assert await rows(site, "status::text") == [("failed",)]


async def test_unfit_over_https(site: Site) -> None:
    server = await enrolled(site, await new_pilot(site))
    await call(server, "POST", "/api/pilot/unfit", {"diagnosis": [{"check": "clock", "detail": "2 h behind"}]})
    assert await rows(site, "status::text, reason") == [("failed", "node unfit: clock: 2 h behind")]


async def test_a_black_hole_is_found(site: Site, operator: Caller) -> None:
    """Jobs that fail at once for reasons of the site mask their node; those that fail of their own do not."""
    good, bad = await another_pilot(site), await another_pilot(site)
    for pilot, hostname, kind in ((good, "good", ErrorClass.PAYLOAD), (bad, "hole", ErrorClass.SITE)):
        caller = await at(site, pilot, hostname)
        for _ in range(5):
            (job_id,) = await site.submit(site.world.ada, JobSpec(executable="x", retries=NO_RETRIES))
            assert job_id
            await fail_one(site, caller, kind)
    async with site.context.db.transaction() as tx:
        assert await service.find_black_holes(tx) == ["local-ce/hole"]
        assert await service.find_black_holes(tx) == []
        (mask,) = await service.masked_nodes(tx, site.world.ada, "")
    assert mask.hostname == "hole"
    assert "5 of 5 jobs" in mask.reason


async def fail_one(site: Site, caller: Caller, kind: ErrorClass) -> None:
    async with site.context.db.transaction() as tx:
        (element,) = await resources.computing_elements(tx)
        room = Offer(cores=1, memory_bytes=4 * 10**9, disk_bytes=10**12, wall_s=3600)
        slot = Slot(
            pilot_id=caller.pilot_id or 0, site=element.site, site_id=element.site_id, ce=element.name,
            ce_id=element.ce_id, offer=room,
        )  # fmt: skip
        (job,) = await jobs.match_jobs(tx, jobs.Matcher(), caller, slot, 1)
        await jobs.start_job(tx, caller, job.job_id, job.attempt)
        report = FinishReport(attempt=job.attempt, error="no such mount", error_class=kind, wall_s=0.1)
        await jobs.finish_job(tx, caller, job.job_id, report)


# ----------------------------------------------------------------------------------------------- pauses and orphans


async def test_a_failing_element_is_paused_and_says_why(site: Site, paper: PaperElement) -> None:
    await site.submit(site.world.ada, SLEEP)
    paper.breaks = RuntimeError("the batch system is upset")
    for failures in (1, 2, 3):
        async with site.context.db.pool.connection() as conn:
            await conn.execute("UPDATE pilots.trouble SET next_try_at = now()")
            await conn.execute("UPDATE pilots.pilot SET status = 'aborted', ended_at = now() WHERE ended_at IS NULL")
            await conn.execute("UPDATE pilots.pilot SET created_at = now() - interval '1 hour'")
        await chores.submit_pilots(site.context, {})
        await chores.submit_pilots(site.context, {})  # This one finds a pause.
        assert len(paper.submitted) == failures
    row = await stats(site)
    assert (row.failures, row.trouble) == (3, "submission failed: RuntimeError: the batch system is upset")
    async with site.context.db.transaction() as tx:
        ((pause_s,),) = await fetch_rows(
            tx, "SELECT extract(epoch FROM next_try_at - last_at)::integer FROM pilots.trouble"
        )
    assert pause_s == 40  # 10 s after the first one, doubled twice.


async def test_pilots_that_end_before_they_enrol_make_it_pause_until_one_does(site: Site, paper: PaperElement) -> None:
    await site.submit(site.world.ada, SLEEP)
    await chores.submit_pilots(site.context, {})
    (launch,) = paper.submitted
    paper.states[f"paper-{launch.pilot_id}"] = ElementState.FAILED
    await chores.follow_pilots(site.context, {})
    assert "before it enrolled" in (await stats(site)).trouble
    await chores.submit_pilots(site.context, {})
    assert len(paper.submitted) == 1
    await at(site, await another_pilot(site), "good")
    assert (await stats(site)).trouble == ""


async def test_a_pilot_that_was_given_up_and_runs_all_the_same_is_cancelled(site: Site, paper: PaperElement) -> None:
    await site.submit(site.world.ada, SLEEP)
    await chores.submit_pilots(site.context, {})
    (launch,) = paper.submitted
    external_id = f"paper-{launch.pilot_id}"
    async with site.context.db.pool.connection() as conn:
        # As when the answer to the submission was lost, and nobody could ask about it in time.
        await conn.execute(
            "UPDATE pilots.pilot SET status = 'aborted', ended_at = now() - interval '2 minutes', external_id = NULL,"
            " created_at = now() - interval '3 minutes'"
        )
    paper.states[external_id] = ElementState.RUNNING
    for _ in range(2):
        await chores.follow_pilots(site.context, {})
    assert paper.cancelled == [external_id]
    paper.states[external_id] = ElementState.VANISHED
    for _ in range(2):
        await chores.follow_pilots(site.context, {})
    assert paper.cancelled == [external_id]
    assert await rows(site, "is_settled") == [(True,)]
    pilot = NewPilot(pilot_id=launch.pilot_id, vo_id=site.world.ada.vo_id, vo="astro", secret=launch.secret)
    async with site.context.db.transaction() as tx:
        asked = Enrolment(pilot_id=pilot.pilot_id, secret=pilot.secret, offer=OFFER)
        with pytest.raises(service.EnrolmentRefused, match="aborted"):
            await service.enrol(tx, site.keys, site.url, asked)


# -------------------------------------------------------------------------------------------------------------- counts


async def test_the_counts_are_exact_before_and_after_folding(site: Site, paper: PaperElement) -> None:
    for n in range(4):
        await site.submit(site.world.ada, SLEEP)
        await site.submit(site.world.bea, SLEEP)
        if n == 2:
            await chores.fold_tally(site.context, {})
        await chores.submit_pilots(site.context, {})
        for launch in paper.submitted[: n + 1]:
            paper.states[f"paper-{launch.pilot_id}"] = ElementState.VANISHED
        await chores.follow_pilots(site.context, {})
        assert await tally(site) == await counted(site)
    await chores.fold_tally(site.context, {})
    assert await tally(site) == await counted(site)
    async with site.context.db.transaction() as tx:
        assert await fetch_rows(tx, "SELECT count(*) FROM pilots.tally_change") == [(0,)]


async def tally(site: Site) -> dict[tuple[int, str], int]:
    async with site.context.db.transaction() as tx:
        found = await fetch_rows(tx, "SELECT vo_id, status::text, pilots FROM pilots.tally_now WHERE pilots <> 0")
    return {(vo_id, status): pilots for vo_id, status, pilots in found}


async def counted(site: Site) -> dict[tuple[int, str], int]:
    return dict(Counter((vo_id, status) for vo_id, status in await rows(site, "vo_id, status::text")))


# -------------------------------------------------------------------------------------------------------- the commands


async def test_the_commands(
    site: Site, operator: Caller, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    await at(site, await another_pilot(site), "node-1")
    client = await site.client(operator)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("SPINOR_URL", site.url)
    monkeypatch.setenv("SPINOR_CA_FILE", str(site.ca_file))
    monkeypatch.setenv("BEARER_TOKEN", client.token())

    async def run(*words: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(cli.run, list(words))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    code, out, _ = await run("site", "drain", "LOCAL", "--reason", "power cut", "--for", "4h")
    assert code == 0
    assert "draining" in out
    code, out, _ = await run("ce", "status")
    assert "draining" in out
    code, out, _ = await run("site", "show", "LOCAL")
    assert "power cut" in out
    assert "local-ce" in out
    code, out, _ = await run("site", "history", "LOCAL")
    assert "power cut" in out
    assert (await run("site", "resume", "LOCAL"))[0] == 0
    code, _, err = await run("site", "resume", "LOCAL")
    assert (code, "already" in err) == (5, True)
    code, _, err = await run("ce", "ban", "nowhere", "--reason", "x")
    assert (code, "nowhere" in err) == (3, True)
    code, _, err = await run("ce", "ban", "local-ce", "--reason", "x", "--for", "soon")
    assert (code, "--for" in err) == (2, True)
    code, out, _ = await run("pilot", "stats")
    assert "local-ce" in out
    assert (await run("ce", "mask", "local-ce", "node-1", "--reason", "bad"))[0] == 0
    code, out, _ = await run("ce", "nodes")
    assert "node-1" in out
    assert (await run("ce", "unmask", "local-ce", "node-1"))[0] == 0
    assert (await run("ce", "unmask", "local-ce", "node-1"))[0] == 3
