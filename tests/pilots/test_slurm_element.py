"""A real Slurm cluster by its commands, here and through its login node, under the contract of all elements."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import ClassVar

import pytest

from spinor.pilots.plugin import ElementSettings
from spinor.pilots.plugins.slurm import SlurmComputing
from spinor.pilots.plugins.slurmrestd import SlurmRestComputing
from spinor.pilots.plugins.ssh_machine import close_connections
from spinor.testing.computing_contract import ComputingContract, Maker
from tests.servers.slurm import USER, SlurmCluster

URL = "https://spinor.example"
pytestmark = [pytest.mark.peer("slurm"), pytest.mark.acceptance]


@pytest.fixture
async def secrets(slurm_cluster: SlurmCluster, tmp_path: Path) -> AsyncIterator[Path]:
    """Where an operator has put the key and the known hosts."""
    place = tmp_path / "secrets"
    slurm_cluster.ssh.files_for_clients(place, slurm_cluster.login)
    yield place
    await close_connections()


def element(options: dict[str, object], secrets: Path = Path("/nonexistent"), name: str = "cluster") -> SlurmComputing:
    given = {"grace_s": 1, **options}
    return SlurmComputing(
        ElementSettings(
            name=name, site="CLUSTER", options=given, directory=Path("/nonexistent"), url=URL, secrets=secrets
        )
    )


def by_login(cluster: SlurmCluster, secrets: Path, **more: object) -> SlurmComputing:
    ssh = {"user": USER, "key_file": "id"}
    host = f"localhost:{cluster.login.port}"
    return element({"host": host, "ssh": ssh, "directory": str(cluster.home / "pilots"), **more}, secrets)


@pytest.fixture
def rest_secrets(slurm_cluster: SlurmCluster, tmp_path: Path) -> Path:
    """Where an operator has put the token."""
    place = tmp_path / "rest-secrets"
    place.mkdir()
    (place / "token").touch(mode=0o600)
    (place / "token").write_text(slurm_cluster.token())
    return place


def by_rest(cluster: SlurmCluster, secrets: Path, **more: object) -> SlurmRestComputing:
    directory = cluster.shared("rest-pilots")
    options = {"url": cluster.rest, "user": USER, "token_file": "token", "directory": str(directory), "grace_s": 1}
    return SlurmRestComputing(
        ElementSettings(
            name="rest", site="CLUSTER", options={**options, **more}, directory=Path("/nonexistent"), url=URL,
            secrets=secrets,
        )
    )  # fmt: skip


class TestHere(ComputingContract):
    """The worker is on a machine of the cluster."""

    patience_s = 60.0
    when_waiting: ClassVar = {"partition": "closed"}
    when_down: ClassVar = {"bin": "/nonexistent", "slurm_conf": "/nonexistent/slurm.conf"}

    @pytest.fixture
    def make(self, slurm_cluster: SlurmCluster) -> Maker:
        own = {"directory": str(slurm_cluster.place / "root-pilots"), "slurm_conf": str(slurm_cluster.settings)}
        return lambda **options: element({**own, **options})


class TestByLogin(ComputingContract):
    """The worker is elsewhere, and reaches the login node through SSH."""

    patience_s = 60.0
    when_waiting: ClassVar = {"partition": "closed"}
    when_down: ClassVar = {"host": "localhost:9"}

    @pytest.fixture
    def make(self, slurm_cluster: SlurmCluster, secrets: Path) -> Maker:
        return lambda **options: by_login(slurm_cluster, secrets, **options)


class TestREST(ComputingContract):
    """The worker only reaches the REST service, and shares a file system with the cluster."""

    patience_s = 60.0
    when_waiting: ClassVar = {"partition": "closed"}
    when_down: ClassVar = {"url": "http://127.0.0.1:9"}

    @pytest.fixture
    def make(self, slurm_cluster: SlurmCluster, rest_secrets: Path) -> Maker:
        return lambda **options: by_rest(slurm_cluster, rest_secrets, **options)
