import pytest

from tests.conftest import World

from .workbench import Workbench


@pytest.fixture
async def bench(world: World) -> Workbench:
    return Workbench(world)
