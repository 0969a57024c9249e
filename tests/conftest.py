"""What every test may ask for: a real PostgreSQL, a fresh database, two VOs that must not see each other, the app."""

import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from spinor.access import Caller
from spinor.app import CONSTRAINT_ERRORS
from spinor.configuration import service as configuration
from spinor.db import Database
from spinor.embedded.layout import Layout
from spinor.embedded.postgres import Cluster
from spinor.identity import service as identity
from spinor.migrations import migrate

# Who starts us in the background may have made us deaf to Ctrl-C, and the commands that we start would be deaf too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["tests.peers", "tests.secrets", "tests.servers.fixtures"]

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server of this test session."""
    base = Path(tempfile.mkdtemp(prefix="spinor-tests-"))
    base.chmod(0o711)  # The database may run under another account, which must be able to pass.
    layout = Layout(base / "data")
    layout.make()
    server = Cluster(layout)
    server.start()
    with psycopg.connect(server.url("postgres"), autocommit=True) as conn:
        # Tests look at what is committed, never at what survives a power cut; and each of them makes a database and
        # drops it again, which takes the longer the more memory there is to look through.
        conn.execute("ALTER SYSTEM SET fsync = off")
        conn.execute("ALTER SYSTEM SET shared_buffers = '64MB'")
    server.stop()
    server.start()
    try:
        yield server
    finally:
        server.stop()
        for place in {base, server.home}:
            shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="session")
def template(cluster: Cluster) -> str:
    """The name of a migrated database, to be copied."""
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as conn:
        conn.execute("CREATE DATABASE spinor_template")
    migrate(cluster.url("spinor_template"))
    return "spinor_template"


@pytest.fixture
def database_url(cluster: Cluster, template: str) -> Iterator[str]:
    """A fresh, migrated database."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as conn:
        conn.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
        yield cluster.url(name)
        conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    """The pool of a fresh database."""
    async with Database.open(database_url, size=20, errors=CONSTRAINT_ERRORS) as database:
        yield database


@dataclass(frozen=True)
class World:
    """Two VOs, their people and their storages."""

    db: Database
    ada: Caller
    ada_admin: Caller
    alan: Caller
    bea: Caller
    storage_root: Path  # Of local-se; second-se and bio-se lie beside it.


WORLD = """
vos:
  astro:
    groups:
      astro_users: {{properties: [normal_user], members: [ada, alan]}}
      astro_admins:
        properties: [job_administrator, file_catalog_management, pilot_administrator, configuration_administrator]
        members: [ada]
  bio:
    groups:
      bio_users: {{properties: [normal_user], members: [bea]}}
users:
  ada: {{full_name: Ada Lovelace}}
  alan: {{full_name: Alan Turing}}
  bea: {{full_name: Beatrice Tinsley}}
sites:
  LOCAL:
    computing_elements:
      local-ce:
        plugin: local
        cores: 2
        memory_bytes: 4GB
        wall_s: 1h
        max_pilots: 4
        vos: [astro, bio]
        options: {{directory: {root}/computing}}
    storage_elements:
      local-se: {{plugin: file, root: {root}/local-se, vos: [astro]}}
      second-se: {{plugin: file, root: {root}/second-se, vos: [astro]}}
      bio-se: {{plugin: file, root: {root}/bio-se, vos: [bio]}}
"""


@pytest.fixture
async def world(db: Database, tmp_path: Path) -> World:
    """The two VOs, applied to a fresh database."""
    root = tmp_path / "world"
    for name in ("local-se", "second-se", "bio-se", "computing"):
        (root / name).mkdir(parents=True)
    async with db.transaction() as tx:
        await configuration.apply(tx, WORLD.format(root=root), author="tests")
        return World(
            db=db,
            ada=await identity.caller_for(tx, "ada", "astro", "astro_users"),
            ada_admin=await identity.caller_for(tx, "ada", "astro", "astro_admins"),
            alan=await identity.caller_for(tx, "alan", "astro", "astro_users"),
            bea=await identity.caller_for(tx, "bea", "bio", "bio_users"),
            storage_root=root / "local-se",
        )
