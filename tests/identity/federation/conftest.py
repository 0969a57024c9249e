"""A service over HTTPS for each test, beside the providers of the session."""

from __future__ import annotations

import itertools
import logging
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
    # As the service does it; the browser of these tests, which sees cookies, is in the same process.
    clients = [logging.getLogger(name) for name in ("httpx", "httpcore")]
    before = [logger.level for logger in clients]
    for logger in clients:
        logger.setLevel(logging.WARNING)
    async with running_spinor(world, authority, tmp_path / "service", monkeypatch) as it:
        yield it
    for logger, level in zip(clients, before, strict=True):
        logger.setLevel(level)


@pytest.fixture(scope="session")
def another_server(authority: Authority) -> Iterator[OIDCServer]:
    """A second community's login."""
    with oidc_server(authority) as it:
        yield it


@pytest.fixture
def sub() -> str:
    """A subject that nobody else has at the providers of the session."""
    return f"{next(_numbers):04d}@people.example.org"
