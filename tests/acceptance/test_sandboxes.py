"""A real service whose server is killed while a sandbox is on its way, and a job that is looked into while it runs."""

import hashlib
import io
import json
import os
import random
import shutil
import signal
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from spinor import credentials
from spinor.client import Client
from spinor.jobs.sandboxes.client import download, upload
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
