"""A server of identity with registered clients."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.identity.oauth.server import Server, make_server

if TYPE_CHECKING:
    from tests.conftest import World


@pytest.fixture
async def server(world: World, tmp_path: Path) -> Server:
    return await make_server(world, tmp_path / "service")
