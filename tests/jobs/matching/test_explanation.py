"""Why a job waits, in sentences and as facts."""

from collections.abc import AsyncIterator

import msgspec
import pytest

from spinor.db import execute
from spinor.jobs import service
from spinor.jobs.models import After, Condition, Explanation, Offer
from spinor.resources.status.models import ElementKind, Status
from tests.conftest import World
from tests.jobs.matching.test_claims import ask, charge_for, configure, many
from tests.jobs.workbench import GB, Workbench, echo, offer


@pytest.fixture
async def bench(world: World) -> AsyncIterator[Workbench]:
    yield Workbench(world)


async def explained(bench: Workbench, job_id: int) -> tuple[str, Explanation]:
    explanation = await bench.run(service.explain_job, bench.world.ada, job_id)
    return "\n".join(explanation.sentences), explanation


async def seen(bench: Workbench, what: Offer, drain_reason: str = "") -> None:
    """A pilot of the first VO that said a moment ago what it has left."""
    async with bench.db.transaction() as tx:
        await execute(
            tx,
            """INSERT INTO pilots.pilot (vo_id, ce_id, secret_hash, status, last_seen_at, offer, hostname, drain_reason)
               SELECT %(vo_id)s, ce_id, '\\x00', 'running', now(), %(offer)s::jsonb, 'wn1', %(drain)s
                 FROM resources.computing_element""",
            {
                "vo_id": bench.world.ada.vo_id,
                "offer": msgspec.json.encode(what).decode(),
                "drain": drain_reason,
            },
        )


async def test_each_constraint_is_counted(bench: Workbench) -> None:
    await seen(bench, offer(cores=1, memory_bytes=GB))
    await seen(bench, offer(cores=8))
    await seen(bench, offer(cores=8), drain_reason="the node is to be mended")
    text, explanation = await explained(bench, await bench.submit_one(echo(cores=2, memory_bytes="2GB")))
    constraints = explanation.facts["constraints"]
    assert constraints["cores"]["pilots"] == {"of": 3, "satisfied_by": 2}
    assert constraints["memory_bytes"]["computing_elements"] == {"of": 1, "satisfied_by": 1}
    assert "cores: 2 of 3 pilots satisfy it." in text
    assert "3 pilots asked or reported within 10 minutes, 1 with room for it." in text
    assert "Pilot 1 on local-ce (wn1) has no room for it: cores: the job asks for 2, here are 1; memory_bytes" in text
    assert (
        "Pilot 3 on local-ce (wn1) has no room for it: drain: it takes no more jobs (the node is to be mended)" in text
    )
    assert explanation.facts["pilots_with_room"] == [2]


async def test_limits_that_bind_are_named_with_their_counts(bench: Workbench) -> None:
    await configure(
        bench,
        'limits:\n  - {name: few, per: {user: "*"}, running: 2}\n'
        "  - {name: slowly, per: {label: db}, burst: {starts: 1, per_s: 1000}}\n  - {name: wide, running: 100}\n",
    )
    await bench.submit(many(2, labels=["db"]))
    waiting = await bench.submit_one(echo(labels=["db"]))
    assert len((await ask(bench, [1], 8))[0]) == 1
    text, explanation = await explained(bench, waiting)
    assert "Limit slowly binds: too many jobs of label=db have started of late" in text
    await bench.submit(many(1))
    bench.matcher.forget()
    assert len((await ask(bench, [2], 8))[0]) == 1
    text, explanation = await explained(bench, waiting)
    assert "Limit few binds: 2 jobs of user=ada may run at once, and 2 do" in text
    assert explanation.facts["limits"] == ["few", "slowly", "wide"]
    assert {each["limit"] for each in explanation.facts["limits_that_bind"]} == {"few", "slowly"}


async def test_the_place_in_the_share_is_told(bench: Workbench) -> None:
    await bench.submit(many(4))
    await ask(bench, [1], 4)
    await charge_for(bench, 7200)
    await bench.submit(many(2), caller=bench.world.alan)
    text, explanation = await explained(bench, await bench.submit_one())
    assert "User ada has used 8.0 core-hours of late and runs on 4 cores, with share 1: alan is ahead of 1" in text
    users = explanation.facts["share"]["users"]
    assert [user["name"] for user in users] == ["alan", "ada"]


async def test_what_is_out_of_use_is_told(bench: Workbench) -> None:
    job_id = await bench.submit_one()
    async with bench.db.transaction() as tx:
        await execute(
            tx,
            "INSERT INTO resources.element_status (kind, name, status, reason, actor)"
            " VALUES (%(kind)s, 'local-ce', %(status)s, 'new disks', 'ada')",
            {"kind": ElementKind.CE.value, "status": Status.DRAINING.value},
        )
    text, explanation = await explained(bench, job_id)
    assert "status: the element local-ce is draining" in text
    assert "local-ce could run it when it is in use again" in text
    assert explanation.elements[0].excluded_by[0].startswith("status:")
    bench.matcher.forget_all()
    assert await ask(bench, [1], 1) == [[]]


async def test_where_the_factory_pauses_is_told(bench: Workbench) -> None:
    job_id = await bench.submit_one()
    async with bench.db.transaction() as tx:
        await execute(
            tx,
            "INSERT INTO pilots.trouble (ce_id, vo_id, failures, reason, next_try_at)"
            " SELECT ce_id, vo_id, 3, 'submission failed: no such queue', now() + interval '1 minute'"
            " FROM resources.computing_access",
        )
    text, explanation = await explained(bench, job_id)
    assert "No pilots are sent to local-ce before" in text
    assert "after 3 failures in a row: submission failed: no such queue" in text
    assert list(explanation.facts["factory_pauses"]) == ["local-ce"]


async def test_what_a_job_waits_for_is_told(bench: Workbench) -> None:
    first = (await bench.submit(many(3))).arrays[0]
    second = await bench.submit_one(echo(after=[After(array_id=first.array_id, condition=Condition.ENDED)]))
    text, explanation = await explained(bench, second)
    assert f"It waits until jobs {first.ids[0]}-{first.ids[-1]} have ended: 0 of 3 have come to their end." in text
    assert explanation.facts["waits_for"][0]["going"] == 3
    held = await bench.submit_one(echo(hold=True))
    text, _ = await explained(bench, held)
    assert "held by ada" in text
    assert f"`spinor job release {held}`" in text


async def test_a_pause_before_a_retry_is_told(bench: Workbench) -> None:
    job = await bench.running()
    await bench.finish(job, exit_code=None, error="the disk of the node broke")
    text, explanation = await explained(bench, job.job_id)
    assert "It pauses until" in text
    assert "Attempt 1 ended failed" in text
    assert explanation.facts["pauses_until"]
