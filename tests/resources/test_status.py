"""The status of sites and elements: who may change it, what follows, and what others are told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import psycopg
import pytest

from spinor.access import Caller
from spinor.configuration import service as configuration
from spinor.errors import BadInput, SpinorError
from spinor.identity import service as identity
from spinor.resources.routes import routes
from spinor.resources.status import service
from spinor.resources.status.models import ChangeStatus, ElementKind, Status, StatusesChanged
from tests.conftest import WORLD
from tests.identity.workbench import ISSUER, Answer, Service, make_service

if TYPE_CHECKING:
    from tests.conftest import World

CE, SITE = ElementKind.CE, ElementKind.SITE
EXTRA = """  FAR:
    administrators: [alan]
    computing_elements:
      far-a: {plugin: local, cores: 1, memory_bytes: 1GB, wall_s: 1h, max_pilots: 1, vos: [astro]}
      far-b: {plugin: local, cores: 1, memory_bytes: 1GB, wall_s: 1h, max_pilots: 1, vos: [bio]}
  EMPTY: {}
"""


class People(msgspec.Struct, frozen=True, kw_only=True):
    operator: Caller
    alan: Caller  # Looks after FAR.


@pytest.fixture
async def people(world: World) -> People:
    groups = """      astro_ops: {properties: [operator], members: [ada]}
      astro_sites: {properties: [site_administrator], members: [ada, alan]}
"""
    text = WORLD.format(root=world.storage_root.parent).replace("  bio:\n", f"{groups}  bio:\n", 1) + EXTRA
    async with world.db.transaction() as tx:
        await configuration.apply(tx, text, author="tests")
        return People(
            operator=await identity.caller_for(tx, "ada", "astro", "astro_ops"),
            alan=await identity.caller_for(tx, "alan", "astro", "astro_sites"),
        )


async def change(
    world: World, who: Caller, kind: ElementKind, name: str, status: Status, **more: object
) -> StatusesChanged:
    asked = msgspec.convert({"kind": kind, "names": [name], "status": status, **more}, ChangeStatus)
    async with world.db.transaction() as tx:
        return await service.change_status(tx, who, asked)


async def told(world: World) -> dict[str, Status]:
    async with world.db.transaction() as tx:
        return dict(await service.status_of(tx))


async def test_a_sites_status_holds_for_its_elements(world: World, people: People) -> None:
    assert await told(world) == {}
    await change(world, people.operator, SITE, "FAR", Status.DRAINING, reason="power cut")
    await change(world, people.operator, CE, "far-a", Status.DEGRADED, reason="slow")
    assert await told(world) == {"FAR": Status.DRAINING, "far-a": Status.DRAINING, "far-b": Status.DRAINING}
    async with world.db.transaction() as tx:
        rows = {row.name: row for row in await service.statuses(tx, world.ada)}
    assert (rows["far-a"].status, rows["far-a"].effective) == (Status.DEGRADED, Status.DRAINING)
    assert (rows["FAR"].reason, rows["FAR"].actor) == ("power cut", "ada")
    assert rows["local-ce"].effective is Status.ACTIVE
    assert "far-b" not in rows, "an element of another VO"
    await change(world, people.operator, SITE, "FAR", Status.ACTIVE)
    assert await told(world) == {"far-a": Status.DEGRADED}


async def test_who_may(world: World, people: People) -> None:
    assert (await change(world, people.alan, SITE, "FAR", Status.DRAINING)).refused == []
    assert (await change(world, people.alan, CE, "far-b", Status.DRAINING)).refused == []
    answer = await change(world, people.alan, CE, "local-ce", Status.DRAINING)
    assert [refused.code for refused in answer.refused] == ["not-administrator"]
    answer = await change(world, people.operator, CE, "nowhere", Status.DRAINING)
    assert [refused.code for refused in answer.refused] == ["unknown-element"]
    assert (await told(world)).get("local-ce") is None


async def test_what_is_banned_comes_back_by_a_probe(world: World, people: People) -> None:
    await change(world, people.operator, CE, "far-a", Status.BANNED, reason="eats jobs")
    answer = await change(world, people.operator, CE, "far-a", Status.DEGRADED)
    assert [refused.code for refused in answer.refused] == ["status-refused"]
    answer = await change(world, people.operator, CE, "far-a", Status.ACTIVE, reason="mended")
    assert [each.status for each in answer.done] == [Status.PROBING]
    async with world.db.transaction() as tx:
        (due,) = await service.due_probes(tx, 60)
        assert (due.name, due.vo_id) == ("far-a", world.ada.vo_id)
        assert await service.due_probes(tx, 60) == []
        assert await service.note_probe(tx, CE, "far-a", succeeded=False, reason="still") is Status.PROBING
    async with world.db.transaction() as tx:
        (row,) = await service.statuses(tx, world.ada, CE, "far-a")
        assert (row.failed_probes, row.next_probe_at is not None) == (1, True)
        assert await service.note_probe(tx, CE, "far-a", succeeded=True, reason="works") is Status.ACTIVE
        history = await service.status_history(tx, world.ada, CE, "far-a", 100)
    assert [(each.old.value, each.status.value, each.actor) for each in reversed(history)] == [
        ("active", "banned", "ada"), ("banned", "probing", "ada"), ("probing", "probing", "spinor"),
        ("probing", "active", "spinor"),
    ]  # fmt: skip
    assert await told(world) == {}


async def test_a_banned_site_is_probed_through_one_of_its_elements(world: World, people: People) -> None:
    for name in ("FAR", "EMPTY"):
        await change(world, people.operator, SITE, name, Status.BANNED)
        await change(world, people.operator, SITE, name, Status.ACTIVE)
    assert (await told(world)).get("EMPTY") is None, "there is nothing that could be probed"
    async with world.db.transaction() as tx:
        (due,) = await service.due_probes(tx, 60)
        assert (due.kind, due.name) == (SITE, "FAR")
        await service.note_probe(tx, due.kind, due.name, succeeded=True, reason="works")
    assert await told(world) == {}


async def test_a_downtime_ends_by_itself(world: World, people: People) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    await change(world, people.operator, SITE, "FAR", Status.DRAINING, until=soon)
    await change(world, people.operator, CE, "local-ce", Status.BANNED, until=soon)
    async with world.db.transaction() as tx:
        assert await service.end_what_is_over(tx) == []
        await tx.execute("UPDATE resources.element_status SET until = now() - interval '1 second'")
        assert sorted(await service.end_what_is_over(tx)) == ["FAR", "local-ce"]
        assert await service.end_what_is_over(tx) == []
    assert await told(world) == {"local-ce": Status.PROBING}
    with pytest.raises(BadInput):
        await change(world, people.operator, CE, "far-a", Status.BANNED, until=datetime.now(UTC) - timedelta(hours=1))
    with pytest.raises(BadInput):
        await change(world, people.operator, CE, "far-a", Status.ACTIVE, until=soon)


async def test_what_is_suspect_is_probed_once(world: World) -> None:
    async with world.db.transaction() as tx:
        assert await service.suspect(tx, "local-ce", "three pilots found their node unfit")
        assert not await service.suspect(tx, "local-ce", "a fourth")
        assert not await service.suspect(tx, "nowhere", "x")
    assert await told(world) == {"local-ce": Status.PROBING}


async def test_the_elements_pilots_are_signalled(world: World, people: People) -> None:
    async with await psycopg.AsyncConnection.connect(world.db.url, autocommit=True) as conn:
        await conn.execute("LISTEN spinor")
        await change(world, people.operator, SITE, "FAR", Status.DRAINING)
        heard = [note.payload async for note in conn.notifies(timeout=5, stop_after=3)]
    async with world.db.transaction() as tx:
        rows = await (await tx.execute("SELECT ce_id FROM resources.computing_element WHERE name ~ 'far'")).fetchall()
    assert sorted(heard) == sorted(["resources:status", *(f"ce:{ce_id}" for (ce_id,) in rows)])


async def test_a_board_is_fresh_after_it_forgot(world: World, people: People) -> None:
    board = service.StatusBoard()
    async with world.db.transaction() as tx:
        assert await board.statuses(tx) == {}
    await change(world, people.operator, SITE, "FAR", Status.DRAINING)
    board.forget()
    async with world.db.transaction() as tx:
        assert (await board.statuses(tx))["far-a"] is Status.DRAINING


@pytest.fixture
def over_http(world: World, tmp_path: Path) -> Service:
    return make_service(world, tmp_path / "service", systems=[routes])


async def asked(service: Service, who: Caller, method: str, path: str, body: bytes = b"") -> Answer:
    async with service.world.db.transaction() as tx:
        token = await identity.access_token_for(tx, service.keys, ISSUER, who)
    return await service.signed(method, path, token, body)


async def test_over_http(over_http: Service, people: People) -> None:
    world = over_http.world
    body = msgspec.json.encode({"kind": "site", "names": ["FAR", "LOCAL"], "status": "draining", "reason": "work"})
    refused = await asked(over_http, world.ada, "POST", "/api/resources/status", body)
    assert refused.status == 403
    answer = await asked(over_http, people.alan, "POST", "/api/resources/status", body)
    assert [each["name"] for each in answer.body["done"]] == ["FAR"]
    assert [each["name"] for each in answer.body["refused"]] == ["LOCAL"]
    rows = (await asked(over_http, world.bea, "GET", "/api/resources/status?kind=ce")).body
    assert {row["name"]: row["effective"] for row in rows} == {"far-b": "draining", "local-ce": "active"}
    history = (await asked(over_http, world.bea, "GET", "/api/resources/history")).body
    assert [(each["name"], each["reason"]) for each in history] == [("FAR", "work")]
    assert (await asked(over_http, world.bea, "GET", "/api/resources/status?name=far-a")).status == 404


async def test_limits_and_administrators_of_the_operations_data(world: World) -> None:
    text = WORLD.format(root=world.storage_root.parent)
    limits = "max_pilots: 4\n        max_waiting: 2\n        max_pilots_of_vos: {astro: 3}"
    good = text.replace("max_pilots: 4", limits).replace(
        "  LOCAL:\n", "  LOCAL:\n    max_pilots: 7\n    administrators: [ada]\n"
    )
    async with world.db.transaction() as tx:
        await configuration.apply(tx, good, author="tests")
        from spinor.resources import service as resources

        (ce,) = await resources.computing_elements(tx)
    assert (ce.max_waiting, ce.max_pilots_of_vos, ce.site_max_pilots) == (2, {"astro": 3}, 7)
    for bad in (
        good.replace("{astro: 3}", "{nobody: 3}"),
        good.replace("administrators: [ada]", "administrators: [eve]"),
    ):
        async with world.db.transaction() as tx:
            with pytest.raises(SpinorError):
                await configuration.apply(tx, bad, author="tests")
