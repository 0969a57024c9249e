"""Real SSH servers on loopback: hosts to run pilots on, and the one in front of them that has to be passed through."""

import contextlib
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.servers.accounts import Accounts
from tests.servers.process import environ, found, free_port, listens, run, running, workplace

_SETTINGS = """Port {port}
ListenAddress 127.0.0.1
HostKey {place}/{name}.key
PidFile none
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
AuthorizedKeysFile {place}/authorized/%u
StrictModes no
PrintMotd no
MaxStartups 100
AllowUsers {users}
SetEnv {variables}
{more}
"""
_GATE_ONLY = """AllowTcpForwarding local
ForceCommand /bin/false
"""
USER = "ada"


class SSHServer(NamedTuple):
    name: str
    port: int
    host_key: str  # As it stands in a file of known hosts.

    @property
    def known(self) -> str:
        return f"[localhost]:{self.port} {self.host_key}\n"


class SSHServers:
    """Any number of servers with the same accounts and the same client key."""

    def __init__(self, place: Path, accounts: Accounts, variables: Mapping[str, str]) -> None:
        self.accounts = accounts
        self.key = place / "client.key"
        self._place = place
        self._variables = " ".join(f"{name}={value}" for name, value in {"SPINOR_TEST": "1", **variables}.items())
        # sshd's child before the login lives in this directory, and Debian makes it when the service starts.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        _make_key(self.key)
        authorized = place / "authorized"
        authorized.mkdir()
        for name in accounts.of:
            (authorized / name).write_text(self.key.with_suffix(".key.pub").read_text())

    @contextlib.contextmanager
    def serving(self, name: str, *, users: Sequence[str] = (USER,), gate_only: bool = False) -> Iterator[SSHServer]:
        """A server of its own host key. One that is `gate_only` lets people pass through, and do nothing else."""
        port = free_port()
        _make_key(self._place / f"{name}.key")
        settings = self._place / f"{name}.conf"
        settings.write_text(
            _SETTINGS.format(
                port=port, place=self._place, name=name, users=" ".join(users), variables=self._variables,
                more=_GATE_ONLY if gate_only else "AllowTcpForwarding no",
            )
        )  # fmt: skip
        argv = self.accounts.among([found("sshd"), "-D", "-e", "-f", str(settings)])
        with running(argv, lambda: listens(port), self._place / f"{name}.log"):
            words = (self._place / f"{name}.key.pub").read_text().split()[:2]
            yield SSHServer(name, port, " ".join(words))

    def files_for_clients(self, place: Path, *servers: SSHServer) -> None:
        """What an operator puts below the service's secrets: `id` and `known_hosts`."""
        place.mkdir(parents=True, exist_ok=True)
        (place / "id").touch(mode=0o600)
        (place / "id").write_bytes(self.key.read_bytes())
        (place / "known_hosts").write_text("".join(server.known for server in servers))


@contextlib.contextmanager
def ssh_servers(*names: str) -> Iterator[SSHServers]:
    """For accounts of these names, `ada` by default; servers are started one by one. Only root can start one."""
    with workplace("sshd") as place:
        yield SSHServers(place, Accounts(place, *(names or (USER,))), {})


def _make_key(file: Path) -> None:
    run([found("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", file.stem, "-f", str(file)], environ(file.parent))


@contextlib.contextmanager
def ssh_agent(key: Path) -> Iterator[Path]:
    """An agent that holds this key; its socket."""
    with workplace("agent") as place:
        socket = place / "socket"
        with running([found("ssh-agent"), "-D", "-a", str(socket)], socket.exists, place / "agent.log"):
            env = environ(place) | {"SSH_AUTH_SOCK": str(socket)}
            subprocess.run([found("ssh-add"), "-q", str(key)], env=env, check=True, timeout=60)
            yield socket
