"""A connection to a real PostgreSQL with a table that has every kind of field."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import psycopg
import pytest

if TYPE_CHECKING:
    from spinor.embedded.postgres import Cluster

_TABLE = """
    CREATE TYPE pg_temp.mood AS ENUM ('waiting', 'running', 'done', 'failed');
    CREATE TEMP TABLE thing (
        id bigint PRIMARY KEY,
        name text COLLATE "C",
        count integer,
        ratio double precision,
        flag boolean,
        at timestamptz,
        size bigint,
        wall_s double precision,
        status pg_temp.mood NOT NULL,
        guid uuid,
        meta jsonb NOT NULL
    );
"""


@pytest.fixture(scope="session")
def connection(cluster: "Cluster") -> Iterator[psycopg.Connection]:
    """The table is temporary, so the database stays as it was; one connection serves every test and example."""
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as connection:
        connection.execute(_TABLE)
        yield connection
