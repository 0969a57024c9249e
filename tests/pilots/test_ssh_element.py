"""Hosts reached through SSH, under the contract that all elements are held to, on real servers."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from spinor.pilots.plugin import ElementSettings
from spinor.pilots.plugins.ssh import SSHComputing
from spinor.pilots.plugins.ssh_machine import close_connections
from spinor.testing.computing_contract import ComputingContract
from tests.servers.sshd import USER, SSHServer, SSHServers

pytestmark = [pytest.mark.peer("sshd"), pytest.mark.acceptance]


@pytest.fixture(scope="module")
def hosts(ssh_servers: SSHServers) -> Iterator[list[SSHServer]]:
    with ssh_servers.serving("first") as first, ssh_servers.serving("second") as second:
        yield [first, second]


@pytest.fixture
async def secrets(ssh_servers: SSHServers, hosts: list[SSHServer], tmp_path: Path) -> AsyncIterator[Path]:
    """Where an operator has put the key and the known hosts."""
    place = tmp_path / "secrets"
    ssh_servers.files_for_clients(place, *hosts)
    yield place
    await close_connections()


def element(secrets: Path, hosts: dict[str, int], **more: object) -> SSHComputing:
    ssh = {"user": USER, "key_file": "id", **(more.pop("ssh", {}))}  # type: ignore[dict-item]
    options = {"hosts": hosts, "ssh": ssh, "grace_s": 1, "directory": secrets.parent.name, **more}
    return SSHComputing(
        ElementSettings(name="farm", site="FARM", options=options, directory=Path("/nonexistent"), secrets=secrets)
    )


def named(server: SSHServer) -> str:
    return f"localhost:{server.port}"


class TestSSH(ComputingContract):
    @pytest.fixture
    def plugin(self, secrets: Path, hosts: list[SSHServer]) -> SSHComputing:
        return element(secrets, {named(host): 4 for host in hosts})

    @pytest.fixture
    def restarted(self, secrets: Path, hosts: list[SSHServer]) -> SSHComputing:
        return element(secrets, {named(host): 4 for host in hosts})
