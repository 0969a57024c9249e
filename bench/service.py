"""A service of one's own for a measurement: started with `spinor up` in a temporary directory, erased afterwards."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

import msgspec
import psycopg

from bench import processor
from bench.wire import Wire
from spinor.app import CONSTRAINT_ERRORS
from spinor.client import Client
from spinor.configuration import service as configuration
from spinor.credentials import Server
from spinor.db import Database
from spinor.embedded import up as embedded
from spinor.embedded.layout import Layout
from spinor.embedded.state import State, read_state
from spinor.identity import service as identity
from spinor.identity.keys import KeyRing

SPINOR = (sys.executable, "-m", "spinor")


class CommandFailed(Exception):
    """A command of Spinor did not end well."""


class Service:
    """A running service, and the person who started it."""

    def __init__(self, work: Path, environ: dict[str, str]) -> None:
        self.work = work
        self.environ = environ
        self.layout = Layout(work / "data")

    @property
    def state(self) -> State:
        state = read_state(self.layout)
        assert state is not None
        return state

    @property
    def url(self) -> str:
        return self.state.url

    @property
    def ca_file(self) -> Path:
        return self.layout.ca

    @property
    def database_url(self) -> str:
        return self.state.database_url

    @property
    def storage_root(self) -> Path:
        return self.layout.root / "storage"

    def spinor(self, *words: str, timeout_s: float = 600) -> str:
        """Run a command to its end; what it wrote on standard output."""
        done = subprocess.run(
            [*SPINOR, *words], env=self.environ, cwd=self.work, capture_output=True, text=True, timeout=timeout_s,
            check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise CommandFailed(f"spinor {' '.join(words)} exited {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def pid_of(self, part: str) -> int:
        """The process of `server` or `worker`."""
        record = self.state.part(part)
        assert record is not None
        assert record.process is not None
        return record.process.pid

    @property
    def postmaster(self) -> int:
        """The parent of all processes of the database."""
        for part in embedded.status(self.layout.root):
            if part.name == "postgres" and part.pid is not None:
                return part.pid
        raise CommandFailed("the database of this service does not run")

    def used_s(self) -> tuple[float, float]:
        """Processor time so far: of the server, and of PostgreSQL with its ended sessions."""
        return processor.used_s([self.pid_of("server")]), processor.family_used_s(self.postmaster)

    def connect(self) -> "psycopg.Connection[tuple[object, ...]]":
        return psycopg.connect(self.database_url, autocommit=True)

    def keys(self) -> KeyRing:
        return KeyRing.load(self.layout.root / "keys")

    def token(self, vo: str = "demo", group: str = "demo_users", user: str | None = None) -> str:
        """An access token for a role; 20 minutes."""

        async def minted() -> str:
            async with Database.open(self.database_url, size=1) as db, db.transaction() as tx:
                caller = await identity.caller_for(tx, user or self.user(), vo, group)
                return await identity.access_token_for(tx, self.keys(), self.url, caller)

        return asyncio.run(minted())

    def user(self) -> str:
        """The name of whoever started the service."""
        with self.connect() as conn:
            row = conn.execute("SELECT name FROM identity.user_account ORDER BY user_id LIMIT 1").fetchone()
        assert row is not None
        return str(row[0])

    def apply(self, document: str) -> None:
        """Put operations data in force."""

        async def applied() -> None:
            async with Database.open(self.database_url, size=1, errors=CONSTRAINT_ERRORS) as db, db.transaction() as tx:
                await configuration.apply(tx, document, author="bench")

        asyncio.run(applied())

    def client(self, token: str) -> Client:
        """The client of the product, as one of its users."""
        return Client(self.url, Server(ca_file=str(self.ca_file)), token)

    def wire(self, token: str) -> Wire:
        return Wire(self.url, self.ca_file, token)


def operations(service: Service, *, vos: Sequence[str] = ("demo",), max_pilots: int = 2, cores: int = 2) -> str:
    """Operations data of a service like the first ones, for several VOs with the same user (JSON is YAML)."""
    user = service.user()
    groups = {
        "users": ["normal_user"],
        "admins": [
            "job_administrator",
            "file_catalog_management",
            "pilot_administrator",
            "configuration_administrator",
        ],
    }
    element = {
        "plugin": "local",
        "cores": cores,
        "memory_bytes": "16GB",
        "wall_s": "1d",
        "max_pilots": max_pilots,
        "vos": list(vos),
        "options": {"directory": str(service.layout.root / "computing")},
    }
    storage = {"plugin": "file", "root": str(service.storage_root), "vos": list(vos)}
    document = {
        "vos": {
            vo: {
                "groups": {
                    f"{vo}_{name}": {"properties": properties, "members": [user]} for name, properties in groups.items()
                }
            }
            for vo in vos
        },
        "users": {user: {}},
        "sites": {"LOCAL": {"computing_elements": {"local": element}, "storage_elements": {"local": storage}}},
    }
    return msgspec.json.encode(document).decode()


@contextlib.contextmanager
def running_service(say: Callable[[str], None]) -> Iterator[Service]:
    """Start a service, and stop and erase it at the end, also after Ctrl-C."""
    with _orderly_end():
        # The database may run under another account, which has to pass through here.
        work = Path(tempfile.mkdtemp(prefix="spinor-bench-"))
        work.chmod(0o711)
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("SPINOR_", "BEARER_"))}
        environ |= {
            "SPINOR_CONFIG_DIR": str(work / "config"),
            "SPINOR_DATA_DIR": str(work / "data"),
            "BEARER_TOKEN_FILE": str(work / "token"),
        }
        service = Service(work, environ)
        try:
            service.spinor("up", "--data", str(work / "data"))
            say(f"a service is up at {service.url}")
            yield service
        finally:
            embedded.erase(work / "data")
            shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def _orderly_end() -> Iterator[None]:
    """SIGTERM ends as Ctrl-C does: through every `finally`."""

    def stop(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
