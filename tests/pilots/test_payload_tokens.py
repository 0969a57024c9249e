"""The token of a payload: it finds its service and job, can do what the description says, and ends with its attempt."""

import asyncio

import pytest

from spinor import credentials
from spinor.client import Client, RemoteError
from spinor.configuration import service as configuration
from spinor.identity import service as identity
from spinor.identity.people import service as people
from spinor.identity.people.models import Reinstate, Suspend
from spinor.jobs.models import Demand, Job, JobSpec, JobStatus, TokenScope
from spinor.pilots.chores import submit_pilots
from tests.conftest import WORLD
from tests.pilots.conftest import Site, until
from tests.pilots.test_running import ENDED, pilots, script

__all__ = ["pilots"]

# The payload talks to its service with nothing but what its environment says.
SPEAK = """
import json, os, ssl, urllib.request
context = ssl.create_default_context(cafile=os.environ["SPINOR_CA_FILE"])
def ask(path, body=None):
    token = open(os.environ["BEARER_TOKEN_FILE"]).read()
    request = urllib.request.Request(os.environ["SPINOR_URL"] + path, headers={"Authorization": "Bearer " + token,
        "Content-Type": "application/json"}, data=None if body is None else json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, context=context) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["code"]
"""


def speaking(text: str, **changes: object) -> JobSpec:
    return JobSpec(executable="python3", arguments=["-c", SPEAK + text], **changes)  # type: ignore[arg-type]


async def test_a_payload_sees_its_job_and_little_else(pilots: Site) -> None:
    site, ada = pilots, pilots.world.ada
    text = """
mine = json.loads(ask("/api/payload/job")[1])
print(mine["job_id"], mine["status"] in ("matched", "running"))
print(os.stat(os.environ["BEARER_TOKEN_FILE"]).st_mode & 0o777)
print(ask("/api/payload/progress", {"text": "event 3 of 10"})[0])
print(ask("/api/files/stat", {"lfns": ["/astro/x"]})[1], ask("/api/jobs/search", {})[1], ask("/api/auth/whoami")[1])
print(ask("/api/pilot/match", {})[1])
"""
    (job_id,) = await site.submit(ada, speaking(text))
    await submit_pilots(site.context, {})
    job = await site.until_job(ada, job_id, *ENDED)
    said = (await site.log(job_id)).splitlines()
    assert job.status == JobStatus.DONE, await site.log(job_id, "stderr")
    assert said == [f"{job_id} True", f"{0o600}", "204", "denied denied denied", "denied"]
    assert job.application_status == "event 3 of 10"


async def test_the_description_gives_scopes_and_never_more_than_the_owner_has(pilots: Site) -> None:
    site, ada = pilots, pilots.world.ada
    text = 'print(ask("/api/jobs/search", {})[0], ask("/api/files/list", {"path": "/astro"})[1])'
    (job_id,) = await site.submit(ada, speaking(text, token_scopes=[TokenScope.JOBS_READ]))
    await submit_pilots(site.context, {})
    await site.until_job(ada, job_id, *ENDED)
    assert (await site.log(job_id)).split() == ["200", "denied"]


async def test_the_token_ends_with_the_attempt(pilots: Site) -> None:
    site, ada = pilots, pilots.world.ada
    (job_id,) = await site.submit(ada, script("cat $BEARER_TOKEN_FILE"))
    await submit_pilots(site.context, {})
    await site.until_job(ada, job_id, *ENDED)
    token = (await site.log(job_id)).strip()
    assert credentials.peek(token).iss == site.url
    with Client(site.url, credentials.Server(ca_file=str(site.ca_file)), token) as client:
        client.patient = False
        with pytest.raises(RemoteError) as refused:
            await asyncio.to_thread(client.get, "/api/payload/job", Job)
    assert (refused.value.status, refused.value.code) == (401, "attempt-ended")


async def test_a_token_of_another_attempt_or_vo_is_worth_nothing(pilots: Site) -> None:
    site, ada = pilots, pilots.world.ada
    (job_id,) = await site.submit(ada, script("sleep 60"))
    await submit_pilots(site.context, {})
    await site.until_job(ada, job_id, JobStatus.RUNNING)
    for attempt, vo, status in ((1, "astro", 200), (2, "astro", 401), (1, "bio", 401)):
        owner = ada if vo == "astro" else site.world.bea
        grant = identity.PayloadGrant(job_id, attempt, owner.vo, (owner.vo_id, owner.user_id), [], 60)
        [token], _ = identity.mint_payload_tokens(site.keys, site.url, [grant])
        with Client(site.url, credentials.Server(ca_file=str(site.ca_file)), token) as client:
            if status == 200:
                assert (await asyncio.to_thread(client.get, "/api/payload/job", Job)).job_id == job_id
            else:
                with pytest.raises(RemoteError, match="ended"):
                    await asyncio.to_thread(client.get, "/api/payload/job", Job)


async def test_a_suspended_owner_s_job_stops_waits_and_goes_on(pilots: Site) -> None:
    from spinor.jobs.chores import CHORES

    interrupt = next(chore for chore in CHORES if chore.name == "jobs.interrupt-suspended")
    site, alan = pilots, pilots.world.alan
    judge = site.world.ada_admin
    operator = type(judge)(**{**{f: getattr(judge, f) for f in judge.__struct_fields__},
                              "scopes": frozenset({"members:manage", "identity:manage"})})  # fmt: skip
    (job_id,) = await site.submit(alan, script("test $SPINOR_ATTEMPT -gt 1 || sleep 600; echo again"))
    await submit_pilots(site.context, {})
    await site.until_job(alan, job_id, JobStatus.RUNNING)
    async with site.context.db.transaction() as tx:
        await people.suspend(tx, operator, Suspend(users=["alan"], reason="incident"))
    await interrupt.run(site.context, {})
    job = await site.until_job(alan, job_id, JobStatus.WAITING)
    assert job.attempt == 1
    assert not any(queue.waiting for queue in await _demand(site)), "no pilot is started for it"
    await asyncio.sleep(1.5)  # Its pilot asks for jobs meanwhile.
    assert (await site.job(alan, job_id)).status == JobStatus.WAITING
    async with site.context.db.transaction() as tx:
        await people.reinstate(tx, operator, Reinstate(users=["alan"]))

    async def ended() -> bool:
        await submit_pilots(site.context, {})
        return (await site.job(alan, job_id)).status == JobStatus.DONE

    await until(ended, 30)
    assert "again" in await site.log(job_id)


async def _demand(site: Site) -> list[Demand]:
    from spinor.jobs import service as jobs

    async with site.context.db.transaction() as tx:
        return list(await jobs.demand(tx))


async def test_a_pilot_that_has_ended_is_nobody(pilots: Site) -> None:
    site, ada = pilots, pilots.world.ada
    (job_id,) = await site.submit(ada, script("true"))
    await submit_pilots(site.context, {})
    job = await site.until_job(ada, job_id, *ENDED)
    assert job.pilot_id
    token = identity.mint_pilot_token(site.keys, site.url, "astro", job.pilot_id, 60)
    async with site.context.db.pool.connection() as conn:
        await conn.execute("UPDATE pilots.pilot SET ended_at = now(), status = 'deleted'")
    with Client(site.url, credentials.Server(ca_file=str(site.ca_file)), token) as client:
        with pytest.raises(RemoteError) as refused:
            await asyncio.to_thread(client.post, "/api/pilot/heartbeat", {"held": [], "wait_s": 0})
    assert (refused.value.status, refused.value.code) == (410, "pilot-ended")


async def test_a_payload_gets_a_limited_proxy_when_its_job_asks_for_that(pilots: Site) -> None:
    site, ada = pilots, pilots.world.ada
    document = WORLD.format(root=site.world.storage_root.parent) + "\nonline_ca: {enabled: true}\n"
    async with site.context.db.transaction() as tx:
        await configuration.apply(tx, document, author="tests")
    text = """
status, answer = ask("/api/payload/proxy", {"limited": False, "lifetime_s": 3600})
print(status, answer if status >= 400 else json.loads(answer)["is_limited"])
print(ask("/api/proxies/new", {})[1])
"""
    wanted = speaking(text, token_scopes=[TokenScope.PAYLOAD_PROXY])
    for spec, said in ((wanted, ["200 True", "denied"]), (speaking(text), ["403 denied", "denied"])):
        (job_id,) = await site.submit(ada, spec)
        await submit_pilots(site.context, {})
        await site.until_job(ada, job_id, *ENDED)
        assert (await site.log(job_id)).splitlines() == said
