"""What is sealed in the database, and how it is sealed again with the newest key.

Each room that keeps sealed values has a line in SEALED; a row's `about` is made of columns that identify the row.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from psycopg import sql

from spinor.db import Tx, execute, fetch_rows, fetch_value
from spinor.identity.delegation import rules as delegation
from spinor.identity.federation.service.people import sealed_about as sealed_refresh_token
from spinor.identity.sealing import Seal

_BATCH = 500


class SealedColumn(NamedTuple):
    """A column of sealed values. `about` gets the row's values of `keys`, and gives what the value is about."""

    table: tuple[str, str]  # Schema and name.
    column: str
    keys: tuple[str, ...]
    about: Callable[..., str]

    def names(self) -> dict[str, sql.Composable]:
        return {
            "table": sql.Identifier(*self.table),
            "column": sql.Identifier(self.column),
            "keys": sql.SQL(", ").join(map(sql.Identifier, self.keys)),
        }


SEALED: Sequence[SealedColumn] = (
    SealedColumn(("identity", "provider_account"), "refresh_sealed", ("issuer", "subject"), sealed_refresh_token),
    SealedColumn(("identity", "proxy"), "sealed_key", ("key_id", "user_id"), delegation.sealed_about),
    SealedColumn(("identity", "proxy_request"), "sealed_key", ("key_id", "user_id"), delegation.sealed_about),
)


async def reseal(tx: Tx, seal: Seal, what: SealedColumn) -> int:
    """Seal up to 500 values again that an older key has sealed; how many. A value that changes meanwhile is left."""
    # every VO: a key seals for all of them.
    older = sql.SQL(
        "SELECT {column}, {keys} FROM {table} WHERE substring({column} FOR 9) <> %(head)s::bytea"
        " LIMIT %(most)s::integer FOR UPDATE SKIP LOCKED"
    ).format(**what.names())
    rows = await fetch_rows(tx, older, {"head": seal.head, "most": _BATCH})
    change = sql.SQL("UPDATE {table} SET {column} = %(new)s::bytea WHERE {column} = %(old)s::bytea").format(
        **what.names()
    )
    for sealed, *values in rows:
        about = what.about(*values)
        await execute(tx, change, {"old": sealed, "new": seal.close(seal.open(sealed, about), about)})
    return len(rows)


async def reseal_all(tx: Tx, seal: Seal, columns: Sequence[SealedColumn] = SEALED) -> dict[str, int]:
    """Everything, in one transaction; how many values of each column."""
    done = {}
    for what in columns:
        name, total = ".".join((*what.table, what.column)), 0
        while count := await reseal(tx, seal, what):
            total += count
        done[name] = total
    return done


async def sealed_by(tx: Tx, head: bytes, columns: Sequence[SealedColumn] = SEALED) -> int:
    """How many values were sealed with the key of this head."""
    total = 0
    for what in columns:
        # every VO: a key seals for all of them.
        query = sql.SQL("SELECT count(*) FROM {table} WHERE substring({column} FOR 9) = %(head)s::bytea").format(
            **what.names()
        )
        found: Any = await fetch_value(tx, query, {"head": head})
        total += found
    return total
