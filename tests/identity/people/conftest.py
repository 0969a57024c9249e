"""The two VOs with people who look after them: cleo of astro, dora of bio, and otto, who operates the service."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spinor.access import Caller
from spinor.configuration import service as configuration
from spinor.identity import service as identity
from spinor.identity.routes import routes
from tests.conftest import WORLD
from tests.identity.workbench import Service, make_service

if TYPE_CHECKING:
    from tests.conftest import World


@dataclass(frozen=True)
class Council:
    service: Service
    ada: Caller
    alan: Caller
    bea: Caller
    cleo: Caller  # VO administrator of astro.
    dora: Caller  # VO administrator of bio.
    otto: Caller  # Operator.

    async def token(self, caller: Caller) -> str:
        async with self.service.world.db.transaction() as tx:
            return await identity.access_token_for(tx, self.service.keys, self.service.settings.url, caller)


@pytest.fixture
async def council(world: World, tmp_path: Path) -> Council:
    service = make_service(world, tmp_path / "service", systems=[routes])
    document = WORLD.format(root=world.storage_root.parent)
    document = document.replace(
        "      astro_users:",
        "      astro_council: {properties: [vo_administrator], members: [cleo]}\n"
        "      astro_operators: {properties: [operator], members: [otto]}\n"
        "      astro_users:",
    ).replace(
        "      bio_users:", "      bio_council: {properties: [vo_administrator], members: [dora]}\n      bio_users:"
    )
    document = document.replace("users:\n  ada:", "users:\n  cleo: {}\n  dora: {}\n  otto: {}\n  ada:")
    async with world.db.transaction() as tx:
        await configuration.apply(tx, document, author="tests")
        return Council(
            service=service,
            ada=world.ada,
            alan=world.alan,
            bea=world.bea,
            cleo=await identity.caller_for(tx, "cleo", "astro", "astro_council"),
            dora=await identity.caller_for(tx, "dora", "bio", "bio_council"),
            otto=await identity.caller_for(tx, "otto", "astro", "astro_operators"),
        )
