"""A database with a table in which chores note that they ran."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from spinor.db import Database

from .workbench import Bench, Open, make_settings


@pytest.fixture
def chores_url(database_url: str) -> str:
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("CREATE TABLE ran (what text, at timestamptz DEFAULT clock_timestamp())")
    return database_url


@pytest.fixture
def open_bench(chores_url: str, tmp_path: Path) -> Open:
    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Bench]:
        async with Database.open(chores_url, size=8) as db:
            yield Bench(db, make_settings(chores_url, tmp_path))

    return opened
