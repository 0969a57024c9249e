"""The way in: a secret that works once, for a token that can do one thing."""

import asyncio
import logging
from typing import Any

import pytest

from spinor.access import Caller
from spinor.db import Database
from spinor.http import Public
from spinor.jobs.models import JobSpec, Offer
from spinor.pilots import service
from spinor.pilots.models import Enrolled, Enrolment, NewPilot
from spinor.pilots.routes import routes
from spinor_pilot.server import Refused, Server

from .conftest import Site

OFFER = Offer(cores=2, memory_bytes=4_000_000_000, disk_bytes=10**12, wall_s=3000)
SLEEP = JobSpec(executable="sleep", arguments=["60"])


async def new_pilot(site: Site, spec: JobSpec = SLEEP, caller: Caller | None = None) -> NewPilot:
    """A pilot of which the intent is recorded, and the job that asked for it."""
    await site.submit(caller or site.world.ada, spec)
    async with site.context.db.transaction() as tx:
        (order,) = await service.demand_to_plan(tx)
    return order.pilots[0]


async def enrolled(site: Site, pilot: NewPilot) -> Server:
    """The server as this pilot calls it."""
    server = Server(site.url, site.ca_file.read_text())
    body = {"pilot_id": pilot.pilot_id, "secret": pilot.secret, "offer": offer()}
    server.token = (await call(server, "POST", "/api/pilot/enrol", body))["token"]
    return server


def offer(cores: int = 2) -> dict[str, object]:
    return {"cores": cores, "memory_bytes": 4_000_000_000, "disk_bytes": 10**12, "wall_s": 3000, "tags": []}


async def call(server: Server, method: str, path: str, body: object = None) -> dict[str, Any]:
    def once() -> dict[str, Any]:
        try:
            return server.json(method, path, body)
        finally:
            server.close()  # Each thread has its own connection.

    return await asyncio.to_thread(once)


async def test_the_secret_works_once(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    pilot = await new_pilot(site)
    body = Enrolment(pilot_id=pilot.pilot_id, secret=pilot.secret, offer=OFFER)

    async def attempt() -> Enrolled | service.EnrolmentRefused:
        async with site.context.db.transaction() as tx:
            try:
                return await service.enrol(tx, site.keys, site.url, body)
            except service.EnrolmentRefused as refused:
                return refused

    with caplog.at_level(logging.WARNING, "spinor.pilots"):
        outcomes = await asyncio.gather(*(attempt() for _ in range(5)))
    assert sum(isinstance(outcome, Enrolled) for outcome in outcomes) == 1
    refused = [outcome for outcome in outcomes if isinstance(outcome, service.EnrolmentRefused)]
    assert all("used before" in outcome.message for outcome in refused)
    told = [record for record in caplog.records if record.message == "enrolment-refused"]
    assert len(told) == 4
    assert all(vars(record)["used_before"] and vars(record)["pilot_id"] == pilot.pilot_id for record in told)
    assert pilot.secret not in caplog.text


async def test_a_wrong_secret_learns_nothing(site: Site) -> None:
    pilot = await new_pilot(site)
    server = Server(site.url, site.ca_file.read_text())
    said = []
    for pilot_id, secret in ((pilot.pilot_id, "guess"), (pilot.pilot_id + 1000, pilot.secret)):
        with pytest.raises(Refused) as refused:
            await call(server, "POST", "/api/pilot/enrol", {"pilot_id": pilot_id, "secret": secret, "offer": offer()})
        assert (refused.value.status, refused.value.code) == (403, "enrolment-refused")
        said.append(str(refused.value))
    assert said[0] == said[1]
    await enrolled(site, pilot)  # The guesses have not spent it.


async def test_only_the_hash_of_the_secret_is_stored(site: Site, db: Database) -> None:
    pilot = await new_pilot(site)
    async with db.pool.connection() as conn:
        rows = await (await conn.execute("SELECT pilot::text FROM pilots.pilot AS pilot")).fetchall()
    assert rows
    assert pilot.secret not in str(rows)
    assert pilot.secret.encode().hex() not in str(rows)


async def test_a_cancelled_pilot_cannot_enrol(site: Site) -> None:
    pilot = await new_pilot(site)
    async with site.context.db.transaction() as tx:
        await service.cancel_pilots(tx, site.world.ada_admin, [pilot.pilot_id], "")
    with pytest.raises(Refused, match="deleted"):
        await enrolled(site, pilot)


async def test_the_token_opens_the_pilots_own_doors_only(site: Site) -> None:
    from spinor.app import all_routes

    server = await enrolled(site, await new_pilot(site))
    closed = 0
    for route in all_routes():
        if isinstance(route.scope, Public) or route.scope == "pilot:act":
            continue
        path = route.path
        for name in route.path_names:
            path = path.replace(f"{{{name}}}", "1")
        with pytest.raises(Refused) as refused:
            await call(server, route.method, path, {})
        assert refused.value.status == 403, f"{route.method} {path}"
        closed += 1
    assert closed >= 4
    for method, path in (("GET", "/api/jobs/1"), ("POST", "/api/jobs"), ("POST", "/api/pilots/cancel")):
        if any(route.method == method and route.path.startswith(path[:9]) for route in all_routes()):
            with pytest.raises(Refused):
                await call(server, method, path, {})


async def test_people_cannot_act_as_pilots(site: Site) -> None:
    client = await site.client(site.world.ada_admin)
    server = Server(site.url, site.ca_file.read_text(), client.token())
    for route in routes.all:
        if route.scope == "pilot:act":
            with pytest.raises(Refused) as refused:
                await call(server, route.method, route.path.replace("{job_id}", "1").replace("{sandbox_id}", "1"), {})
            assert refused.value.status == 403


async def test_a_pilot_is_its_vos_only(site: Site) -> None:
    """A pilot of astro gets no job of bio, and its caller says so."""
    await site.submit(site.world.bea, SLEEP)
    async with site.context.db.transaction() as tx:
        orders = await service.demand_to_plan(tx)
    bio = await enrolled(site, orders[0].pilots[0])
    astro = await enrolled(site, await new_pilot(site))
    given = await call(astro, "POST", "/api/pilot/match", {"offer": offer(), "max_jobs": 10})
    assert len(given["jobs"]) == 1
    assert given["jobs"][0]["vo"] == "astro"
    given = await call(bio, "POST", "/api/pilot/match", {"offer": offer(), "max_jobs": 10})
    assert given["jobs"][0]["vo"] == "bio"


async def test_an_old_token_is_renewed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    server = await enrolled(site, await new_pilot(site))
    assert (await call(server, "POST", "/api/pilot/heartbeat", {"held": []}))["token"] is None
    monkeypatch.setattr("spinor.pilots.routes.TOKEN_LIFETIME_S", 10 * 86_400)
    token = (await call(server, "POST", "/api/pilot/heartbeat", {"held": []}))["token"]
    assert isinstance(token, str)
    server.token = token
    assert (await call(server, "POST", "/api/pilot/heartbeat", {"held": []}))["token"] is None
