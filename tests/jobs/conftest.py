from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import World

from .asgi import Http, jobs_over_http
from .workbench import Workbench


@pytest.fixture
async def bench(world: World) -> Workbench:
    return Workbench(world)


@pytest.fixture
async def http(bench: Workbench, tmp_path: Path) -> AsyncIterator[Http]:
    async with jobs_over_http(bench.db, tmp_path) as http:
        yield http
