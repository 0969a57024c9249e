"""A real HTTPS server inside the test's process, and what the factory's chores need."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
import uvicorn

from spinor import credentials
from spinor.access import Caller
from spinor.app import create_app
from spinor.chores import ChoreContext
from spinor.client import Client
from spinor.db import Database
from spinor.embedded.certificates import ensure_certificates
from spinor.embedded.layout import Layout
from spinor.identity import service as identity
from spinor.identity.tokens import KeyRing
from spinor.jobs import service as jobs
from spinor.jobs.models import Job, JobSpec
from spinor.settings import Settings
from tests.conftest import World

T = TypeVar("T")


@dataclass(frozen=True)
class Site:
    """A running server and its surroundings."""

    world: World
    context: ChoreContext
    keys: KeyRing
    ca_file: Path
    server: "running"

    @property
    def url(self) -> str:
        return self.context.settings.url

    async def client(self, caller: Caller) -> Client:
        async with self.context.db.transaction() as tx:
            token = await identity.access_token_for(tx, self.keys, self.url, caller)
        return Client(self.url, credentials.Server(ca_file=str(self.ca_file)), token)

    async def submit(self, caller: Caller, spec: JobSpec) -> list[int]:
        async with self.context.db.transaction() as tx:
            submitted = await jobs.submit_jobs(tx, caller, jobs.Elements(), [spec])
        return submitted.arrays[0].ids

    async def job(self, caller: Caller, job_id: int) -> Job:
        async with self.context.db.transaction() as tx:
            return await jobs.show_job(tx, caller, job_id)

    async def log(self, job_id: int, stream: str = "stdout") -> str:
        async with self.context.db.pool.connection() as conn:
            rows = await conn.execute(
                "SELECT data FROM jobs.job_log WHERE job_id = %s AND stream = %s::jobs.log_stream"
                " ORDER BY attempt, position",
                (job_id, stream),
            )
            return b"".join([bytes(row[0]) async for row in rows]).decode()

    async def until_job(self, caller: Caller, job_id: int, *states: str, timeout_s: float = 20) -> Job:
        async def there() -> Job | None:
            found = await self.job(caller, job_id)
            return found if found.status in states else None

        return await until(there, timeout_s)


async def until(look: Callable[[], Awaitable[T | None]], timeout_s: float = 20) -> T:
    """What `look` finds, as soon as it finds something."""
    async with asyncio.timeout(timeout_s):
        while True:
            found = await look()
            if found:
                return found
            await asyncio.sleep(0.05)


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    data = tmp_path / "data"
    layout = Layout(data)
    layout.make()
    ensure_certificates(layout)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    return Settings(
        database_url=database_url,
        data_dir=data,
        url=f"https://localhost:{port}",
        listen=f"127.0.0.1:{port}",
        ca_file=layout.ca,
        tls_cert=layout.host_certificate,
        tls_key=layout.host_key,
        keys_dir=tmp_path / "keys",
        blob_dir=tmp_path / "blobs",
        storage_dir=tmp_path / "storage",
        ce_dir=tmp_path / "ce",
    )


@pytest.fixture
async def site(world: World, settings: Settings, db: Database) -> AsyncIterator[Site]:
    keys = KeyRing.create(settings.keys_dir)
    assert settings.ca_file is not None
    context = ChoreContext(db=db, settings=settings, log=logging.getLogger("spinor.chores"))
    server = running(settings)
    async with server:
        yield Site(world=world, context=context, keys=keys, ca_file=settings.ca_file, server=server)


class running:  # noqa: N801 - read as a verb: async with running(settings)
    """The server, for as long as the block runs; it can be started again at the same address."""

    def __init__(self, settings: Settings) -> None:
        host, _, port = settings.listen.rpartition(":")
        self._app = create_app(settings)
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._app,
                host=host,
                port=int(port),
                ssl_certfile=settings.tls_cert,
                ssl_keyfile=settings.tls_key,
                log_config=None,
                timeout_graceful_shutdown=2,
            )
        )

    async def __aenter__(self) -> uvicorn.Server:
        self._server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        self._task = asyncio.create_task(self._server._serve())
        async with asyncio.timeout(20):
            while not self._server.started:  # noqa: ASYNC110 - uvicorn offers nothing to wait for
                await asyncio.sleep(0.01)
        return self._server

    async def stop(self) -> None:
        self._app.state.signals.close()  # Long polls answer now.
        self._server.should_exit = True
        await self._task

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
