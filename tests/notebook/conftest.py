"""A service of real processes, and IPython in this process."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from tests.acceptance.conftest import Service, start_service
from tests.notebook.community import HUB_CLIENT, Lent, join
from tests.servers.oidc import Client, OIDCServer


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """A running service, signed in."""
    work = Path(tempfile.mkdtemp(prefix="spinor-notebook-"))
    work.chmod(0o711)
    made = start_service(work)
    try:
        yield made
    finally:
        made.run("down")
        shutil.rmtree(work, ignore_errors=True)


@pytest.fixture(scope="session")
def community(service: Service, second_oidc_server: OIDCServer) -> tuple[OIDCServer, Client]:
    join(service, "jwt", second_oidc_server)
    return second_oidc_server, second_oidc_server.add_client(HUB_CLIENT)


@pytest.fixture
def lent(community: tuple[OIDCServer, Client], tmp_path: Path) -> Lent:
    return Lent(*community, tmp_path / "mount")


class Notebook:
    """Runs cells, and remembers what they displayed."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell

    def run(self, cell: str) -> Any:
        """The value of a cell; its error is raised."""
        done = self.shell.run_cell(cell, store_history=True)  # type: ignore[no-untyped-call]
        done.raise_error()
        return done.result

    def shown(self, value: Any) -> dict[str, str]:
        """What a notebook would show of a value, by MIME type."""
        assert self.shell.display_formatter is not None
        data: dict[str, str] = self.shell.display_formatter.format(value)[0]  # type: ignore[no-untyped-call]
        return data


@pytest.fixture
def notebook(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    """IPython whose kernel belongs to the person who started the service."""
    for name in [name for name in os.environ if name.startswith(("SPINOR_", "BEARER_", "JUPYTERHUB_"))]:
        monkeypatch.delenv(name)
    for name, value in service.environ.items():
        if name.startswith(("SPINOR_", "BEARER_")):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.chdir(tmp_path)
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(config=config)
    made = Notebook(shell)
    made.run("%load_ext spinor")
    try:
        yield made
    finally:
        made.run("%unload_ext spinor")
        InteractiveShell.clear_instance()
