"""A service's identity routes, over two VOs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spinor.identity import development
from spinor.identity.routes import routes
from tests.identity.workbench import Service, make_service

if TYPE_CHECKING:
    from tests.conftest import World


@pytest.fixture
def service(world: World, tmp_path: Path) -> Service:
    return make_service(world, tmp_path / "service", systems=[routes])


@pytest.fixture
def secret(service: Service) -> str:
    """The development login's, which signs in as ada."""
    return development.read_secret(development.make_secret(service.settings.data_dir, "ada")).secret
