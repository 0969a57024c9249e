"""Sites and elements: each VO sees its own, and an operator's options stay with the operator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spinor.access import Caller
from spinor.identity import service as identity
from spinor.resources import service
from spinor.resources.routes import routes
from tests.identity.workbench import ISSUER, Answer, Service, make_service

if TYPE_CHECKING:
    from tests.conftest import World


@pytest.fixture
def over_http(world: World, tmp_path: Path) -> Service:
    return make_service(world, tmp_path / "service", systems=[routes])


async def asked(service: Service, who: Caller, path: str) -> Answer:
    async with service.world.db.transaction() as tx:
        token = await identity.access_token_for(tx, service.keys, ISSUER, who)
    return await service.signed("GET", path, token)


async def test_each_vo_sees_its_own_storage(world: World) -> None:
    async with world.db.transaction() as tx:
        assert [se.name for se in await service.storage_elements(tx, world.ada)] == ["local-se", "second-se"]
        assert [se.name for se in await service.storage_elements(tx, world.bea)] == ["bio-se"]
        assert (await service.storage_element(tx, world.bea, "bio-se")).plugin == "file"


@pytest.mark.parametrize("name", ["bio-se", "nowhere", "", "local-se\n", "LOCAL-SE", "'; --", "é" * 4000])
async def test_the_storage_of_another_vo_is_as_unknown_as_any_other(world: World, name: str) -> None:
    async with world.db.transaction() as tx:
        with pytest.raises(service.UnknownStorageElement, match="local-se, second-se") as caught:
            await service.storage_element(tx, world.ada, name)
    assert caught.value.status == 404


async def test_the_factory_sees_all_computing_elements(world: World) -> None:
    async with world.db.transaction() as tx:
        (ce,) = await service.computing_elements(tx)
    assert ce.vos == ["astro", "bio"]
    assert ce.vo_ids == [world.ada.vo_id, world.bea.vo_id]
    assert ce.options["directory"].endswith("computing")


async def test_chores_see_all_storage(world: World) -> None:
    async with world.db.transaction() as tx:
        assert [se.name for se in await service.all_storage_elements(tx)] == ["bio-se", "local-se", "second-se"]


async def test_lists_over_http(over_http: Service) -> None:
    world = over_http.world
    assert (await asked(over_http, world.bea, "/api/sites")).body == [
        {"site_id": 1, "name": "LOCAL", "computing_elements": ["local-ce"], "storage_elements": ["bio-se"]}
    ]
    (ce,) = (await asked(over_http, world.bea, "/api/computing-elements")).body
    assert (ce["name"], ce["memory_bytes"], ce["wall_s"]) == ("local-ce", 4 * 10**9, 3600)
    storage = (await asked(over_http, world.ada, "/api/storage-elements")).body
    assert [se["name"] for se in storage] == ["local-se", "second-se"]
    assert not any("options" in element for element in (ce, *storage)), "options may hold what is not for users"


async def test_a_pilot_may_not_look(over_http: Service) -> None:
    token = identity.mint_pilot_token(over_http.keys, ISSUER, "astro", 1, 60)
    assert (await over_http.signed("GET", "/api/storage-elements", token)).status == 403
