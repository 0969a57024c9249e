"""The schema `chores` is what the library wants, whatever the environment says."""

from pathlib import Path

import psycopg
import pytest
from pgqueuer.adapters.drivers.psycopg import PsycopgDriver
from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment
from pgqueuer.core.qm import QueueManager

from spinor.chores.queue import NAMES, Q, library

SCHEMA = Path(__file__).parents[2] / "src" / "spinor" / "schema.sql"


def test_the_text_holds_exactly_the_librarys_definition() -> None:
    definition = QueryBuilderEnvironment(NAMES).build_install_query(create_schema=False)
    without_version = definition.partition("\n")[2].strip()
    assert without_version in SCHEMA.read_text(encoding="utf-8")


async def test_the_library_accepts_the_schema(chores_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(chores_url, autocommit=True) as conn:
        queries = library(PsycopgDriver(conn))
        await QueueManager(queries, channel=NAMES.channel).verify_structure()
        plan = await queries.plan_upgrade()
    assert not plan.statements
    assert not plan.notes


def test_every_statement_can_be_prepared(chores_url: str) -> None:
    with psycopg.connect(chores_url) as conn:
        for name, statement in Q:
            types = {"ids": [1], "id": 1, "names": ["a"], "every_s": [1.0], "name": "a", "limit": 1}
            types |= {"silence_s": 1e9, "error": "a"}
            conn.execute(statement.encode(), types, prepare=True)
            assert name
        conn.rollback()


def test_the_environment_cannot_rename_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    from pgqueuer.domain.settings import DBSettings

    for name in ("PGQUEUER_CHANNEL", "CHANNEL", "QUEUE_TABLE", "PGQUEUER_PREFIX", "PGQUEUER_SCHEMA", "DURABILITY"):
        monkeypatch.setenv(name, "volatile")
    explicit = NAMES.model_dump(include=set(DBSettings.model_fields))
    assert DBSettings(**explicit) == NAMES
