"""A service of real processes, and a connection to it in this process."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import spinor
from spinor.api import Grid
from tests.acceptance.conftest import Service, start_service


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """A running service, signed in."""
    work = Path(tempfile.mkdtemp(prefix="spinor-api-"))
    work.chmod(0o711)
    made = start_service(work)
    try:
        yield made
    finally:
        made.run("down")
        shutil.rmtree(work, ignore_errors=True)


@pytest.fixture
def grid(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Grid:
    for name in [name for name in os.environ if name.startswith(("SPINOR_", "BEARER_"))]:
        monkeypatch.delenv(name)
    for name, value in service.environ.items():
        if name.startswith(("SPINOR_", "BEARER_")):
            monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return spinor.connect()
