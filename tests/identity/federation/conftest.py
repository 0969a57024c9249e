"""A service over HTTPS for each test, beside the providers of the session."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.identity.federation.workbench import Spinor, running_spinor
from tests.servers.authority import Authority
from tests.servers.oidc import OIDCServer, oidc_server

if TYPE_CHECKING:
    from tests.conftest import World

_numbers = itertools.count(1)


@pytest.fixture
async def spinor(
    world: World, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Spinor]:
    async with running_spinor(world, authority, tmp_path / "service", monkeypatch) as it:
        yield it


@pytest.fixture(scope="session")
def another_server(authority: Authority) -> Iterator[OIDCServer]:
    """A second community's login."""
    with oidc_server(authority) as it:
        yield it


@pytest.fixture
def sub() -> str:
    """A subject that nobody else has at the providers of the session."""
    return f"{next(_numbers):04d}@people.example.org"
