"""PostgreSQL, the only truth: the pool, one transaction per request, named queries, and rows as models.

A query lives in its system's `queries.sql` under a line `-- name: …`, takes named parameters (`%(vo_id)s::integer`),
and either filters by the caller's `vo_id` or says `-- every VO: <reason>`; tests hold each of them to that.
"""

import contextlib
import importlib.resources
import os
import re
from collections.abc import AsyncIterator, Hashable, Iterable, Iterator, Mapping
from typing import Any, LiteralString, TypeVar

import msgspec
import psycopg
from psycopg import AsyncConnection, sql
from psycopg.rows import tuple_row
from psycopg.types.json import set_json_dumps, set_json_loads
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from spinor.errors import BadInput, SpinorError, Unavailable

T = TypeVar("T")
Query = LiteralString | sql.Composed | sql.SQL
Parameters = Mapping[str, Any]


class Tx(AsyncConnection[tuple[Any, ...]]):
    """A connection. `memory` is shared by all of a Database, for what can never change once it was read."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.memory: dict[Hashable, Any] = {}


_NAME = re.compile(r"^-- name: *(\w+) *$", re.MULTILINE)

# To weigh a merge join, the planner reads the ends of the indexes, past every entry that was removed and not vacuumed
# yet: while a million files were removed, planning a look-up of one took 13 ms in place of half a millisecond. Spinor
# asks for few rows by index, or for many in the order of one; listings, queries and fsck lost nothing when measured.
_NO_MERGE_JOINS = "-c enable_mergejoin=off"


class DatabaseUnavailable(Unavailable):
    """The database does not answer; try again in a moment, or see `spinor doctor`."""

    code = "database-unavailable"


class StatementTooLong(Unavailable):
    """The database needed too long for this; narrow the question or send fewer things at once."""

    code = "statement-timeout"


class TooManyStreams(Unavailable):
    """As many large answers are under way as this server gives at a time; try again in a moment."""

    code = "too-many-streams"


# Rows come sorted out of an index, one directory after the other: sorting them, or sending workers for them, would mean
# to wait for the last before the first can leave. A long answer is not ended for its length.
_STREAMING: LiteralString = """
    SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;
    SET LOCAL statement_timeout = 0;
    SET LOCAL max_parallel_workers_per_gather = 0;
    SET LOCAL jit = off;
    SET LOCAL enable_bitmapscan = off
"""


class Database:
    """A pool of connections. `errors` says what a violated constraint means to the caller, by constraint name."""

    def __init__(self, pool: AsyncConnectionPool[Tx], url: str, errors: Mapping[str, type[SpinorError]]) -> None:
        self.pool = pool
        self.url = url
        self.errors = errors
        self._lent = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        url: str,
        *,
        size: int = 10,
        errors: Mapping[str, type[SpinorError]] | None = None,
        niceness: int = 0,
        generic_plans: bool = False,
    ) -> AsyncIterator["Database"]:
        """Open `size` connections at most, on demand. Does not wait for the database to answer.

        Sessions of a database on this machine get this niceness: those of background work stand back behind others.
        With `generic_plans`, a statement is planned once for all its values.
        """
        memory: dict[Hashable, Any] = {}
        plans = " -c plan_cache_mode=force_generic_plan" if generic_plans else ""

        async def configure(conn: Tx) -> None:
            set_json_dumps(msgspec.json.encode, conn)
            set_json_loads(msgspec.json.decode, conn)
            conn.memory = memory
            if niceness and (conn.info.host or "").startswith("/"):
                with contextlib.suppress(OSError):  # Not ours to say: another account's process, or another machine's.
                    os.setpriority(os.PRIO_PROCESS, conn.info.backend_pid, niceness)

        pool: AsyncConnectionPool[Tx] = AsyncConnectionPool(
            url,
            connection_class=Tx,
            min_size=1,
            max_size=size,
            open=False,
            timeout=10,
            max_idle=300,
            configure=configure,
            kwargs={
                "autocommit": True,
                "prepare_threshold": 2,
                "application_name": "spinor",
                "options": f"-c statement_timeout=120s -c timezone=UTC {_NO_MERGE_JOINS}{plans}",
            },
        )
        await pool.open(wait=False)
        try:
            yield cls(pool, url, errors or {})
        finally:
            await pool.close(timeout=5)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Tx]:
        """One transaction: committed when the block ends, rolled back when it raises."""
        async with self.statements() as conn, conn.transaction():
            yield conn

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Tx]:
        """A transaction for an answer that is read as long as its reader likes: all its statements see the same, and
        send rows as they find them. At most half of the connections are lent for that. Raises TooManyStreams.
        """
        if self._lent >= max(1, self.pool.max_size // 2):
            raise TooManyStreams
        self._lent += 1
        try:
            async with self.transaction() as tx:
                await tx.execute(_STREAMING, prepare=False)
                yield tx
        finally:
            self._lent -= 1

    @contextlib.asynccontextmanager
    async def statements(self) -> AsyncIterator[Tx]:
        """A connection on which each statement is a transaction of its own.

        For reads, which see no less than under READ COMMITTED, and for a write that is one statement: it saves two of
        three round trips, which is nearly half of a small write's processor time.
        """
        try:
            async with self.pool.connection() as conn:
                yield conn
        except psycopg.Error as error:
            raise self.translated(error) from error

    def translated(self, error: psycopg.Error) -> Exception:
        """The caller's word for a database error, or the error itself when it is a fault of ours."""
        constraint = error.diag.constraint_name
        if isinstance(error, psycopg.IntegrityError) and constraint and constraint in self.errors:
            return self.errors[constraint](constraint=constraint)
        if isinstance(error, psycopg.errors.QueryCanceled):
            return StatementTooLong()
        if isinstance(error, psycopg.errors.DiskFull):
            return DatabaseFull()
        if isinstance(error, psycopg.DataError):
            return BadInput(f"A value cannot be stored: {str(error).splitlines()[0]}.")
        if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
            return DatabaseUnavailable()  # Another server has become the primary, or is about to.
        if isinstance(error, PoolTimeout | psycopg.OperationalError | psycopg.InterfaceError):
            return DatabaseUnavailable()
        return error


class DatabaseFull(Unavailable):
    """The database's disk is full; nothing was changed. Free some space, then try again."""

    status, code = 507, "database-full"


class Queries:
    """The named statements of one `queries.sql`, as attributes: `Q.insert_jobs`."""

    def __init__(self, package: str, name: str = "queries.sql") -> None:
        text = importlib.resources.files(package).joinpath(name).read_text(encoding="utf-8")
        parts = _NAME.split(text)
        self.statements: dict[str, str] = {
            name: body.strip().rstrip(";") for name, body in zip(parts[1::2], parts[2::2], strict=True)
        }
        self._sent = {name: _sent(body) for name, body in self.statements.items()}

    def __getattr__(self, name: str) -> LiteralString:
        try:
            return self._sent[name]
        except KeyError:
            raise AttributeError(f"no query is named {name!r}") from None

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.statements.items())


def _sent(statement: str) -> str:
    """Without lines of comment and indentation: what is short, the driver remembers how to send."""
    lines = (line.strip() for line in statement.splitlines())
    return "\n".join(line for line in lines if not line.startswith("--"))


async def fetch(tx: Tx, model: type[T], query: Query, parameters: Parameters | None = None) -> list[T]:
    """The rows as models, column by name. Extra columns are ignored."""
    async with tx.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(query, parameters)
        names = [column.name for column in cursor.description or ()]
        rows = await cursor.fetchall()
    return msgspec.convert([dict(zip(names, row, strict=True)) for row in rows], list[model])  # type: ignore[valid-type]


async def fetch_one(tx: Tx, model: type[T], query: Query, parameters: Parameters | None = None) -> T | None:
    """The only row as a model, or None."""
    rows = await fetch(tx, model, query, parameters)
    return rows[0] if rows else None


async def fetch_rows(tx: Tx, query: Query, parameters: Parameters | None = None) -> list[tuple[Any, ...]]:
    """The rows as plain tuples, for the few places where models would cost too much."""
    async with tx.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(query, parameters)
        return await cursor.fetchall()


async def fetch_value(tx: Tx, query: Query, parameters: Parameters | None = None) -> Any:
    """The first column of the first row, or None."""
    rows = await fetch_rows(tx, query, parameters)
    return rows[0][0] if rows else None


def array_text(values: Iterable[str | int | bytes | None]) -> str:
    """The values as PostgreSQL writes an array of them; the statement's cast says of what type.

    It costs a third of what the driver needs for a list, which counts where arrays are many, or long.
    """
    return "{" + ",".join([_element(value) for value in values]) + "}"


def _element(value: str | int | bytes | None) -> str:
    if isinstance(value, str):
        if "\\" in value or '"' in value:
            value = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{value}"'
    if isinstance(value, bytes):
        return f'"\\\\x{value.hex()}"'
    return "NULL" if value is None else str(value)


async def execute(tx: Tx, query: Query, parameters: Parameters | None = None) -> int:
    """Run a statement; how many rows it touched."""
    cursor = await tx.execute(query, parameters)
    return cursor.rowcount
