"""Hosts reached through SSH, under the contract that all elements are held to, on real servers."""

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import ClassVar

import asyncssh
import msgspec
import pytest

from spinor.pilots.models import ElementState
from spinor.pilots.plugin import BadOptions, ElementRefused, ElementSettings, ElementUnavailable, PilotLaunch
from spinor.pilots.plugins.ssh import SSHComputing
from spinor.pilots.plugins.ssh_machine import close_connections, kept_connections
from spinor.testing.computing_contract import ComputingContract, Launcher, Maker, launcher
from tests.servers.sshd import USER, SSHServer, SSHServers, ssh_agent

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


@pytest.fixture
def launch(tmp_path: Path) -> Launcher:
    return launcher(tmp_path)


def element(secrets: Path, **more: object) -> SSHComputing:
    ssh = {"user": USER, "key_file": "id", **(more.pop("ssh", {}))}  # type: ignore[dict-item]
    options = {"ssh": ssh, "grace_s": 1, "directory": secrets.parent.name or "pilots", **more}
    return SSHComputing(
        ElementSettings(name="farm", site="FARM", options=options, directory=Path("/nonexistent"), secrets=secrets)
    )


def named(server: SSHServer) -> str:
    return f"localhost:{server.port}"


class TestSSH(ComputingContract):
    when_down: ClassVar = {"ssh": {"jump": "localhost:9"}}

    @pytest.fixture
    def make(self, secrets: Path, hosts: list[SSHServer]) -> Maker:
        slots = {named(host): 4 for host in hosts}
        return lambda **options: element(secrets, **{"hosts": slots, **options})


async def test_through_a_host_in_front_of_them(
    ssh_servers: SSHServers, hosts: list[SSHServer], secrets: Path, launch: Launcher
) -> None:
    with ssh_servers.serving("gate", gate_only=True) as gate:
        ssh_servers.files_for_clients(secrets, *hosts, gate)
        plugin = element(secrets, hosts={named(hosts[0]): 1}, ssh={"jump": named(gate)})
        await runs_one(plugin, launch)
        (secrets / "known_hosts").write_text(hosts[0].known)
        with pytest.raises(ElementRefused, match=rf"through {named(gate)}.*is not among those in known_hosts"):
            await plugin.submit([launch()])
    with pytest.raises(ElementUnavailable):
        ssh_servers.files_for_clients(secrets, *hosts, gate)
        await plugin.submit([launch()])


async def test_a_host_of_another_key_gets_nothing(hosts: list[SSHServer], secrets: Path, launch: Launcher) -> None:
    """Neither one that is not known, nor one that has become another."""
    plugin = element(secrets, hosts={named(hosts[0]): 1})
    for known in ("", f"[localhost]:{hosts[0].port} {hosts[1].host_key}\n"):
        (secrets / "known_hosts").write_text(known)
        with pytest.raises(ElementRefused, match="known_hosts"):
            await plugin.submit([launch()])
    (secrets / "known_hosts").write_text(hosts[0].known)
    await runs_one(plugin, launch)


async def test_one_host_of_another_key_keeps_no_parcel_from_the_others(
    hosts: list[SSHServer], secrets: Path, launch: Launcher
) -> None:
    plugin = element(secrets, hosts={named(host): 4 for host in hosts})
    (secrets / "known_hosts").write_text(hosts[1].known)
    one = next(each for each in iter(launch, None) if plugin._row(each.pilot_id)[0] == named(hosts[0]))
    (submitted,) = await plugin.submit([msgspec.structs.replace(one, leaves="left.tar")])
    assert str(submitted.external_id).startswith(named(hosts[1])), submitted.error


async def test_keys_and_known_hosts_must_be_kept_well(hosts: list[SSHServer], secrets: Path, launch: Launcher) -> None:
    plugin = element(secrets, hosts={named(hosts[0]): 1})
    (secrets / "id").chmod(0o640)
    with pytest.raises(BadOptions, match=r"ssh\.key_file: others may read .*chmod 600"):
        await plugin.submit([launch()])
    (secrets / "id").chmod(0o600)
    (secrets / "known_hosts").chmod(0o666)
    with pytest.raises(BadOptions, match=r"known_hosts.*chmod go-w"):
        await plugin.submit([launch()])
    (secrets / "known_hosts").unlink()
    with pytest.raises(BadOptions, match=r"ssh\.known_hosts_file: .*No such file"):
        await plugin.submit([launch()])
    with pytest.raises(BadOptions, match="plain name of a file"):
        element(secrets, hosts={named(hosts[0]): 1}, ssh={"key_file": "../id"})


async def test_a_key_that_the_host_does_not_know_is_told(
    hosts: list[SSHServer], secrets: Path, launch: Launcher
) -> None:
    (secrets / "id").write_text(asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode())
    with pytest.raises(ElementRefused, match=f"does not let {USER} in"):
        await element(secrets, hosts={named(hosts[0]): 1}).submit([launch()])


async def test_the_key_of_an_agent(
    ssh_servers: SSHServers,
    hosts: list[SSHServer],
    secrets: Path,
    launch: Launcher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with ssh_agent(ssh_servers.key) as socket:
        plugin = element(secrets, hosts={named(hosts[0]): 1}, ssh={"key_file": "", "agent": True})
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        with pytest.raises(BadOptions, match="SSH_AUTH_SOCK"):
            await plugin.submit([launch()])
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        await runs_one(plugin, launch)


async def test_slots_are_counted_and_a_refusal_stands(hosts: list[SSHServer], secrets: Path, launch: Launcher) -> None:
    plugin = element(secrets, hosts={named(host): 1 for host in hosts})
    running = [await submitted(plugin, launch("long")) for _ in hosts]
    assert {each.rpartition("/")[0] for each in running} == {named(host) for host in hosts}
    late = launch()
    (refused,) = await plugin.submit([late])
    assert (refused.external_id, refused.error) == (None, "no host has a free slot")
    await stopped(plugin, running)
    (again,) = await plugin.submit([late])
    assert again.external_id is None, "another worker may have been told so"
    await runs_one(plugin, launch)


async def test_a_host_that_is_down_hides_no_other(
    ssh_servers: SSHServers, hosts: list[SSHServer], secrets: Path, launch: Launcher
) -> None:
    with ssh_servers.serving("mortal") as mortal:
        ssh_servers.files_for_clients(secrets, mortal, hosts[0])
        plugin = element(secrets, hosts={named(mortal): 1, named(hosts[0]): 4})
        ones = [launch("long") for _ in range(5)]
        there = {each.pilot_id: each.external_id for each in await plugin.submit(ones)}
        lost = next(each for each in there.values() if each and each.startswith(named(mortal)))
        others = [each for each in there.values() if each and each != lost]
    assert len(others) == 4
    states = await plugin.status([lost, *others])
    assert states == dict.fromkeys(others, ElementState.RUNNING), "of the lost host nothing is said"
    await plugin.cancel([lost, *others])
    await stopped(plugin, others)
    for _ in range(3):  # At least one of them would be the lost host's turn.
        await runs_one(plugin, launch)
    assert set((await plugin.find([each.pilot_id for each in ones])).values()) == set(others)


async def test_a_connection_is_kept_and_made_anew(hosts: list[SSHServer], secrets: Path, launch: Launcher) -> None:
    plugin = element(secrets, hosts={named(hosts[0]): 2})
    await plugin.find([1])
    (connection,) = kept_connections()
    await element(secrets, hosts={named(hosts[0]): 2}).find([1])
    assert kept_connections() == [connection]
    connection.abort()
    await runs_one(plugin, launch)
    assert kept_connections() != [connection]


async def test_a_host_without_python_is_told(hosts: list[SSHServer], secrets: Path, launch: Launcher) -> None:
    plugin = element(secrets, hosts={named(hosts[0]): 1}, python="/no/python3")
    with pytest.raises(ElementRefused, match="/no/python3 cannot be run"):
        await plugin.submit([launch()])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hosts": {}}, "hosts"),
        ({"hosts": {"-oProxyCommand=x": 1}}, "hosts"),
        ({"hosts": {"a": 0}}, "hosts"),
        ({"hosts": {"a": 1, "b@a": 1}}, "a twice"),
        ({"hosts": {"a": 1}, "ssh": {"key_file": ""}}, "key_file"),
        ({"hosts": {"a": 1}, "ssh": {"user": ""}}, "user"),
        ({"hosts": {"a": 1}, "ssh": {"passwd": "x"}}, "passwd"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(BadOptions, match=message):
        element(Path("/nonexistent"), **options)


async def submitted(plugin: SSHComputing, one: PilotLaunch) -> str:
    (answer,) = await plugin.submit([one])
    assert answer.external_id, answer.error
    return answer.external_id


async def stopped(plugin: SSHComputing, external_ids: list[str]) -> None:
    deadline = time.monotonic() + 30
    while ElementState.RUNNING in (await plugin.status(external_ids)).values():
        assert time.monotonic() < deadline
        await plugin.cancel(external_ids)


async def runs_one(plugin: SSHComputing, launch: Launcher) -> None:
    one = launch()
    external_id = await submitted(plugin, one)
    deadline = time.monotonic() + 30
    while (await plugin.status([external_id]))[external_id] is not ElementState.DONE:
        assert time.monotonic() < deadline
    assert f"out {one.pilot_id}" in (await plugin.output([external_id]))[external_id]
