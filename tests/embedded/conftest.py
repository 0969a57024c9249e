import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from spinor.embedded import up as verbs
from spinor.embedded.layout import Layout

STAND_IN = (sys.executable, str(Path(__file__).with_name("standin.py")))


@pytest.fixture(autouse=True)
def no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SPINOR_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every account may pass through; pytest's own is closed to PostgreSQL's account."""
    path = Path(tempfile.mkdtemp(prefix="spinor-test-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def place(open_directory: Path) -> Iterator[Layout]:
    """A data directory whose service is stopped and whose data is removed after the test."""
    found = Layout(open_directory / "the däta")
    yield found
    verbs.erase(found.root, program=STAND_IN)


@pytest.fixture
def port() -> int:
    return random.randrange(20000, 30000)
