from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from spinor.jobs.routes import routes
from tests.asgi import Http, over_http
from tests.conftest import World

from .workbench import Workbench


@pytest.fixture
async def bench(world: World) -> Workbench:
    return Workbench(world)


@pytest.fixture
async def http(bench: Workbench, tmp_path: Path) -> AsyncIterator[Http]:
    async with over_http(bench.db, tmp_path, routes) as http:
        yield http
