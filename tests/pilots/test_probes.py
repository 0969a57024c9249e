"""Probes: a real pilot and a real job that say of each step whether it works, and what to do when it does not."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from spinor import cli
from spinor.access import Caller, Scope
from spinor.configuration import service as configuration
from spinor.db import fetch_value
from spinor.errors import Denied
from spinor.identity import service as identity
from spinor.pilots import chores
from spinor.pilots.probes import chores as probing
from spinor.pilots.probes import rules, service
from spinor.pilots.probes.models import Probe, StartProbes, Step, StepState
from spinor.resources import service as resources
from spinor.resources.models import FitnessPolicy
from spinor.resources.status import service as statuses
from spinor.resources.status.models import ChangeStatus, ElementKind, Status
from tests.conftest import WORLD, World

from .conftest import Site, until
from .test_running import group_of, script


@pytest.fixture
async def pilots(site: Site) -> AsyncIterator[Site]:
    yield site
    for file in (site.world.storage_root.parent / "computing").glob("pilot-*/process"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group_of(file.parent), signal.SIGKILL)


async def people(world: World, options: str = "") -> Caller:
    """An operator who may submit jobs and write files too."""
    groups = "      astro_ops: {properties: [operator, normal_user], members: [ada]}\n"
    text = WORLD.format(root=world.storage_root.parent).replace("  bio:\n", f"{groups}  bio:\n", 1)
    text = text.replace("{directory:", f"{{{options}directory:")
    async with world.db.transaction() as tx:
        await configuration.apply(tx, text, author="tests")
        return await identity.caller_for(tx, "ada", "astro", "astro_ops")


async def start(site: Site, who: Caller, asked: StartProbes) -> int:
    async with site.context.db.transaction() as tx:
        (probe,) = await service.start_probes(tx, who, asked)
    return probe.probe_id


async def ended(site: Site, who: Caller, probe_id: int, timeout_s: float = 90) -> Probe:
    async def over() -> Probe | None:
        await probing.advance_probes(site.context, {})
        await chores.follow_pilots(site.context, {})
        async with site.context.db.transaction() as tx:
            found = await service.probe(tx, who, probe_id)
        return found if found.ended_at is not None else None

    return await until(over, timeout_s)


def states(probe: Probe) -> dict[str, str]:
    return {step.name: step.state.value for step in probe.steps}


async def test_a_probe_goes_all_the_way_also_where_nothing_else_may_go(pilots: Site) -> None:
    site, operator = pilots, await people(pilots.world)
    async with site.context.db.transaction() as tx:
        asked = ChangeStatus(kind=ElementKind.CE, names=["local-ce"], status=Status.BANNED, reason="looks bad")
        await statuses.change_status(tx, operator, asked)
    (waiting,) = await site.submit(site.world.ada, script("true"))
    probe_id = await start(site, operator, StartProbes(site="LOCAL", se="local-se"))
    probe = await ended(site, operator, probe_id)
    assert states(probe) == dict.fromkeys(rules.NAMES, "ok"), probe.steps
    assert probe.succeeded
    by_name = {step.name: step for step in probe.steps}
    assert "pilot-" in by_name["submission"].detail
    assert "cores" in by_name["node"].detail
    assert by_name["payload"].took_s is not None
    # It took its own job and no other one, and left nothing behind.
    assert (await site.job(site.world.ada, waiting)).status == "waiting"
    async with site.context.db.transaction() as tx:
        assert await fetch_value(tx, "SELECT count(*) FROM catalog.file") == 0
        assert await fetch_value(tx, "SELECT status::text FROM pilots.pilot") == "done"
        job = await fetch_value(tx, "SELECT status::text FROM jobs.job WHERE job_id = %(id)s", {"id": probe.job_id})
    assert job == "deleted"


async def test_what_is_banned_is_probed_by_itself_and_comes_back(pilots: Site) -> None:
    site, operator = pilots, await people(pilots.world)
    for status in (Status.BANNED, Status.ACTIVE):
        async with site.context.db.transaction() as tx:
            asked = ChangeStatus(kind=ElementKind.SITE, names=["LOCAL"], status=status)
            await statuses.change_status(tx, operator, asked)

    async def back() -> bool:
        await probing.advance_probes(site.context, {})
        async with site.context.db.transaction() as tx:
            return await resources.status_of(tx) == {}

    await until(back, 90)
    async with site.context.db.transaction() as tx:
        history = await statuses.status_history(tx, operator, ElementKind.SITE, "LOCAL", 10)
        ran = await fetch_value(tx, "SELECT j.status::text FROM pilots.probe p JOIN jobs.job j USING (job_id)")
    assert [change.status.value for change in reversed(history)] == ["banned", "probing", "active"]
    assert "succeeded" in history[0].reason
    assert ran == "deleted", "a job of the service's own has run, and is gone"


async def test_wrong_options_are_the_step_that_failed(pilots: Site) -> None:
    site, operator = pilots, await people(pilots.world, "colour: blue, ")
    probe = await ended(site, operator, await start(site, operator, StartProbes(computing_elements=["local-ce"])))
    assert not probe.succeeded
    assert states(probe) | {"plugin options": "failed", "operations data": "ok"} == states(probe)
    failed = next(step for step in probe.steps if step.state is StepState.FAILED)
    assert "colour" in failed.detail
    assert failed.remedy
    assert {step.state for step in probe.steps[2:]} == {StepState.SKIPPED}


async def test_a_pilot_that_cannot_start_is_explained_by_its_last_words(pilots: Site) -> None:
    site, operator = pilots, await people(pilots.world, "python: /bin/false, ")
    probe = await ended(site, operator, await start(site, operator, StartProbes(computing_elements=["local-ce"])))
    assert not probe.succeeded
    failed = next(step for step in probe.steps if step.state is StepState.FAILED)
    assert failed.name in ("queue", "start")
    async with site.context.db.transaction() as tx:
        assert await fetch_value(tx, "SELECT count(*) FROM jobs.waiting") == 0, "its job is gone too"


async def test_an_automatic_probe_that_fails_is_repeated_later(pilots: Site) -> None:
    site, operator = pilots, await people(pilots.world, "colour: blue, ")
    async with site.context.db.transaction() as tx:
        await statuses.suspect(tx, "local-ce", "three nodes are unfit")
        await tx.execute("UPDATE resources.element_status SET probe_at = now()")
    for _ in range(3):
        await probing.advance_probes(site.context, {})
    async with site.context.db.transaction() as tx:
        (row,) = await statuses.statuses(tx, operator, ElementKind.CE, "local-ce")
        assert await fetch_value(tx, "SELECT count(*) FROM pilots.probe") == 1
    assert (row.status, row.failed_probes) == (Status.PROBING, 1)
    assert "plugin options" in row.reason


async def routine(site: Site) -> list[str]:
    async with site.context.db.transaction() as tx:
        return await service.start_routine_probes(tx)


async def aged(site: Site, what: str) -> None:
    async with site.context.db.transaction() as tx:
        await tx.execute(what)


OLD = "UPDATE resources.computing_element SET added_at = now() - interval '7 hours'"


async def test_an_idle_element_is_sent_a_job_and_only_one(pilots: Site) -> None:
    site, operator = pilots, await people(pilots.world)
    assert await routine(site) == [], "it has not been there for long"
    await aged(site, OLD)
    assert await routine(site) == ["local-ce"]
    assert await routine(site) == [], "one at a time"
    async with site.context.db.transaction() as tx:
        (row,) = await service.open_probes(tx)
    probe = await ended(site, operator, row.probe_id)
    assert probe.succeeded
    assert states(probe) == dict.fromkeys(rules.NAMES, "ok") | {"output": "skipped"}
    async with site.context.db.transaction() as tx:
        assert await resources.status_of(tx) == {}
        owner = await fetch_value(
            tx, "SELECT u.name FROM jobs.job j JOIN identity.user_account u ON u.user_id = j.owner_id"
        )
    assert owner == "spinor:probe"
    assert await routine(site) == [], "that shows that it works"
    await aged(site, "UPDATE pilots.probe SET created_at = now() - interval '7 hours'")
    assert await routine(site) == [], "a job has ended well there"
    await aged(site, "UPDATE jobs.ended_attempt SET ended_at = now() - interval '7 hours'")
    assert await routine(site) == ["local-ce"]


async def test_an_element_whose_probes_fail_is_degraded_and_comes_back(pilots: Site) -> None:
    site, operator = pilots, await people(pilots.world, "colour: blue, ")
    await aged(site, OLD)
    for failures, status in ((1, "active"), (2, "degraded")):
        assert await routine(site) == ["local-ce"]
        assert await routine(site) == []
        for _ in range(2):
            await probing.advance_probes(site.context, {})
        async with site.context.db.transaction() as tx:
            (row,) = await statuses.statuses(tx, operator, ElementKind.CE, "local-ce")
        assert (row.failed_probes, row.status.value) == (failures, status)
        await aged(site, "UPDATE resources.element_status SET probe_at = now() - interval '1 second'")
    assert "plugin options" in row.reason
    # What a person says holds, and ends the probes.
    async with site.context.db.transaction() as tx:
        asked = ChangeStatus(kind=ElementKind.CE, names=["local-ce"], status=Status.DEGRADED, reason="leave it so")
        await statuses.change_status(tx, operator, asked)
    assert await routine(site) == []
    async with site.context.db.transaction() as tx:
        asked = ChangeStatus(kind=ElementKind.CE, names=["local-ce"], status=Status.ACTIVE)
        await statuses.change_status(tx, operator, asked)
    operator = await people(site.world)  # Mended.
    await aged(site, "UPDATE resources.element_status SET actor = 'spinor', status = 'degraded', probe_at = now()")
    assert await routine(site) == ["local-ce"]
    async with site.context.db.transaction() as tx:
        (open_row,) = await service.open_probes(tx)
    assert (await ended(site, operator, open_row.probe_id)).succeeded
    async with site.context.db.transaction() as tx:
        assert await resources.status_of(tx) == {}


async def test_routine_probes_can_be_forbidden(site: Site) -> None:
    await aged(site, OLD)
    async with site.context.db.transaction() as tx:
        await resources.set_fitness_policy(tx, FitnessPolicy(probe_every_s=0))
    assert await routine(site) == []


async def test_the_account_of_probes_outlives_new_operations_data(site: Site) -> None:
    async with site.context.db.transaction() as tx:
        user_id, group_id = await identity.probe_member(tx, site.world.ada.vo_id)
    await people(site.world)
    async with site.context.db.transaction() as tx:
        assert (user_id, group_id) == await identity.probe_member(tx, site.world.ada.vo_id)
        caller = await identity.caller_of_member(tx, site.world.ada.vo_id, user_id, group_id)
    assert not caller.may(Scope.JOBS_SUBMIT)


async def test_probing_is_for_who_looks_after_the_site(site: Site) -> None:
    async with site.context.db.transaction() as tx:
        with pytest.raises(Denied):
            await service.start_probes(tx, site.world.ada, StartProbes(site="LOCAL"))
    client = await site.client(site.world.ada)
    with pytest.raises(Exception, match="resources:manage"):
        await asyncio.to_thread(client.post, "/api/probes", {"site": "LOCAL"}, list[Probe])


async def test_the_command_tells_each_step(
    pilots: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    site, operator = pilots, await people(pilots.world)
    client = await site.client(operator)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("SPINOR_URL", site.url)
    monkeypatch.setenv("SPINOR_CA_FILE", str(site.ca_file))
    monkeypatch.setenv("BEARER_TOKEN", client.token())
    command = asyncio.create_task(asyncio.to_thread(cli.run, ["site", "test", "LOCAL", "--timeout", "3m"]))

    async def over() -> bool:
        await probing.advance_probes(site.context, {})
        return command.done()

    await until(over, 120)
    out = capsys.readouterr().out
    assert await command == 0, out
    assert [line[4:20].strip() for line in out.splitlines() if line.startswith(("  ✓", "  -"))] == list(rules.NAMES)
    assert "    | " in out, "the pilot's own log"


def test_the_time_of_a_probe_is_limited() -> None:
    steps = [Step(name=name, state=StepState.OK) for name in rules.NAMES]
    assert rules.outcome(steps) is True
    assert rules.outcome([*steps[:-1], Step(name="good-bye")]) is None
    assert rules.outcome(steps[:3]) is None
