"""A database that holds the chores schema alone, and a table in which chores note that they ran."""

import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from spinor.db import Database
from spinor.embedded.postgres import Cluster

from .workbench import Bench, Open, make_settings

SCHEMA = Path(__file__).parents[2] / "src" / "spinor" / "chores.sql"


@pytest.fixture
def chores_url(cluster: Cluster) -> Iterator[str]:
    name = f"chores_{secrets.token_hex(6)}"
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        with psycopg.connect(cluster.url(name)) as conn:
            conn.execute(SCHEMA.read_bytes())
            conn.execute("CREATE TABLE ran (what text, at timestamptz DEFAULT clock_timestamp())")
        yield cluster.url(name)
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def open_bench(chores_url: str, tmp_path: Path) -> Open:
    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Bench]:
        async with Database.open(chores_url, size=8) as db:
            yield Bench(db, make_settings(chores_url, tmp_path))

    return opened
