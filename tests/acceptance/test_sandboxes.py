"""A real service whose server is killed while a sandbox is on its way, and a job that is looked into while it runs."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import Service, start_service

pytestmark = pytest.mark.acceptance


@pytest.fixture
def own_service() -> Iterator[Service]:
    """One that a test may ill-treat."""
    work = Path(tempfile.mkdtemp(prefix="spinor-sandboxes-"))
    work.chmod(0o711)
    service = start_service(work)
    try:
        yield service
    finally:
        service.run("down")
        shutil.rmtree(work, ignore_errors=True)
