"""Another machine, reached through SSH (asyncssh): straight, or through one that stands in front of it.

A connection is kept between rounds and closed when nobody has used it for a while. Host keys are compared with a file
of known hosts, always; there is no trust on first use. Nothing of the worker's own ~/.ssh is read.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Annotated, Any
from weakref import WeakKeyDictionary

import asyncssh
import msgspec
from msgspec import Meta

from spinor.pilots.plugin import ElementRefused, ElementSettings, ElementUnavailable
from spinor.pilots.plugins.machines import TIMEOUT_S, Machine, Ran, ThisMachine, quoted
from spinor.pilots.plugins.options import check_name, secret_file, wrong

CONNECT_S = 20.0
KEEPALIVE_S, KEEPALIVES = 15, 3
IDLE_S = 300.0  # A connection that nobody uses is closed.
COMMANDS_AT_ONCE = 8  # Servers admit 10 sessions on a connection by default.

# It would log each command at level INFO. What goes wrong is told by exceptions.
logging.getLogger("asyncssh").setLevel(logging.WARNING)

HostName = Annotated[str, Meta(pattern=r"^([A-Za-z0-9_.-]{1,64}@)?[A-Za-z0-9][A-Za-z0-9.-]{0,253}(:[0-9]{1,5})?$")]


class NotReached(ElementUnavailable):
    """The machine cannot be reached, so it has not heard of what was asked of it."""

    code = "element-not-reached"


class Access(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The option `ssh`: how hosts are reached."""

    user: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] = ""
    key_file: str = ""  # In secrets/computing.
    agent: bool = False  # Use the agent of SSH_AUTH_SOCK.
    known_hosts_file: str = "known_hosts"  # In secrets/computing.
    jump: HostName | None = None  # The host to pass through: [user@]host[:port].
    connect_s: Annotated[float, Meta(gt=0, le=60)] = CONNECT_S


class Address(msgspec.Struct, frozen=True):
    """Who, where."""

    user: str
    host: str
    port: int

    def __str__(self) -> str:
        return self.host if self.port == 22 else f"{self.host}:{self.port}"


def address(text: str, user: str) -> Address:
    """Of `[user@]host[:port]`."""
    before, at, rest = text.rpartition("@")
    host, _, port = rest.partition(":")
    return Address(before if at else user, host, int(port or 22))


class Way(msgspec.Struct, frozen=True):
    """All that a connection depends on; when a file of it changes, a new one is made."""

    to: Address
    through: Address | None
    key_file: str
    known_hosts_file: str
    agent: str
    connect_s: float
    files: tuple[tuple[int, int], ...]


class _Connection:
    """One that is open, or will be when it is needed."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.room = asyncio.Semaphore(COMMANDS_AT_ONCE)
        self.link: asyncssh.SSHClientConnection | None = None
        self.gate: asyncssh.SSHClientConnection | None = None
        self.users = 0
        self.timer: asyncio.TimerHandle | None = None

    @property
    def is_open(self) -> bool:
        return self.link is not None and not self.link.is_closed()

    def close(self) -> None:
        for each in (self.link, self.gate):
            if each is not None:
                each.close()
        if self.timer is not None:
            self.timer.cancel()


# A plugin object lives for one round, and a connection for many. Each event loop has its own.
_kept: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Way, _Connection]] = WeakKeyDictionary()


class SSHMachine:
    """A machine behind SSH, as `Machine` has it."""

    def __init__(self, element: ElementSettings, access: Access, host: str) -> None:
        self._element, self._access = element, access
        if not access.key_file and not access.agent:
            raise wrong(element, "ssh needs key_file, the name of a key in secrets/computing, or agent: true")
        check_name(element, "ssh.known_hosts_file", access.known_hosts_file)
        if access.key_file:
            check_name(element, "ssh.key_file", access.key_file)
        self._to = address(host, access.user)
        if not self._to.user:
            raise wrong(element, f"ssh.user says under which account; or write {host} as user@host")
        self.name = str(self._to)

    async def run(
        self,
        words: Sequence[str],
        stdin: bytes | Path = b"",
        *,
        stdout: Path | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Ran:
        given = {"stdin": stdin} if isinstance(stdin, Path) else {}
        given |= {"stdout": stdout} if stdout else {}
        async with self._linked() as link:
            process = None
            try:
                async with asyncio.timeout(timeout_s):
                    process = await link.create_process(quoted(words), encoding=None, **given)
                    out, err = await process.communicate(None if isinstance(stdin, Path) else stdin)
            except TimeoutError:
                raise ElementUnavailable(f"{words[0]} did not end within {timeout_s:.0f} s on {self.name}.") from None
            except (OSError, asyncssh.Error) as error:
                raise ElementUnavailable(f"The connection to {self.name} broke: {_reason(error)}") from error
            finally:
                if process is not None:
                    process.close()
        code = process.returncode
        if code is None:
            raise ElementUnavailable(f"The connection to {self.name} broke while {words[0]} ran.")
        return Ran(code, bytes(out or b""), bytes(err or b"").decode("utf-8", "replace"))

    @contextlib.asynccontextmanager
    async def _linked(self) -> AsyncIterator[asyncssh.SSHClientConnection]:
        way = await asyncio.to_thread(self._way)
        loop = asyncio.get_running_loop()
        connection = _kept.setdefault(loop, {}).setdefault(way, _Connection())
        connection.users += 1
        if connection.timer is not None:
            connection.timer.cancel()
        try:
            async with connection.lock:
                if not connection.is_open:
                    connection.close()
                    await self._connect(connection, way)
            async with connection.room:
                assert connection.link is not None
                yield connection.link
        finally:
            connection.users -= 1
            if connection.users == 0:
                connection.timer = loop.call_later(IDLE_S, _forget, loop, way)

    def _way(self) -> Way:
        access, element = self._access, self._element
        known = secret_file(element, "ssh.known_hosts_file", access.known_hosts_file, private=False)
        key = secret_file(element, "ssh.key_file", access.key_file) if access.key_file else None
        agent = os.environ.get("SSH_AUTH_SOCK", "") if access.agent else ""
        if access.agent and not agent:
            raise wrong(element, "ssh.agent is true, but SSH_AUTH_SOCK is not set where the worker runs")
        states = [path.stat() for path in (known, key) if path is not None]
        return Way(
            to=self._to,
            through=address(access.jump, access.user) if access.jump else None,
            key_file=str(key or ""),
            known_hosts_file=str(known),
            agent=agent,
            connect_s=access.connect_s,
            files=tuple((state.st_ino, state.st_mtime_ns) for state in states),
        )

    async def _connect(self, connection: _Connection, way: Way) -> None:
        try:
            async with asyncio.timeout(way.connect_s):
                connection.gate = await _link(way, way.through, None) if way.through else None
                connection.link = await _link(way, way.to, connection.gate)
        except TimeoutError:
            raise NotReached(f"{self.name} does not answer within {way.connect_s:.0f} s.") from None
        except asyncssh.HostKeyNotVerifiable as error:
            known = Path(way.known_hosts_file).name
            raise ElementRefused(
                f"The host key of {self.name}{_by_way_of(way)} is not among those in {known}: {error.reason}. "
                f"Ask the site for the key, and put it there."
            ) from error
        except asyncssh.PermissionDenied as error:
            raise ElementRefused(
                f"{self.name}{_by_way_of(way)} does not let {way.to.user} in: {error.reason}."
            ) from error
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
            raise ElementRefused(f"The key {Path(way.key_file).name} cannot be used: {error}.") from error
        except (OSError, asyncssh.Error) as error:
            raise NotReached(f"{self.name}{_by_way_of(way)} cannot be reached: {_reason(error)}") from error


async def _link(way: Way, to: Address, gate: asyncssh.SSHClientConnection | None) -> asyncssh.SSHClientConnection:
    options: dict[str, Any] = {
        "username": to.user,
        "known_hosts": way.known_hosts_file,
        "client_keys": [way.key_file] if way.key_file else [],
        "agent_path": way.agent or None,
        "config": None,
        "keepalive_interval": KEEPALIVE_S,
        "keepalive_count_max": KEEPALIVES,
        "preferred_auth": "publickey",
    }
    return await asyncssh.connect(to.host, to.port, tunnel=gate or (), **options)


def kept_connections() -> list[asyncssh.SSHClientConnection]:
    """Those that this event loop has open, each as asyncssh has it."""
    kept = _kept.get(asyncio.get_running_loop(), {}).values()
    return [each.link for each in kept if each.link is not None and each.is_open]


async def close_connections() -> None:
    """Close what this event loop has open: before it ends, or to begin anew."""
    for connection in _kept.pop(asyncio.get_running_loop(), {}).values():
        connection.close()
        for each in (connection.link, connection.gate):
            if each is not None:
                await each.wait_closed()


def machine_for(element: ElementSettings, access: Access | None, host: str, variables: dict[str, str]) -> Machine:
    """The one that the options name: another one when they name a host, else this one."""
    return SSHMachine(element, access or Access(), host) if host else ThisMachine(variables)


def _forget(loop: asyncio.AbstractEventLoop, way: Way) -> None:
    connection = _kept.get(loop, {}).pop(way, None)
    if connection is not None:
        connection.close()


def _by_way_of(way: Way) -> str:
    return f" (through {way.through})" if way.through else ""


def _reason(error: Exception) -> str:
    text = error.reason if isinstance(error, asyncssh.Error) else (getattr(error, "strerror", None) or str(error))
    return f"{text or type(error).__name__}"
