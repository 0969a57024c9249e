"""Bring a database to this version's tables: the numbered files of `migrations/`, each in its own transaction."""

import hashlib
import importlib.resources
from typing import LiteralString

import msgspec
import psycopg

from spinor.db import DatabaseUnavailable
from spinor.errors import SpinorError

MINIMUM_SERVER_VERSION = 150000
_LOCK = 7_351_970_661  # Any number; all migrating processes of one database take turns on it.

_TABLE: LiteralString = """
CREATE TABLE IF NOT EXISTS public.spinor_migration (
    number      integer PRIMARY KEY,
    name        text NOT NULL,
    sha256      text NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now()
)"""


class DatabaseTooOld(SpinorError):
    """PostgreSQL 15 or newer is needed."""

    code = "database-too-old"


class MigrationChanged(SpinorError):
    """A migration that this database already has differs from the file; install the version that made the database."""

    code = "migration-changed"


class Migration(msgspec.Struct, frozen=True):
    number: int
    name: str
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def all_migrations() -> list[Migration]:
    """The files `NNNN_name.sql`, in order."""
    folder = importlib.resources.files("spinor.migrations")
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return [Migration(int(f.name[:4]), f.name[5:-4], f.read_text(encoding="utf-8")) for f in files]


def migrate(url: str) -> list[str]:
    """Apply what is missing; the names of what was applied. Safe to run from several processes at once."""
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=10) as conn:
            if conn.info.server_version < MINIMUM_SERVER_VERSION:
                raise DatabaseTooOld(
                    f"The database is version {conn.info.server_version // 10000}; 15 is the oldest that works."
                )
            conn.execute("SELECT pg_advisory_lock(%s::bigint)", (_LOCK,))
            conn.execute(_TABLE)
            return [m.name for m in all_migrations() if _apply(conn, m)]
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(f"The database does not answer: {str(error).strip()}") from error


def pending(url: str) -> list[str]:
    """The names of the migrations that this database lacks."""
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as conn:
        known = conn.execute("SELECT to_regclass('public.spinor_migration') IS NOT NULL").fetchone()
        done: set[int] = set()
        if known and known[0]:
            done = {row[0] for row in conn.execute("SELECT number FROM public.spinor_migration")}
        return [m.name for m in all_migrations() if m.number not in done]


def _apply(conn: psycopg.Connection, migration: Migration) -> bool:
    row = conn.execute(
        "SELECT sha256 FROM public.spinor_migration WHERE number = %s::integer", (migration.number,)
    ).fetchone()
    if row:
        if row[0] != migration.sha256:
            raise MigrationChanged(migration=migration.name)
        return False
    with conn.transaction():
        conn.execute("SET LOCAL lock_timeout = '4s'")
        conn.execute(migration.text)
        conn.execute(
            "INSERT INTO public.spinor_migration (number, name, sha256) VALUES (%s, %s, %s)",
            (migration.number, migration.name, migration.sha256),
        )
    return True
